"""Clauses about a broker's own life: topics, start and stop, wake-ups, what survives."""

from __future__ import annotations

import asyncio

from headrace.broker import BrokerGuarantees, Topic
from headrace.errors import BrokerUnavailable, TopicMismatch, TopicNotFound
from headrace.testing.conformance.broker_steps import (
    ORDERS,
    PARTITIONS,
    BrokerSteps,
    by_partition,
    from_start,
    logs,
    placed,
)
from headrace.testing.conformance.kit import holds, needs, refused, same
from headrace.testing.conformance.samples import message, numbered


class BrokerLifeClauses(BrokerSteps):
    """A broker says what it promises, and tells what is wrong (G5, G10, G13)."""

    async def test_the_declaration_is_true(self) -> None:
        """The broker says of itself what its kit declares (G5)."""
        async with self.running() as broker:
            declared = BrokerGuarantees(
                durable=self.durable,
                atomic_batch=self.atomic_batch,
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
            same(logs(await self.everything(broker)), by_partition(sent))

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
            await refused(TopicNotFound, broker.read("unknown", {0: None}, limit=1))

    async def test_a_stopped_broker_is_unavailable(self) -> None:
        """After `stop`, and before the next start, calls raise `BrokerUnavailable` (G10)."""
        async with self.running() as broker:
            await broker.publish([message()])
        await refused(BrokerUnavailable, broker.publish([message()]))
        await refused(BrokerUnavailable, broker.read("orders", from_start(), limit=1))
        await refused(BrokerUnavailable, broker.partitions("orders"))
        await refused(BrokerUnavailable, broker.declare([ORDERS]))
        await refused(BrokerUnavailable, broker.backlog("orders", from_start()))

    async def test_a_stopped_broker_starts_again(self) -> None:
        """After `stop` the same object can be started and used again."""
        storage = await self.storage()
        broker = await self.make()
        for _ in range(2):
            await broker.start(storage)
            await broker.declare([ORDERS])
            await broker.publish([message()])
            holds(bool(await self.everything(broker)), "nothing was stored")
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
        await broker.declare([ORDERS])
        await broker.publish([message(key) for key in "abcdef"])
        before = await self.everything(broker)
        broker = await self.reopen(broker)
        await broker.start(storage)
        try:
            same(await broker.partitions("orders"), PARTITIONS, "the partitions of orders")
            same(
                placed(await self.everything(broker)), placed(before), "the messages and positions"
            )
            await broker.publish([message(key) for key in "abcdef"])
            after = await self.everything(broker)
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
            await broker.declare([ORDERS])
            await other.declare([ORDERS])
            sent = numbered(2)
            await broker.publish(sent[:1])
            await broker.stop()
            await other.publish(sent[1:])
            same(logs(await self.everything(other)), by_partition(sent))
        finally:
            await other.stop()
            if storage is not None:
                await storage.stop()

    async def test_a_listener_is_woken(self) -> None:
        """`listen` calls back after each of several publications to its topic by this process (G6)."""
        async with self.running() as broker:
            woken = asyncio.Event()
            end = broker.listen("orders", woken.set)
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
            end = broker.listen("orders", woken.set)
            try:
                publishing = await self.begun(broker.publish([message()]))
                await self.in_time(woken.wait())
                holds(
                    bool(await self.everything(broker)), "woken before there was anything to read"
                )
                await self.in_time(publishing)
            finally:
                end()

    async def test_a_listener_can_be_ended(self) -> None:
        """After the function that `listen` returned was called, `wake` is not called any more; others are (G10)."""
        async with self.running() as broker:
            calls: list[str] = []
            woken = asyncio.Event()
            end = broker.listen("orders", lambda: calls.append("ended"))
            end_other = broker.listen("orders", woken.set)
            end()
            end()
            await broker.publish([message()])
            await self.in_time(woken.wait())
            end_other()
            same(calls, [], "the calls after the end")
