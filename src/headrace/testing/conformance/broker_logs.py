"""Clauses about publishing and reading: order, positions, what is kept as it was."""

from __future__ import annotations

import asyncio

from headrace.broker import Received, Topic
from headrace.errors import TopicNotFound
from headrace.testing.conformance.broker_steps import (
    INVOICES,
    ORDERS,
    BrokerSteps,
    behind,
    by_partition,
    from_start,
    logs,
    placed,
)
from headrace.testing.conformance.kit import holds, needs, refused, same
from headrace.testing.conformance.samples import bodies, message, numbered, unusual

KEYS = ("a", "b", "c", "d", "e", "f")


class LogClauses(BrokerSteps):
    """A topic is a log per partition that everybody reads in the same order (G5, G6, G8)."""

    async def test_order_in_a_partition(self) -> None:
        """Messages stand in each partition as published, within a batch and over several (G6)."""
        async with self.running() as broker:
            sent = [message(key, f"{key}{number}".encode()) for number in range(6) for key in KEYS]
            same(list(await broker.publish(sent[:10])), [], "what was rejected")
            for each in sent[10:]:
                await broker.publish([each])
            same(logs(await self.everything(broker)), by_partition(sent))

    async def test_the_partition_is_that_of_the_key(self) -> None:
        """A message stands in `partition_of` of its topic's count: by key, without one by id (G6)."""
        async with self.running() as broker:
            sent = [message(key) for key in KEYS] + [message(None) for _ in range(6)]
            for each in sent:
                await broker.publish([each])
            same(logs(await self.everything(broker)), by_partition(sent))

    async def test_a_batch_goes_to_several_topics(self) -> None:
        """One `publish` may hold messages of several topics; each comes to its own (G5)."""
        async with self.running() as broker:
            orders, invoices = numbered(3), numbered(2, topic="invoices")
            await broker.publish([orders[0], invoices[0], orders[1], invoices[1], orders[2]])
            same(logs(await self.everything(broker)), by_partition(orders))
            found = logs(await self.everything(broker, INVOICES), INVOICES)
            same(found, by_partition(invoices, INVOICES))

    async def test_nothing_is_published_for_nothing(self) -> None:
        """An empty batch is no error and stores nothing."""
        async with self.running() as broker:
            same(list(await broker.publish([])), [])
            same(await self.everything(broker), [])

    async def test_reading_goes_on_behind_a_position(self) -> None:
        """Reading from the positions of what was read last gives the next messages, to the end, each once (G8)."""
        async with self.running() as broker:
            sent = [message(key, str(number).encode()) for number in range(7) for key in KEYS]
            await broker.publish(sent)
            received: list[Received] = []
            for _ in range(len(sent)):
                more = await broker.read("orders", behind(received), limit=5)
                received += more
            same(logs(received), by_partition(sent))

    async def test_the_limit_bounds_an_answer(self) -> None:
        """`read` gives at most `limit` messages: of each partition the first behind the position (G11)."""
        async with self.running() as broker:
            await broker.publish([message(key) for key in KEYS for _ in range(5)])
            everything = logs(await self.everything(broker))
            for limit in (1, 7):
                part = await broker.read("orders", from_start(), limit=limit)
                same(len(part), limit, f"the number of messages at limit {limit}")
                for partition, found in logs(part).items():
                    same(found, everything[partition][: len(found)], f"partition {partition}")

    async def test_only_the_partitions_asked_for(self) -> None:
        """`read` gives messages of no other partition than those asked for (G8)."""
        async with self.running() as broker:
            sent = [message(key) for key in KEYS * 3]
            await broker.publish(sent)
            for partition, expected in by_partition(sent).items():
                found = await broker.read("orders", {partition: None}, limit=100)
                same([each.message for each in found], expected, f"partition {partition}")
                same({each.partition for each in found} - {partition}, set[int]())

    async def test_reading_changes_nothing(self) -> None:
        """Reading settles nothing: the same positions give the same answer, positions included (G8)."""
        async with self.running() as broker:
            await broker.publish([message(key) for key in KEYS])
            first = placed(await self.everything(broker))
            same(len(first), len(KEYS), "the messages")
            same(placed(await self.everything(broker)), first)

    async def test_reading_does_not_wait(self) -> None:
        """Where nothing is left to read, `read` says so at once (G10)."""
        async with self.running() as broker:
            same(list(await self.in_time(broker.read("orders", from_start(), limit=5))), [])
            await broker.publish(numbered(2))
            end = behind(await self.everything(broker))
            same(list(await self.in_time(broker.read("orders", end, limit=5))), [])

    async def test_all_readers_see_one_order(self) -> None:
        """Readers that read at their own pace, also while it is written, see the same order (G6)."""
        async with self.running() as broker:
            early = list(await self.everything(broker))
            for number in range(5):
                await broker.publish([message(key, str(number).encode()) for key in KEYS])
                early += await broker.read("orders", behind(early), limit=100)
            late = await self.everything(broker)
            same(logs(early), logs(late), "what an early reader saw")
            holds(len(late) == 5 * len(KEYS), f"{len(late)} messages of {5 * len(KEYS)}")

    async def test_messages_are_kept_byte_for_byte(self) -> None:
        """Bodies, keys, attributes and metadata come out as they went in: empty, large, in any alphabet (G5)."""
        async with self.running() as broker:
            sent = unusual()
            await broker.publish(sent)
            same(logs(await self.everything(broker)), by_partition(sent))

    async def test_concurrent_publishers_lose_nothing(self) -> None:
        """Several publishers at once: every message is there once, in order per key of each publisher (G5, G6)."""
        async with self.running() as broker:

            async def publish(key: str) -> None:
                for number in range(0, 10, 2):
                    pair = [message(key, str(n).encode()) for n in (number, number + 1)]
                    await broker.publish(pair)

            await self.in_time(asyncio.gather(*(publish(key) for key in KEYS)))
            received = await self.everything(broker)
            for key in KEYS:
                mine = bodies(each.message for each in received if each.message.key == key)
                same(mine, [str(n).encode() for n in range(10)], f"the messages of key {key}")

    async def test_a_cancelled_publish_keeps_the_order(self) -> None:
        """After a cancelled `publish` and its repetition, what was first published stands in order (G6)."""
        async with self.running() as broker:
            first, second, third = numbered(3)
            await broker.publish([first])
            publishing = await self.begun(broker.publish([second, third]))
            publishing.cancel()
            await asyncio.wait({publishing}, timeout=self.hang_seconds)
            await broker.publish([second, third])
            received = [each.message for each in await self.everything(broker)]
            once = sorted({each.data: n for n, each in reversed(list(enumerate(received)))}.items())
            same([data for data, _ in once], [b"0", b"1", b"2"], "what was published")
            places = [place for _, place in once]
            same(places, sorted(places), "the places of the first copies")

    @needs("atomic_batch")
    async def test_a_batch_is_stored_as_a_whole(self) -> None:
        """A batch that cannot be stored whole is not stored at all, so no message passes an earlier one (G6)."""
        async with self.running() as broker:
            unknown = message(topic="unknown")
            await refused(TopicNotFound, broker.publish([message(), unknown, message()]))
            same(await self.everything(broker), [])

    @needs("max_body_bytes")
    async def test_a_body_that_is_too_large_is_rejected(self) -> None:
        """A body above the declared limit is named in the answer, and the rest of the batch is stored (G6)."""
        async with self.running() as broker:
            limit = self.max_body_bytes or 0
            fits, large = message("a", b"x" * limit), message("b", b"x" * (limit + 1))
            rejected = await broker.publish([fits, large])
            same([each.index for each in rejected], [1], "the indexes of what was rejected")
            holds(bool(rejected[0].reason.strip()), "the rejection gives no reason")
            same([each.message for each in await self.everything(broker)], [fits])

    async def test_the_backlog_counts_what_is_behind(self) -> None:
        """`backlog` counts the messages behind the positions given, of the partitions given (G13)."""
        async with self.running() as broker:
            same(await broker.backlog("orders", from_start()), 0, "the backlog of an empty topic")
            sent = [message(key) for key in KEYS * 2]
            await broker.publish(sent)
            same(await broker.backlog("orders", from_start()), len(sent))
            for partition, expected in by_partition(sent).items():
                same(await broker.backlog("orders", {partition: None}), len(expected))
            read = await broker.read("orders", from_start(), limit=5)
            same(await broker.backlog("orders", behind(read)), len(sent) - 5)

    async def test_settling_takes_nothing_from_others(self) -> None:
        """What one group has settled another that has not can still read (G8)."""
        async with self.running() as broker:
            sent = [message(key) for key in KEYS]
            await broker.publish(sent)
            everything = await self.everything(broker)
            first = {each.partition: each.position for each in reversed(everything)}
            await broker.settle("slow", "orders", first)
            await broker.settle("fast", "orders", {e.partition: e.position for e in everything})
            await broker.publish([message(key) for key in KEYS])
            rest = await broker.read("orders", dict(first), limit=100)
            same(len(rest), 2 * len(KEYS) - len(first), "the messages left for the slow group")

    async def test_topics_do_not_mix(self) -> None:
        """A topic holds its own messages only, whatever its name (G6)."""
        async with self.running() as broker:
            names = ["Orders", "orders.eu", "bestellungen-ü"]
            await broker.declare([Topic(name, 1) for name in names])
            for name in ["orders", *names]:
                await broker.publish([message(data=name.encode(), topic=name)])
            for name in names:
                found = await broker.read(name, {0: None}, limit=10)
                same(bodies(each.message for each in found), [name.encode()], name)
            same(bodies(e.message for e in await self.everything(broker, ORDERS)), [b"orders"])
