"""Clauses about what stands in a topic: order, positions, partitions, bytes."""

from __future__ import annotations

import asyncio

from headrace.broker import Received, Topic
from headrace.errors import BrokerUnavailable
from headrace.testing.conformance.broker_steps import (
    GROUP,
    INVOICES,
    BrokerSteps,
    behind,
    by_partition,
    from_start,
    logs,
    placed,
    readings,
)
from headrace.testing.conformance.kit import holds, needs, same
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
            same(logs(await self.everything(broker, len(sent))), by_partition(sent))

    async def test_the_partition_is_that_of_the_key(self) -> None:
        """A message stands in `partition_of` of its topic's count: by key, without one by id (G6)."""
        async with self.running() as broker:
            sent = [message(key) for key in KEYS] + [message(None) for _ in range(6)]
            for each in sent:
                await broker.publish([each])
            same(logs(await self.everything(broker, len(sent))), by_partition(sent))

    async def test_a_batch_goes_to_several_topics(self) -> None:
        """One `publish` may hold messages of several topics; each comes to its own (G5)."""
        async with self.running() as broker:
            orders, invoices = numbered(3), numbered(2, topic="invoices")
            await broker.publish([orders[0], invoices[0], orders[1], invoices[1], orders[2]])
            same(logs(await self.everything(broker, 3)), by_partition(orders))
            found = logs(await self.everything(broker, 2, INVOICES), INVOICES)
            same(found, by_partition(invoices, INVOICES))

    async def test_nothing_is_published_for_nothing(self) -> None:
        """An empty batch is no error and stores nothing."""
        async with self.running() as broker:
            same(list(await broker.publish([])), [])
            await self.everything(broker, 0)

    async def test_a_large_batch_is_stored_whole(self) -> None:
        """A batch as large as a relay's is stored with one call, in order (G6)."""
        async with self.running() as broker:
            sent = [message(KEYS[n % 6], str(n).encode()) for n in range(500)]
            same(list(await broker.publish(sent)), [], "what was rejected")
            same(logs(await self.everything(broker, 500)), by_partition(sent))

    async def test_reading_goes_on_behind_a_position(self) -> None:
        """Reading from the positions of what was read last gives the next messages, to the end, each once (G8)."""
        async with self.running() as broker:
            sent = [message(key, str(number).encode()) for number in range(7) for key in KEYS]
            await broker.publish(sent)
            received: list[Received] = []

            async def read_all() -> None:
                while len(received) < len(sent):
                    more = await broker.read(GROUP, "orders", behind(received), limit=5)
                    received.extend(more)
                    await asyncio.sleep(0 if more else 0.005)

            await self.in_time(read_all())
            same(logs(received), by_partition(sent))
            await self.rest(broker, behind(received), 0)

    async def test_the_limit_bounds_an_answer(self) -> None:
        """`read` gives at most `limit` messages: of each partition the first behind the position (G11)."""
        async with self.running() as broker:
            await broker.publish([message(key) for key in KEYS for _ in range(5)])
            everything = logs(await self.everything(broker, 30))
            for limit in (1, 7):
                part = await broker.read(GROUP, "orders", from_start(), limit=limit)
                same(len(part), limit, f"the number of messages at limit {limit}")
                for partition, found in logs(part).items():
                    same(found, everything[partition][: len(found)], f"partition {partition}")

    async def test_only_the_partitions_asked_for(self) -> None:
        """`read` gives messages of no other partition than those asked for (G8)."""
        async with self.running() as broker:
            sent = [message(key) for key in KEYS * 3]
            await broker.publish(sent)
            for partition, expected in by_partition(sent).items():
                found = await self.rest(broker, {partition: None}, len(expected))
                same([each.message for each in found], expected, f"partition {partition}")
                same({each.partition for each in found} - {partition}, set[int]())

    async def test_reading_changes_nothing(self) -> None:
        """Reading settles nothing: the same positions give the same answer, positions included (G8)."""
        async with self.running() as broker:
            await broker.publish([message(key) for key in KEYS])
            first = placed(await self.everything(broker, len(KEYS)))
            same(placed(await self.everything(broker, len(KEYS))), first)

    async def test_reading_does_not_wait(self) -> None:
        """Where nothing is left to read, `read` says so at once (G10)."""
        async with self.running() as broker:
            await self.in_time(self.everything(broker, 0))
            await broker.publish(numbered(2))
            end = behind(await self.everything(broker, 2))
            same(list(await self.in_time(broker.read(GROUP, "orders", end, limit=5))), [])

    async def test_all_readers_see_one_order(self) -> None:
        """Groups that read at their own pace, also while it is written, see the same order (G6)."""
        async with self.running() as broker:
            early: list[Received] = []
            for number in range(5):
                await broker.publish([message(key, str(number).encode()) for key in KEYS])
                early += await self.rest(broker, behind(early), len(KEYS), group="fast")
            late = await self.everything(broker, 5 * len(KEYS), group="slow")
            same(logs(early), logs(late), "what an early reader saw")

    async def test_messages_are_kept_byte_for_byte(self) -> None:
        """Bodies, keys, attributes and metadata come out as they went in: empty, large, in any alphabet (G5)."""
        async with self.running() as broker:
            sent = unusual()
            await broker.publish(sent)
            same(logs(await self.everything(broker, len(sent))), by_partition(sent))

    async def test_concurrent_publishers_lose_nothing(self) -> None:
        """Several publishers at once: every message is there once, in order per key of each publisher (G5, G6)."""
        async with self.running() as broker:

            async def publish(key: str) -> None:
                for number in range(0, 10, 2):
                    pair = [message(key, str(n).encode()) for n in (number, number + 1)]
                    await broker.publish(pair)

            await self.in_time(asyncio.gather(*(publish(key) for key in KEYS)))
            received = await self.everything(broker, 10 * len(KEYS))
            for key in KEYS:
                mine = bodies(each.message for each in received if each.message.key == key)
                same(mine, [str(n).encode() for n in range(10)], f"the messages of key {key}")

    async def test_a_cancelled_publish_keeps_the_order(self) -> None:
        """After a cancelled `publish` and its repetition, what was first published stands in order (G6)."""
        async with self.running() as broker:
            first, second, third = numbered(3)
            await broker.publish([first])
            publishing = await self.begun(broker.publish([second]))
            publishing.cancel()
            await asyncio.wait({publishing}, timeout=self.hang_seconds)
            await broker.publish([second])
            await broker.publish([third])
            received: list[bytes] = []

            async def read_all() -> None:
                while b"2" not in received:
                    found = await broker.read(GROUP, "orders", from_start(), limit=100)
                    received[:] = bodies(each.message for each in found)
                    await asyncio.sleep(0.005)

            await self.in_time(read_all())
            same(list(dict.fromkeys(received)), [b"0", b"1", b"2"], "the order of the first copies")

    @needs("ordered_batch")
    async def test_a_cut_batch_has_no_gaps(self) -> None:
        """Of a batch that was cut each partition holds the first so many messages, and no others (G6)."""
        async with self.running() as broker:
            batches = [
                [message(key, f"{n}-{key}-{i}".encode()) for i in range(20) for key in KEYS]
                for n in range(4)
            ]
            for turns, batch in enumerate(batches):
                publishing = await self.begun(broker.publish(batch))
                for _ in range(turns):
                    await asyncio.sleep(0)
                publishing.cancel()
                await asyncio.wait({publishing}, timeout=self.hang_seconds)
            last = message("a", b"the last")
            await broker.publish([last])

            async def read_all() -> list[Received]:
                while True:
                    found = await broker.read(GROUP, "orders", from_start(), limit=100_000)
                    if any(each.message == last for each in found):
                        return list(found)
                    await asyncio.sleep(0.005)

            stored = logs(await self.in_time(read_all()))
            for batch in batches:
                for partition, expected in by_partition(batch).items():
                    found = [each for each in stored[partition] if each in batch]
                    same(found, expected[: len(found)], f"what partition {partition} holds")

    @needs("max_body_bytes")
    async def test_a_body_that_is_too_large_is_rejected(self) -> None:
        """A body above the declared limit is refused, in an ordered batch later ones of its key too; the rest is stored (G6)."""
        async with self.running() as broker:
            limit = self.max_body_bytes or 0
            fits, large = message("a", b"x" * limit), message("b", b"x" * (limit + 1))
            rejected = await broker.publish([fits, large])
            same([each.index for each in rejected], [1], "the indexes of what was rejected")
            holds(rejected[0].final, "the rejection is not final: it would be tried for ever")
            holds(bool(rejected[0].reason.strip()), "the rejection gives no reason")
            same([each.message for each in await self.everything(broker, 1)], [fits])
            if not self.ordered_batch:
                return
            rejected = await broker.publish([large, message("b"), message("c")])
            same([each.index for each in rejected], [0, 1], "the large one and the next of its key")
            same([each.final for each in rejected], [True, False], "what is final")

    async def test_the_backlog_counts_what_is_behind(self) -> None:
        """`backlog` counts the messages behind the positions given, of the partitions given (G13)."""
        async with self.running() as broker:
            same(
                await broker.backlog(GROUP, "orders", from_start()), 0, "the empty topic's backlog"
            )
            sent = [message(key) for key in KEYS * 2]
            await broker.publish(sent)
            received = await self.everything(broker, len(sent))
            same(await broker.backlog(GROUP, "orders", from_start()), len(sent))
            for partition, expected in by_partition(sent).items():
                same(await broker.backlog(GROUP, "orders", {partition: None}), len(expected))
            some = behind(received[:5])
            left = sum(len([e for e in received[5:] if e.partition == p]) for p in range(len(some)))
            same(await broker.backlog(GROUP, "orders", some), left)

    async def test_topics_do_not_mix(self) -> None:
        """A topic holds its own messages only, whatever its name (G6)."""
        async with self.running() as broker:
            names = ["Orders", "orders.eu", "bestellungen-ü"]
            await broker.declare([Topic(name, 1) for name in names], readings(*names))
            for name in ["orders", *names]:
                await broker.publish([message(data=name.encode(), topic=name)])
            for name in names:
                found = await self.everything(broker, 1, Topic(name, 1))
                same(bodies(each.message for each in found), [name.encode()], name)
            same(bodies(e.message for e in await self.everything(broker, 1)), [b"orders"])

    async def test_stopping_ends_what_is_under_way(self) -> None:
        """`stop` while others publish: each call ends, done or with `BrokerUnavailable`, and none hangs (G10)."""
        async with self.running() as broker:

            async def publish(key: str) -> None:
                with_error = False
                while not with_error:
                    try:
                        await broker.publish([message(key)])
                    except BrokerUnavailable:
                        with_error = True
                    await asyncio.sleep(0)

            busy = [await self.begun(publish(key)) for key in KEYS]
            await asyncio.sleep(self.patience_seconds)
            await self.in_time(broker.stop())
            await self.in_time(asyncio.gather(*busy))
