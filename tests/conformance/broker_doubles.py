"""Broken brokers. Each breaks one promise of `MemoryBroker`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from headrace.broker import BrokerGuarantees, Received, Rejected, Topic
from headrace.drivers.memory import MemoryBroker
from headrace.envelope import Message
from headrace.errors import BrokerUnavailable, TopicMismatch, TopicNotFound
from headrace.storage import Storage
from headrace.testing.conformance import BrokerKit
from tests.conformance.doubles import Doubles

DOUBLES = Doubles()
fails = DOUBLES.fails
MOST_BYTES = 1_100_000


class Faithful(MemoryBroker):
    """Breaks nothing: durable within a test, and with a limit for bodies."""

    found_by: ClassVar[type[Exception]] = AssertionError
    """What a clause raises: an error of its own checks, so that no mistake of a double passes for its being found."""

    @property
    def guarantees(self) -> BrokerGuarantees:
        return BrokerGuarantees(durable=True, atomic_batch=True, max_body_bytes=MOST_BYTES)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        large = [n for n, each in enumerate(messages) if len(each.data) > MOST_BYTES]
        await super().publish([each for n, each in enumerate(messages) if n not in large])
        return [Rejected(n, f"above {MOST_BYTES} bytes") for n in large]


class DoubleKit(BrokerKit):
    """Runs the clauses against one double, with little patience."""

    max_body_bytes = MOST_BYTES
    hang_seconds = 0.2
    patience_seconds = 0.01

    def __init__(self, double: type[Faithful]) -> None:
        self.double = double

    async def make(self) -> Faithful:
        return self.double()


# Logs


@fails(
    "order_in_a_partition",
    "a_batch_goes_to_several_topics",
    "concurrent_publishers_lose_nothing",
)
class ReversesBatches(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        return await super().publish(messages[::-1])


@fails("the_partition_is_that_of_the_key")
class KeysDoNotCount(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        for each in messages:
            topic = self._topics[each.topic]
            topic._logs[0].messages[topic._logs[0].end] = each
            topic.size += 1
        return ()


@fails("a_batch_goes_to_several_topics")
class OneTopicABatch(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        return await super().publish([replace(each, topic=messages[0].topic) for each in messages])


@fails("nothing_is_published_for_nothing")
class NeedsAMessage(Faithful):
    found_by = IndexError

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        messages[0]
        return await super().publish(messages)


@fails("reading_goes_on_behind_a_position", "reading_does_not_wait")
class ReadsFromThePosition(Faithful):
    async def read(
        self, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        from_there = {p: str(int(at) - 1) if at else None for p, at in after.items()}
        return await super().read(topic, from_there, limit=limit)


@fails("the_limit_bounds_an_answer")
class NoLimit(Faithful):
    async def read(
        self, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        return await super().read(topic, after, limit=1000)


@fails("only_the_partitions_asked_for")
class ReadsAllPartitions(Faithful):
    async def read(
        self, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        every = dict[int, str | None].fromkeys(range(await self.partitions(topic)))
        return await super().read(topic, every | dict(after), limit=limit)


@fails("reading_changes_nothing", "all_readers_see_one_order")
class ReadingConsumes(Faithful):
    async def read(
        self, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        received = await super().read(topic, after, limit=limit)
        for each in received:
            self._topics[topic]._logs[each.partition].forget_to(int(each.position))
        return received


@fails("reading_does_not_wait")
class ReadingWaits(Faithful):
    async def read(
        self, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        received = await super().read(topic, after, limit=limit)
        if not received:
            await asyncio.Event().wait()
        return received


@fails("messages_are_kept_byte_for_byte")
class LosesMetadata(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        bare = [replace(each, envelope=replace(each.envelope, extensions={})) for each in messages]
        return await super().publish(bare)


@fails("a_cancelled_publish_keeps_the_order")
class PublishesTheLastFirst(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        await super().publish(messages[-1:])
        await asyncio.sleep(0)
        return await super().publish(messages[:-1])


@fails("a_batch_is_stored_as_a_whole")
class StoresOneByOne(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        for each in messages:
            await super().publish([each])
        return ()


@fails("a_body_that_is_too_large_is_rejected")
class TakesAnyBody(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        return await MemoryBroker.publish(self, messages)


@fails("the_backlog_counts_what_is_behind")
class CountsAll(Faithful):
    async def backlog(self, topic: str, after: Mapping[int, str | None]) -> int:
        return await super().backlog(topic, dict[int, str | None].fromkeys(after))


@fails("settling_takes_nothing_from_others")
class TheFirstSettles(Faithful):
    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        for partition, position in positions.items():
            self._topics[topic]._logs[partition].forget_to(int(position))


@fails("topics_do_not_mix")
class NamesWithoutCase(Faithful):
    async def declare(self, topics: Sequence[Topic]) -> None:
        await super().declare([topic for topic in topics if topic.name != "Orders"])
        if any(topic.name == "Orders" for topic in topics):
            self._topics["Orders"] = self._topics["orders"]


# Life


@fails("the_declaration_is_true")
class SaysItForgets(Faithful):
    @property
    def guarantees(self) -> BrokerGuarantees:
        return replace(super().guarantees, durable=False)


@fails("a_topic_is_declared_once")
class DeclaringClears(Faithful):
    async def declare(self, topics: Sequence[Topic]) -> None:
        for topic in topics:
            self._topics.pop(topic.name, None)
        await super().declare(topics)


@fails("another_partition_count_is_refused")
class TakesAnyCount(Faithful):
    async def declare(self, topics: Sequence[Topic]) -> None:
        try:
            await super().declare(topics)
        except TopicMismatch:
            return


@fails("an_unknown_topic_is_an_error")
class UnknownTopicsAreEmpty(Faithful):
    async def read(
        self, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        try:
            return await super().read(topic, after, limit=limit)
        except TopicNotFound:
            return ()


@fails("a_stopped_broker_is_unavailable")
class NeverStops(Faithful):
    async def stop(self) -> None:
        pass


@fails("a_stopped_broker_starts_again")
class StartsOnce(Faithful):
    found_by = RuntimeError
    starts = 0

    async def start(self, storage: Storage | None) -> Sequence[str]:
        self.starts += 1
        if self.starts > 1:
            raise RuntimeError("was closed")
        return await super().start(storage)


@fails("warnings_are_sentences")
class Mumbles(Faithful):
    async def start(self, storage: Storage | None) -> Sequence[str]:
        await super().start(storage)
        return ["appendfsync"]


@fails("a_restart_keeps_everything")
class ForgetsAtStop(Faithful):
    found_by = TopicNotFound

    async def stop(self) -> None:
        await super().stop()
        if not self._users:
            self._topics.clear()


@fails("apps_share_the_topics")
class StopsForAll(Faithful):
    found_by = BrokerUnavailable

    async def stop(self) -> None:
        self._users = 0


@fails("a_listener_is_woken", "a_listener_finds_what_woke_it")
class NeverWakes(Faithful):
    def listen(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


@fails("a_listener_is_woken")
class WakesOnce(Faithful):
    def listen(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        def once() -> None:
            end()
            wake()

        end = super().listen(topic, once)
        return end


@fails("a_listener_finds_what_woke_it")
class WakesTooEarly(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        for each in messages:
            self._wake(each.topic)
        await asyncio.sleep(0.01)
        return await super().publish(messages)


@fails("a_listener_can_be_ended")
class NeverStopsWaking(Faithful):
    def listen(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        super().listen(topic, wake)
        return lambda: None
