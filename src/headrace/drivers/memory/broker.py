"""`MemoryBroker`: a `Broker` whose topics are lists in this process."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from headrace.broker import PARTITIONS, BrokerGuarantees, Reading, Received, Rejected, Topic
from headrace.drivers.listeners import Listeners
from headrace.drivers.memory.topic import TopicLog
from headrace.envelope import Message
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicMismatch, TopicNotFound
from headrace.storage import Storage


class MemoryBroker:
    """Keeps topics in memory. Several apps of a process talk to each other when they are given the same object.

    A message stays until its topic is full and every known group has settled it; a group becomes known when its reading
    is declared. While a topic is full of messages that somebody has still to settle, or that no
    group has come for yet, `publish` waits: memory is bounded, and a full topic slows the producer (G11). A batch
    larger than `max_messages` goes in when all before it is settled.

    Positions start at the microseconds since the epoch at which the object was made. So a position that a durable
    storage kept from an earlier process lies before every message of this one, and nothing is skipped.

    It is stopped when each app that started it has stopped it; what it holds stays for the next start. One event loop
    uses it at a time.

    Args:
        max_messages: how many messages a topic keeps; default 100 000, some hundred megabytes of usual events at most.
    """

    def __init__(self, *, max_messages: int = 100_000) -> None:
        if max_messages < 1:
            raise ConfigurationError(f"MemoryBroker(max_messages={max_messages}): give 1 or more")
        self._max_messages = max_messages
        self._first = time.time_ns() // 1_000
        self._topics: dict[str, TopicLog] = {}
        self._users = 0
        self._publishers: deque[asyncio.Event] = deque()
        self._listeners: Listeners[str] = Listeners()

    @property
    def guarantees(self) -> BrokerGuarantees:
        """Not durable; a batch is stored as a whole or not at all; no limit on bodies."""
        return BrokerGuarantees(durable=False, ordered_batch=True)

    async def start(self, storage: Storage | None) -> Sequence[str]:
        """See `Broker.start`. Call `stop` once for each start."""
        self._users += 1
        return ()

    async def stop(self) -> None:
        """See `Broker.stop`. The last user's stop ends waiting publishers with `BrokerUnavailable`."""
        self._users = max(0, self._users - 1)
        if not self._users:
            for publisher in self._publishers:
                publisher.set()

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        """See `Broker.declare`. Of several topics all are made or, on an error, none.

        Raises:
            ConfigurationError: a topic asks for less than one partition.
        """
        self._check_running()
        wanted: dict[str, int] = {}
        for topic in topics:
            existing = self._topics.get(topic.name)
            asked = topic.partitions
            count = existing.partitions if existing else wanted.get(topic.name, asked or PARTITIONS)
            if asked is not None and asked < 1:
                raise ConfigurationError(f"{topic!r}: give 1 partition or more")
            if asked not in (None, count):
                raise TopicMismatch(
                    f"topic {topic.name!r} has {count} partitions and was declared with {asked}:"
                    f" declare Topic({topic.name!r}, partitions={count}), or use another name"
                )
            wanted[topic.name] = count
        for name, count in wanted.items():
            if name not in self._topics:
                self._topics[name] = TopicLog(name, count, self._first)
        for reading in readings:
            self._topic(reading.topic).settle(reading.group, {})

    async def partitions(self, topic: str) -> int:
        """See `Broker.partitions`."""
        return self._topic(topic).partitions

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        """See `Broker.publish`. Waits while a topic is full; a cancelled or failed call has stored nothing.

        Raises:
            TopicNotFound: a message's topic was not declared.
        """
        by_topic: dict[str, list[Message]] = {}
        for message in messages:
            by_topic.setdefault(message.topic, []).append(message)
        batches = [(self._topic(name), batch) for name, batch in by_topic.items()]
        if self._publishers or not self._has_room(batches):
            await self._wait_for_room(batches)
        for topic, batch in batches:
            topic.append(batch)
        self._listeners.wake(by_topic)
        return ()

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        """See `Broker.read`."""
        return self._topic(topic).read(group, after, limit)

    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        """See `Broker.settle`. Makes the group known, too."""
        self._topic(topic).settle(group, positions)
        self._let_next_publish()

    async def release(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        """See `Broker.release`. Nothing is buffered, so there is nothing to give up."""
        self._topic(topic)

    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        """See `Broker.backlog`."""
        return self._topic(topic).backlog(group, after)

    async def search(
        self,
        topic: str,
        *,
        id: str | None = None,  # noqa: A002 - CloudEvents' own name
        key: str | None = None,
        correlation: str | None = None,
        limit: int = 100,
    ) -> Sequence[Received]:
        """See `SearchableLog.search`."""

        def wanted(message: Message) -> bool:
            return (
                id in (None, message.envelope.id)
                and key in (None, message.key)
                and correlation in (None, message.envelope.correlationid)
            )

        return self._topic(topic).search(wanted, limit)

    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """See `Broker.listen`. The topic need not exist yet."""
        return self._listeners.add(topic, wake)

    async def _wait_for_room(self, batches: Sequence[tuple[TopicLog, Sequence[Message]]]) -> None:
        # Publishers take turns, so that a large batch is not passed by small ones for ever.
        turn = asyncio.Event()
        self._publishers.append(turn)
        try:
            while self._publishers[0] is not turn or not self._has_room(batches):
                turn.clear()
                await turn.wait()
                self._check_running()
        finally:
            self._publishers.remove(turn)
            self._let_next_publish()

    def _let_next_publish(self) -> None:
        if self._publishers:
            self._publishers[0].set()

    def _has_room(self, batches: Sequence[tuple[TopicLog, Sequence[Message]]]) -> bool:
        return all(self._fits(topic, len(batch)) for topic, batch in batches)

    def _fits(self, topic: TopicLog, count: int) -> bool:
        if topic.size + count > self._max_messages:
            topic.make_room()
        return not topic.size or topic.size + count <= self._max_messages

    def _topic(self, name: str) -> TopicLog:
        self._check_running()
        topic = self._topics.get(name)
        if topic is None:
            near = get_close_matches(name, self._topics, n=1)
            hint = f"did you mean {near[0]!r}? If not, " if near else ""
            raise TopicNotFound(
                f"the memory broker has no topic {name!r}: {hint}call `await broker.declare([Topic({name!r})])` first"
            )
        return topic

    def _check_running(self) -> None:
        if not self._users:
            raise BrokerUnavailable(
                "this MemoryBroker is not started: await broker.start(storage) first"
            )
