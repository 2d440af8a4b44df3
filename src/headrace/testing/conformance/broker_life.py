"""Clauses about a broker's own life: topics, start and stop, wake-ups, what survives."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from headrace.broker import PARTITIONS as DEFAULT_PARTITIONS
from headrace.broker import Broker, BrokerGuarantees, Reading, Received, Topic
from headrace.envelope import Message
from headrace.errors import BrokerUnavailable, TopicMismatch, TopicNotFound
from headrace.testing.conformance.broker_logs import KEYS
from headrace.testing.conformance.broker_steps import (
    GROUP,
    ORDERS,
    PARTITIONS,
    BrokerSteps,
    behind,
    by_partition,
    finished,
    from_start,
    logs,
    placed,
    readings,
)
from headrace.testing.conformance.kit import holds, needs, refused, same
from headrace.testing.conformance.samples import bodies, message, numbered


class BrokerLifeClauses(BrokerSteps):
    """A broker says what it promises, and tells what is wrong (G5, G10, G13)."""

    async def test_the_declaration_is_true(self) -> None:
        """The broker says of itself what its kit declares (G5)."""
        async with self.running() as broker:
            declared = BrokerGuarantees(
                durable=self.durable,
                ordered_batch=self.ordered_batch,
                retains=self.retains,
                max_body_bytes=self.max_body_bytes,
                in_storage=self.in_storage,
            )
            same(broker.guarantees, declared, "broker.guarantees")

    async def test_a_topic_is_declared_once(self) -> None:
        """Declaring a topic again changes nothing: what it holds stays (G5)."""
        async with self.running() as broker:
            sent = numbered(3)
            await broker.publish(sent)
            await broker.declare([ORDERS, Topic("new", 5)])
            await broker.declare([])
            same(await broker.partitions("orders"), PARTITIONS, "the partitions of orders")
            same(await broker.partitions("new"), 5, "the partitions of new")
            same(logs(await self.everything(broker, 3)), by_partition(sent))

    async def test_a_topic_without_a_number_is_taken_as_it_is(self) -> None:
        """A topic declared without a number of partitions keeps its own, and gets the usual one if it is new (G6)."""
        async with self.running() as broker:
            await broker.declare([Topic("orders"), Topic("usual")])
            same(await broker.partitions("orders"), PARTITIONS, "the partitions of orders")
            same(await broker.partitions("usual"), DEFAULT_PARTITIONS, "the partitions of usual")

    async def test_another_partition_count_is_refused(self) -> None:
        """A topic is not declared with another number of partitions than it has (G6)."""
        async with self.running() as broker:
            for count in (PARTITIONS - 1, PARTITIONS + 1):
                await refused(TopicMismatch, broker.declare([Topic("orders", count)]))
            same(await broker.partitions("orders"), PARTITIONS, "the partitions of orders")

    async def test_an_unknown_topic_is_an_error(self) -> None:
        """Whoever uses a topic that was never declared gets `TopicNotFound` (G13)."""
        async with self.running() as broker:
            await refused(TopicNotFound, broker.partitions("unknown"))
            await refused(TopicNotFound, broker.publish([message(topic="unknown")]))
            await refused(TopicNotFound, broker.declare([], [Reading(GROUP, "unknown")]))
            await refused(TopicNotFound, broker.read(GROUP, "unknown", {0: None}, limit=1))

    async def test_a_stopped_broker_is_unavailable(self) -> None:
        """After `stop`, and before the next start, calls raise `BrokerUnavailable` (G10)."""
        async with self.running() as broker:
            await broker.publish([message()])
        await refused(BrokerUnavailable, broker.publish([message()]))
        await refused(BrokerUnavailable, broker.read(GROUP, "orders", from_start(), limit=1))
        await refused(BrokerUnavailable, broker.partitions("orders"))
        await refused(BrokerUnavailable, broker.declare([ORDERS]))
        await refused(BrokerUnavailable, broker.backlog(GROUP, "orders", from_start()))

    async def test_a_stopped_broker_starts_again(self) -> None:
        """After `stop` the same object can be started and used again."""
        storage = await self.storage()
        broker = await self.make()
        for count in (1, 2):
            await broker.start(storage)
            await broker.declare([ORDERS], readings("orders"))
            await broker.publish([message()])
            await self.everything(broker, count)
            await broker.stop()
        if storage is not None:
            await storage.stop()

    async def test_warnings_are_sentences(self) -> None:
        """`start` returns warnings for people as whole sentences (G5)."""
        storage = await self.storage()
        broker = await self.make()
        warnings = await broker.start(storage)
        await broker.stop()
        if storage is not None:
            await storage.stop()
        for warning in warnings:
            holds(" " in warning and warning.strip().endswith("."), f"{warning!r} is no sentence")

    @needs("durable")
    async def test_a_restart_keeps_everything(self) -> None:
        """Topics, messages and their positions are there after a restart (G5)."""
        storage = await self.storage()
        broker = await self.make()
        await broker.start(storage)
        await broker.declare([ORDERS], readings("orders"))
        await broker.publish([message(key) for key in "abcdef"])
        before = await self.everything(broker, 6)
        broker = await self.reopen(broker)
        await broker.start(storage)
        try:
            same(await broker.partitions("orders"), PARTITIONS, "the partitions of orders")
            again = await self.everything(broker, 6)
            same(logs(again), logs(before), "the messages")
            if self.retains:
                same(placed(again), placed(before), "the positions")
            await broker.publish([message(key) for key in "abcdef"])
            after = await self.everything(broker, 12)
            for partition, found in logs(before).items():
                same(logs(after)[partition][: len(found)], found, "what stands first")
        finally:
            await broker.stop()
            if storage is not None:
                await storage.stop()

    @needs("shareable")
    async def test_apps_share_the_topics(self) -> None:
        """What one app publishes another one reads, and one that stops does not stop the other (G5)."""
        storage = await self.storage()
        broker = await self.make()
        await broker.start(storage)
        other = await self.second(broker)
        await other.start(storage)
        try:
            await broker.declare([ORDERS], readings("orders"))
            await other.declare([ORDERS], readings("orders"))
            sent = numbered(2)
            await broker.publish(sent[:1])
            await broker.stop()
            await other.publish(sent[1:])
            same(logs(await self.everything(other, 2)), by_partition(sent))
        finally:
            await other.stop()
            if storage is not None:
                await storage.stop()

    @needs("serves_several")
    async def test_one_object_serves_several_apps(self) -> None:
        """An object that two apps have started works until both have stopped it (G10)."""
        async with self.running() as broker:
            await broker.start(None)
            await broker.publish([message(data=b"1")])
            await broker.stop()
            await broker.publish([message(data=b"2")])
            found = await self.everything(broker, 2)
            same(bodies(each.message for each in found), [b"1", b"2"])

    async def test_settling_takes_nothing_from_others(self) -> None:
        """What one group has settled another that has not can still read (G8)."""
        async with self.running() as broker:
            await broker.publish([message(key) for key in KEYS])
            slow = await self.everything(broker, len(KEYS), group="slow")
            fast = await self.everything(broker, len(KEYS), group="fast")
            first = {each.partition: each.position for each in reversed(slow)}
            await broker.settle("slow", "orders", first)
            await broker.settle("fast", "orders", finished(fast))
            await broker.publish([message(key) for key in KEYS])
            await self.rest(broker, dict(first), 2 * len(KEYS) - len(first), group="slow")
            await self.rest(broker, behind(fast), len(KEYS), group="fast")

    async def test_what_was_not_settled_goes_to_the_next(self) -> None:
        """What a reader released without settling it, the next one reads, in order (G8)."""
        async with self.running() as broker:
            sent = [message(key, str(n).encode()) for n in range(3) for key in KEYS]
            await broker.publish(sent)
            first = await self.everything(broker, len(sent))
            await broker.release(GROUP, "orders", range(PARTITIONS))
            await broker.release(GROUP, "orders", range(PARTITIONS))
            same(logs(await self.everything(broker, len(sent))), logs(first), "what is read next")

    @needs("remembers")
    async def test_a_group_goes_on_where_it_settled(self) -> None:
        """A reader that knows no position goes on behind what its group settled before the release (G8)."""
        async with self.running() as broker:
            sent = [message(key, str(n).encode()) for n in range(3) for key in KEYS]
            await broker.publish(sent)
            received = await self.everything(broker, len(sent))
            done, rest = received[: len(KEYS)], received[len(KEYS) :]
            positions = finished(done)
            await broker.settle(GROUP, "orders", positions)
            await broker.release(GROUP, "orders", range(PARTITIONS))
            left = [each for each in rest if each not in done]
            found = logs(await self.everything(broker, len(left)))
            same(found, logs(left), "what is left")

    @needs("retains")
    async def test_a_new_group_starts_at_the_beginning(self) -> None:
        """A group that comes later reads all that is retained, also what others have settled (G8)."""
        async with self.running() as broker:
            sent = [message(key) for key in KEYS]
            await broker.publish(sent)
            await broker.settle(GROUP, "orders", finished(await self.everything(broker, len(sent))))
            await broker.declare([], [Reading("late", "orders")])
            found = await self.everything(broker, len(sent), group="late")
            same(logs(found), by_partition(sent))

    @needs("interruptible")
    async def test_a_lost_connection_is_made_again(self) -> None:
        """After its connections were cut the broker publishes and reads again by itself, in order (G5, G9)."""
        async with self.running() as broker:
            sent = [message(key, str(n).encode()) for n in range(3) for key in KEYS]
            await broker.publish(sent[:6])
            await self.everything(broker, 6)
            await self.interrupt(broker)
            await self.in_time(self._until_published(broker, sent[6:]))

            async def read_all() -> list[Received]:
                while True:
                    try:
                        found = await broker.read(GROUP, "orders", from_start(), limit=100_000)
                    except BrokerUnavailable:
                        found = ()
                    if len({each.message.envelope.id for each in found}) == len(sent):
                        return list(found)
                    await asyncio.sleep(0.01)

            first = {
                each.message.envelope.id: each for each in reversed(await self.in_time(read_all()))
            }
            same(logs(list(reversed(first.values()))), by_partition(sent), "the first copies")

    async def _until_published(self, broker: Broker, messages: Sequence[Message]) -> None:
        for each in messages:
            while True:
                try:
                    if not await broker.publish([each]):
                        break
                except BrokerUnavailable:
                    await asyncio.sleep(0.01)

    async def test_a_listener_is_woken(self) -> None:
        """`listen` calls back after each of several publications to its topic by this process (G6)."""
        async with self.running() as broker:
            woken = asyncio.Event()
            await self.everything(broker, 0)
            end = broker.listen(GROUP, "orders", woken.set)
            try:
                for _ in range(2):
                    await broker.publish([message()])
                    await self.in_time(woken.wait())
                    woken.clear()
            finally:
                end()

    async def test_a_listener_finds_what_woke_it(self) -> None:
        """When `wake` is called the message can be read, so that no wake-up comes too early (G6)."""
        async with self.running() as broker:
            woken = asyncio.Event()
            await self.everything(broker, 0)
            end = broker.listen(GROUP, "orders", woken.set)
            try:
                publishing = await self.begun(broker.publish([message()]))
                await self.in_time(woken.wait())
                found = await broker.read(GROUP, "orders", from_start(), limit=5)
                holds(bool(found), "woken before there was anything to read")
                await self.in_time(publishing)
            finally:
                end()

    async def test_a_listener_can_be_ended(self) -> None:
        """After the function that `listen` returned was called, `wake` is not called any more; others are (G10)."""
        async with self.running() as broker:
            calls: list[str] = []
            woken = asyncio.Event()
            await self.everything(broker, 0)
            end = broker.listen(GROUP, "orders", lambda: calls.append("ended"))
            end_other = broker.listen(GROUP, "orders", woken.set)
            end()
            end()
            await broker.publish([message()])
            await self.in_time(woken.wait())
            end_other()
            same(calls, [], "the calls after the end")
