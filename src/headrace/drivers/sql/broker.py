"""`SqlBroker`: a `Broker` that keeps topics as logs in the app's own database."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, cast

from headrace.broker import (
    PARTITIONS,
    BrokerGuarantees,
    Reading,
    Received,
    Rejected,
    Topic,
    partition_of,
    stable_hash,
)
from headrace.drivers.sql import log
from headrace.drivers.sql.housekeeping import Housekeeping
from headrace.drivers.sql.notices import topic_name
from headrace.drivers.sql.rows import message_values
from headrace.drivers.sql.searching import received, search
from headrace.drivers.sql.steps import Step
from headrace.drivers.sql.storage import SqlStorage
from headrace.errors import (
    BrokerUnavailable,
    ConfigurationError,
    StorageBusy,
    StorageUnavailable,
    TopicMismatch,
    TopicNotFound,
)

if TYPE_CHECKING:
    from headrace.drivers.sql.database import Database
    from headrace.envelope import Message
    from headrace.storage import Storage

_WEEK_SECONDS: Final = 7 * 24 * 3600.0


class SqlBroker:
    """Topics as logs in the database of the app's `SqlStorage`: durable with no server beside it.

    Apps on the same database talk to each other. A message is deleted when it is older than `retention_seconds` and every
    group that has leases for the topic has finished it; so a group that never comes again keeps what it has not read.

    Args:
        retention_seconds: how long a message stays though all groups have finished it, for groups that come later;
            default 7 days, as Kafka's. 0 deletes it as soon as every known group has finished it.
    """

    def __init__(self, *, retention_seconds: float = _WEEK_SECONDS) -> None:
        if retention_seconds < 0:
            raise ConfigurationError(
                f"SqlBroker(retention_seconds={retention_seconds}): give 0 or more"
            )
        self._retention_seconds = retention_seconds
        self._storage: SqlStorage | None = None
        self._housekeeping: Housekeeping | None = None
        # A topic's count never changes, so it is asked for once.
        self._counts: dict[str, int] = {}

    @property
    def guarantees(self) -> BrokerGuarantees:
        """Durable as the database is; a batch is one transaction; no limit on bodies."""
        return BrokerGuarantees(durable=True, ordered_batch=True, in_storage=True)

    async def start(self, storage: Storage | None) -> Sequence[str]:
        """See `Broker.start`. The storage is to be started before it.

        Raises:
            ConfigurationError: the app's storage is none that it can live in.
        """
        if not isinstance(storage, SqlStorage):
            raise ConfigurationError(
                f"broker sql:// keeps topics in the database of a SqlStorage, but the app's storage is {storage!r}: pass"
                ' storage="sqlite+aiosqlite:///app.db", or take another broker (memory:// for apps without a database)'
            )
        self._storage = storage
        self._counts = {}
        self._housekeeping = Housekeeping(storage, self._retention_seconds)
        return ()

    async def stop(self) -> None:
        """See `Broker.stop`. What is under way ends with the storage, which is stopped after it."""
        self._storage = None

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        """See `Broker.declare`. Of several topics all are made or, on an error, none. Readings need nothing made.

        Raises:
            ConfigurationError: a topic asks for less than one partition.
        """
        for topic in topics:
            if topic.partitions is not None and topic.partitions < 1:
                raise ConfigurationError(f"{topic!r}: give 1 partition or more")
        if topics:
            await self._make(topics)
        for reading in readings:
            await self.partitions(reading.topic)

    async def _make(self, topics: Sequence[Topic]) -> None:
        async with self._reaching() as database:
            new_topic = log.new_topic(database.dialect)
            new_partition = log.new_partition(database.dialect)
            async with database.writing() as link:
                for topic in topics:
                    named = {"t": topic.name}
                    _, found = await link.run(
                        [
                            Step(new_topic, {**named, "n": topic.partitions or PARTITIONS}),
                            Step(log.partitions, named),
                        ]
                    )
                    count = cast("int", found.rows[0][0])
                    if topic.partitions not in (None, count):
                        raise TopicMismatch(
                            f"topic {topic.name!r} has {count} partitions and was declared with {topic.partitions}:"
                            f" declare Topic({topic.name!r}, partitions={count}), or use another name"
                        )
                    rows = [{**named, "p": number} for number in range(count)]
                    await link.run([Step(new_partition, rows)])
                await link.run([], commit=True)

    async def partitions(self, topic: str) -> int:
        """See `Broker.partitions`."""
        if topic not in self._counts:
            async with self._reaching() as database:
                (found,) = await database.read(Step(log.partitions, {"t": topic}))
                if not found.rows:
                    (all_topics,) = await database.read(Step(log.topics, {}))
                    names = [cast("str", row[0]) for row in all_topics.rows]
                    near = get_close_matches(topic, names, n=1)
                    hint = f"did you mean {near[0]!r}? If not, " if near else ""
                    raise TopicNotFound(
                        f"the database has no topic {topic!r}: {hint}call `await broker.declare([Topic({topic!r})])` first"
                    )
                self._counts[topic] = cast("int", found.rows[0][0])
        self._reachable()
        return self._counts[topic]

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        """See `Broker.publish`. One transaction: a failed or cancelled call has stored all or nothing.

        Raises:
            TopicNotFound: a message's topic was not declared.
        """
        if not messages:
            return ()
        topics = sorted({message.topic for message in messages})
        sizes = {topic: await self.partitions(topic) for topic in topics}
        places = [
            (message.topic, partition_of(message, sizes[message.topic])) for message in messages
        ]
        # In one order for all publishers, so that on a database with many writers no two wait for each other.
        counts = sorted(Counter(places).items())
        reserve = [
            {"t": topic, "p": partition, "n": number} for (topic, partition), number in counts
        ]
        left = dict(counts)
        rows: list[Mapping[str, object]] = []
        for message, place in zip(messages, places, strict=True):
            values = message_values(message)
            values["p"], values["back"] = place[1], left[place]
            rows.append(values)
            left[place] -= 1
        async with self._reaching() as database:
            await database.write(*database.statements.append(reserve, rows))
        storage = self._reachable()
        names = [topic_name(topic) for topic in topics]
        storage.listeners.wake(names)
        for name in names:
            storage.hint(name)
        return ()

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        """See `Broker.read`. Partitions share the limit evenly first; what one leaves goes to the others."""
        await self.partitions(topic)
        if not after or limit < 1:
            return ()
        order = sorted(after)
        behind = {p: int(after[p] or 0) for p in order}
        # Another partition comes first as the group goes on, so that none starves when there are more than the limit.
        turn = sum(behind.values()) % len(order)
        order = order[turn:] + order[:turn]
        share = max(1, limit // len(order))
        async with self._reaching() as database:
            found = await self._pages(
                database, topic, {p: behind[p] for p in order}, dict.fromkeys(order, share)
            )
            left = limit - sum(len(page) for page in found.values())
            full = [p for p in order if len(found[p]) == share]
            if left > 0 and full:
                more = {p: int(found[p][-1].position) for p in full}
                rest = await self._pages(database, topic, more, dict.fromkeys(full, left))
                for p, page in rest.items():
                    found[p] = [*found[p], *page]
        return [received for p in order for received in found[p]][:limit]

    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        """See `Broker.settle`. Positions are read from the leases; this is the occasion to delete what all have finished."""
        self._reachable()
        if self._housekeeping is not None and self._housekeeping.due(topic):
            count = await self.partitions(topic)
            async with self._reaching():
                await self._housekeeping.run(topic, count)

    async def release(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        """See `Broker.release`. Nothing is buffered, so there is nothing to give up."""
        self._reachable()

    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        """See `Broker.backlog`."""
        await self.partitions(topic)
        order = sorted(after)
        async with self._reaching() as database:
            ends, *firsts = await database.read(
                Step(log.next_positions, {"t": topic}),
                *(Step(log.first, {"t": topic, "p": p}) for p in order),
            )
        end = {cast("int", row[0]): cast("int", row[1]) for row in ends.rows}
        count = 0
        for p, outcome in zip(order, firsts, strict=True):
            first = cast("int | None", outcome.rows[0][0])
            if first is not None and p in end:
                count += max(0, end[p] - 1 - max(int(after[p] or 0), first - 1))
        return count

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
        count = await self.partitions(topic)
        where = range(count) if key is None else [stable_hash(key) % count]
        async with self._reaching() as database:
            return await search(
                database, topic, where, id=id, key=key, correlation=correlation, limit=limit
            )

    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """See `Broker.listen`. Hears every `SqlBroker` of this process on the same `SqlStorage`, and others by notices."""
        return self._reachable().listen(topic_name(topic), wake)

    async def _pages(
        self, database: Database, topic: str, behind: Mapping[int, int], most: Mapping[int, int]
    ) -> dict[int, list[Received]]:
        found = await database.read(
            *(
                Step(log.read, {"t": topic, "p": p, "after": position, "most": most[p]})
                for p, position in behind.items()
            )
        )
        return {
            p: [received(row) for row in outcome.rows]
            for p, outcome in zip(behind, found, strict=True)
        }

    def _reachable(self) -> SqlStorage:
        if self._storage is None:
            raise BrokerUnavailable(
                "this SqlBroker is not started, or was stopped: await broker.start(storage) first"
            )
        return self._storage

    @asynccontextmanager
    async def _reaching(self) -> AsyncGenerator[Database]:
        storage = self._reachable()
        try:
            yield storage.database
        except (StorageUnavailable, StorageBusy) as error:
            raise BrokerUnavailable(
                f"the topics are in the database, which refuses now: {error}"
            ) from error
        except Exception as error:
            if not storage.transient(error):
                raise
            raise BrokerUnavailable(
                f"the topics are in the database, which failed: {error}"
            ) from error
