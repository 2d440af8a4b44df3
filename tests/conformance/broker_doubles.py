"""Broken brokers. Each breaks one promise of `MemoryBroker`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from msgspec import structs

from headrace.broker import Broker, BrokerGuarantees, Reading, Received, Rejected, Topic
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
        return BrokerGuarantees(durable=True, ordered_batch=True, max_body_bytes=MOST_BYTES)

    async def interrupt(self) -> None:
        """There is no connection to cut."""

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        rejected: dict[int, Rejected] = {}
        keys: set[str | None] = set()
        for n, each in enumerate(messages):
            large = len(each.data) > MOST_BYTES
            if large or each.key in keys:
                rejected[n] = Rejected(n, f"above {MOST_BYTES} bytes, or behind one", final=large)
                keys |= {each.key} - {None}
        await super().publish([each for n, each in enumerate(messages) if n not in rejected])
        return list(rejected.values())


class DoubleKit(BrokerKit):
    """Runs the clauses against one double, with little patience."""

    max_body_bytes = MOST_BYTES
    hang_seconds = 0.2
    patience_seconds = 0.01
    interruptible = True

    def __init__(self, double: type[Faithful]) -> None:
        self.double = double

    async def make(self) -> Faithful:
        return self.double()

    async def interrupt(self, broker: Broker) -> None:
        assert isinstance(broker, Faithful)
        await broker.interrupt()


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
        return await super().publish(
            [structs.replace(each, topic=messages[0].topic) for each in messages]
        )


@fails("nothing_is_published_for_nothing")
class NeedsAMessage(Faithful):
    found_by = IndexError

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        messages[0]
        return await super().publish(messages)


@fails("reading_goes_on_behind_a_position", "reading_does_not_wait")
class ReadsFromThePosition(Faithful):
    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        from_there = {p: str(int(at) - 1) if at else None for p, at in after.items()}
        return await super().read(group, topic, from_there, limit=limit)


@fails("the_limit_bounds_an_answer")
class NoLimit(Faithful):
    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        return await super().read(group, topic, after, limit=1000)


@fails("only_the_partitions_asked_for")
class ReadsAllPartitions(Faithful):
    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        every = dict[int, str | None].fromkeys(range(await self.partitions(topic)))
        return await super().read(group, topic, every | dict(after), limit=limit)


@fails("reading_changes_nothing", "all_readers_see_one_order")
class ReadingConsumes(Faithful):
    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        received = await super().read(group, topic, after, limit=limit)
        for each in received:
            self._topics[topic]._logs[each.partition].forget_to(int(each.position))
        return received


@fails("reading_does_not_wait")
class ReadingWaits(Faithful):
    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        received = await super().read(group, topic, after, limit=limit)
        if not received:
            await asyncio.Event().wait()
        return received


@fails("messages_are_kept_byte_for_byte")
class LosesMetadata(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        bare = [
            structs.replace(each, envelope=structs.replace(each.envelope, extensions={}))
            for each in messages
        ]
        return await super().publish(bare)


@fails("a_cancelled_publish_keeps_the_order")
class TakesRepeatsForStored(Faithful):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        new = [each for each in messages if each.envelope.id not in self.seen]
        self.seen |= {each.envelope.id for each in messages}
        await asyncio.sleep(0)
        return await super().publish(new)


@fails("a_cut_batch_has_no_gaps")
class StoresTheSecondHalfFirst(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        half = len(messages) // 2
        await super().publish(messages[half:])
        await asyncio.sleep(0)
        return await super().publish(messages[:half])


@fails("a_large_batch_is_stored_whole")
class StoresAHundred(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        return await super().publish(messages[:100])


@fails("a_body_that_is_too_large_is_rejected")
class TakesAnyBody(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        return await MemoryBroker.publish(self, messages)


@fails("a_body_that_is_too_large_is_rejected")
class StoresWhatComesBehind(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        large = [n for n, each in enumerate(messages) if len(each.data) > MOST_BYTES]
        rest = [each for n, each in enumerate(messages) if n not in large]
        await MemoryBroker.publish(self, rest)
        return [Rejected(n, "too large") for n in large]


@fails("a_body_that_is_too_large_is_rejected")
class TakesItLater(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        return [replace(each, final=False) for each in await super().publish(messages)]


@fails("the_backlog_counts_what_is_behind")
class CountsAll(Faithful):
    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        return await super().backlog(group, topic, dict[int, str | None].fromkeys(after))


@fails("settling_takes_nothing_from_others")
class TheFirstSettles(Faithful):
    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        for partition, position in positions.items():
            self._topics[topic]._logs[partition].forget_to(int(position))


@fails("what_was_not_settled_goes_to_the_next")
class ReleasingSettles(Faithful):
    async def release(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        for partition in partitions:
            log = self._topics[topic]._logs[partition]
            self._topics[topic].settle(group, {partition: str(log.end - 1)})


@fails("a_group_goes_on_where_it_settled")
class ForgetsGroups(Faithful):
    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        self._topics[topic].settle(group, {})


@fails("a_new_group_starts_at_the_beginning")
class StartsAtTheEnd(Faithful):
    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        await super().declare(topics, readings)
        for reading in readings:
            logs = self._topics[reading.topic]._logs
            ends = {p: str(log.end - 1) for p, log in enumerate(logs)}
            self._topics[reading.topic].settle(reading.group, ends)


@fails("a_lost_connection_is_made_again")
class NeverReconnects(Faithful):
    lost = False

    async def interrupt(self) -> None:
        self.lost = True

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        if self.lost:
            raise BrokerUnavailable("connection lost")
        return await super().publish(messages)


@fails("stopping_ends_what_is_under_way")
class PublishersWaitForEver(Faithful):
    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        if not self._users:
            await asyncio.Event().wait()
        return await super().publish(messages)


@fails("topics_do_not_mix")
class NamesWithoutCase(Faithful):
    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        await super().declare([topic for topic in topics if topic.name != "Orders"])
        if any(topic.name == "Orders" for topic in topics):
            self._topics["Orders"] = self._topics["orders"]
        await super().declare([], readings)


# Life


@fails("the_declaration_is_true")
class SaysItForgets(Faithful):
    @property
    def guarantees(self) -> BrokerGuarantees:
        return replace(super().guarantees, durable=False)


@fails("a_topic_is_declared_once")
class DeclaringClears(Faithful):
    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        for topic in topics:
            self._topics.pop(topic.name, None)
        await super().declare(topics, readings)


@fails("a_topic_without_a_number_is_taken_as_it_is")
class AlwaysEight(Faithful):
    found_by = TopicMismatch

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        await super().declare(
            [replace(each, partitions=each.partitions or 8) for each in topics], readings
        )


@fails("another_partition_count_is_refused")
class TakesAnyCount(Faithful):
    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        try:
            await super().declare(topics, readings)
        except TopicMismatch:
            return


@fails("an_unknown_topic_is_an_error")
class UnknownTopicsAreEmpty(Faithful):
    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        try:
            return await super().read(group, topic, after, limit=limit)
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


@fails("apps_share_the_topics", "one_object_serves_several_apps")
class StopsForAll(Faithful):
    found_by = BrokerUnavailable

    async def stop(self) -> None:
        self._users = 0


@fails("a_listener_is_woken", "a_listener_finds_what_woke_it")
class NeverWakes(Faithful):
    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


@fails("a_listener_is_woken")
class WakesOnce(Faithful):
    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        def once() -> None:
            end()
            wake()

        end = super().listen(group, topic, once)
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
    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        super().listen(group, topic, wake)
        return lambda: None
