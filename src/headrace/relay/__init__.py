"""The relay: the consumer of the outbox, whose handler is `broker.publish`.

Source: "Transactional outbox" and "Polling publisher", microservices.io.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.backoff import Outage
from headrace.errors import (
    BrokerUnavailable,
    ConfigurationError,
    LeaseLost,
    TopicMismatch,
    TopicNotFound,
)
from headrace.leases import Leases, clock
from headrace.relay.ahead import Halves
from headrace.relay.pauses import TopicPauses
from headrace.storage import Failure, State, outbox_queue
from headrace.telemetry import Count, LogEvent, about
from headrace.text import keepable, said_by
from headrace.topics import ensure_topic
from headrace.tracing import publish
from headrace.worker import Worker, infrastructure

if TYPE_CHECKING:
    from headrace.broker import Broker, Reading, Topic
    from headrace.limits import Limits
    from headrace.storage import Backlog, Lease, Storage, Stored
    from headrace.telemetry import Telemetry

__all__ = ["Relay", "RelayStatus"]

Key = tuple[str, str | None]
"""A (topic, key): what order is kept within."""


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """What a relay does now.

    Args:
        running: between `start` and `stop`.
        partitions: those of the outbox that it owns.
        published: messages that the broker has confirmed since the start.
        paused_topics: topics whose messages wait, while those of others flow.
        last_error: why the relay or a lease is paused now, or None.
    """

    running: bool
    partitions: tuple[int, ...]
    published: int
    paused_topics: tuple[str, ...]
    last_error: str | None


class Relay:
    """Publishes an app's committed notifications: in order per (topic, key), at least once (G5, G6).

    Each round reads the oldest rows of the partitions that this process owns, publishes them with one wait and deletes
    those that the broker confirmed. After any error the next round begins again at the oldest row, so what is published
    for the first time is never ahead of an earlier message of its key; what is repeated, consumers know by its id.

    A message that the broker will never accept becomes a dead letter of the outbox, and later messages of its (topic, key)
    are held behind it. Sizes are known beforehand, so a message that is too large holds all later ones. A message that
    the broker refuses for another reason is known only afterwards: later ones of its key in the same call of `publish`
    have then been stored; with a driver that has no `ordered_batch` there are none.

    Args:
        storage: has the outbox.
        broker: where to publish.
        app: the app's name.
        owner: the name of this process.
        partitions: how many the outbox has.
        limits: `batch`, `linger_seconds`, `poll_seconds`, `lease_seconds` and `drain_seconds` are used.
        telemetry: the app's.
        topics: settings for topics, by name; others are made with the defaults of `Topic`.
        readings: groups of the app that read these topics, so that their queues stand before the first message.
        now: the clock of leases; default `leases.clock`, another one in tests.
    """

    def __init__(
        self,
        storage: Storage,
        broker: Broker,
        app: str,
        *,
        owner: str,
        partitions: int,
        limits: Limits,
        telemetry: Telemetry,
        topics: Mapping[str, Topic],
        readings: Sequence[Reading] = (),
        now: Callable[[], float] = clock,
    ) -> None:
        self._storage = storage
        self._broker = broker
        self._queue = outbox_queue(app)
        self.partitions = partitions
        """How many partitions the outbox has."""
        self._limits = limits
        self._telemetry = telemetry
        self._topics = topics
        self._readings = readings
        self._published = 0
        self._clock = time.monotonic
        self._not_before = 0.0
        self._halves = Halves(self._read, self._publish_all, limits.batch)
        self._known_topics: set[str] = set()
        self._pauses = TopicPauses(telemetry, self._expected, now)
        self._outage = Outage(
            f"The relay of {app!r}", Count.RELAY_PAUSED, telemetry, self._expected
        )
        self._worker = Worker(f"headrace relay {app}", self._round, self._outage)
        self._leases = Leases(
            storage,
            self._queue,
            owner,
            partitions=partitions,
            telemetry=telemetry,
            seconds=limits.lease_seconds,
            changed=self._worker.wake,
            now=now,
        )

    @property
    def status(self) -> RelayStatus:
        """What the relay does now; does no I/O."""
        error = self._outage.error or self._leases.error
        return RelayStatus(
            running=self._worker.running,
            partitions=tuple(sorted(self._leases.held())),
            published=self._published,
            paused_topics=self._pauses.current(),
            last_error=None if error is None else f"{type(error).__name__}: {said_by(error)}",
        )

    async def backlog(self) -> Backlog:
        """How many messages wait in the outbox, and for how long."""
        return await self._storage.backlog(self._queue)

    @property
    def idle(self) -> bool:
        """True while it publishes nothing and knows of nothing to publish."""
        return self._worker.idle

    def wake(self) -> None:
        """Hint that something was committed to the outbox, or that dead letters were redriven."""
        self._worker.wake()

    def start(self) -> None:
        """Start to publish, in the background."""
        self._leases.start()
        self._worker.start()

    async def stop(self, drain_seconds: float | None = None) -> None:
        """End the round that runs, within `drain_seconds` (default: the limit), and give the partitions back (G10).

        What the outbox still has is published by another process, or after the next start.
        """
        began, drained = self._clock(), False
        try:
            drained = await self._worker.stop(
                self._limits.drain_seconds if drain_seconds is None else drain_seconds
            )
        finally:
            # Also when the stop itself is cancelled: the leases would be kept for ever.
            if not drained:
                self._telemetry.count(Count.DRAIN_CUT)
                self._telemetry.warning(
                    LogEvent.DRAIN_CUT,
                    "The relay was cancelled while it published, after "
                    f"{self._clock() - began:.3g} seconds of draining; these messages are published again.",
                    queue=self._queue,
                )
            await self._leases.stop()

    def _expected(self, error: BaseException) -> bool:
        return infrastructure(self._storage, error)

    async def _round(self) -> float:
        await asyncio.sleep(max(0.0, self._not_before - self._clock()))
        leases = self._leases.held()
        if not leases:
            return self._limits.poll_seconds
        began = self._clock()
        with self._leases.working(leases):
            count, more = await self._halves.round(leases)
        if more:
            return 0.0
        if count:
            self._not_before = began + self._limits.linger_seconds
        return self._limits.poll_seconds

    async def _read(self, leases: Mapping[int, Lease]) -> Sequence[Stored]:
        return await self._storage.ready(
            self._queue,
            sorted(leases),
            limit=self._limits.batch,
            paused_topics=self._pauses.current(),
        )

    async def _publish_all(self, rows: Sequence[Stored], leases: Mapping[int, Lease]) -> None:
        refused: BrokerUnavailable | None = None
        for topic in sorted({row.message.topic for row in rows} - self._known_topics):
            error = await self._learn(topic)
            if refused is not None and error is not None:
                # No fault of one topic, as it seems: nobody has to wait for the answers about all others.
                raise error
            refused = error or refused
        held: set[Key] = set()
        for wave in self._waves(await self._fitting(rows, leases)):
            sendable = self._sendable(wave, leases, held)
            try:
                await self._publish(sendable, leases, held)
            except (TopicNotFound, TopicMismatch):
                # One of several topics is missing; the others are not to wait for it.
                for topic, part in _by_topic(sendable).items():
                    try:
                        await self._publish(part, leases, held)
                    except (TopicNotFound, TopicMismatch) as error:
                        self._pause(topic, error)

    async def _publish(
        self, rows: Sequence[Stored], leases: Mapping[int, Lease], held: set[Key]
    ) -> None:
        if not rows:
            return
        rejected = await publish(self._broker, [row.message for row in rows], self._telemetry)
        refused = {one.index: one for one in rejected}
        confirmed = [row for index, row in enumerate(rows) if index not in refused]
        self._published += len(confirmed)
        kinds = Counter((row.message.topic, row.message.envelope.type) for row in confirmed)
        for (topic, kind), amount in kinds.items():
            self._telemetry.tally(Count.PUBLISHED, (("topic", topic), ("type", kind)), amount)
        later = {rows[i].message.topic: one for i, one in refused.items() if not one.final}
        for topic in {row.message.topic for row in rows}:
            if topic in later:
                self._pause(topic, BrokerUnavailable(later[topic].reason))
            else:
                self._pauses.end(topic)
        # Deleted first: if what follows fails, the refused ones are simply offered once more.
        usable = self._usable_of(leases)
        gone = [row.position for row in confirmed if row.partition in usable]
        if gone:
            await self._storage.delete(gone)
        for index, one in sorted(refused.items()):
            held.add(_key(rows[index]))
            if one.final:
                await self._bury(rows[index], leases, "Rejected", one.reason)

    async def _fitting(
        self, rows: Sequence[Stored], leases: Mapping[int, Lease]
    ) -> Sequence[Stored]:
        """The rows that the broker can take, without those behind one of their key that it cannot."""
        most = self._broker.guarantees.max_body_bytes
        if most is None or all(len(row.message.data) <= most for row in rows):
            return rows
        fitting: list[Stored] = []
        stopped: set[Key] = set()
        for row in rows:
            size = len(row.message.data)
            if row.message.key is not None and _key(row) in stopped:
                continue
            if size <= most:
                fitting.append(row)
            else:
                stopped.add(_key(row))
                await self._bury(
                    row,
                    leases,
                    "MessageTooLarge",
                    f"The body has {size} bytes, and the broker takes at most {most}. Lower Limits(body_bytes=...) "
                    "to the broker's limit, so that send refuses such an event before its commit.",
                )
        return fitting

    def _sendable(
        self, wave: Sequence[Stored], leases: Mapping[int, Lease], held: set[Key]
    ) -> list[Stored]:
        """The rows of a wave that may be sent now. A key of which one row must wait waits until the next round."""
        paused, usable = self._pauses.current(), self._usable_of(leases)
        if not held and not paused and usable.issuperset(leases):
            return list(wave)
        sendable: list[Stored] = []
        for row in wave:
            message = row.message
            if held and message.key is not None and _key(row) in held:
                continue
            if row.partition not in usable or message.topic in paused:
                held.add(_key(row))
            else:
                sendable.append(row)
        return sendable

    def _waves(self, rows: Sequence[Stored]) -> Iterator[Sequence[Stored]]:
        """Cut a batch so that no part of it has two messages of one key, unless the broker keeps the order of a batch."""
        if self._broker.guarantees.ordered_batch:
            yield rows
            return
        waves: list[list[Stored]] = []
        seen: Counter[Key] = Counter()
        for row in rows:
            wave = 0
            if row.message.key is not None:
                wave = seen[_key(row)]
                seen[_key(row)] += 1
            if wave == len(waves):
                waves.append([])
            waves[wave].append(row)
        yield from waves

    async def _learn(self, topic: str) -> BrokerUnavailable | None:
        """Make the topic, or pause it. Returns the error if the broker may be away altogether."""
        try:
            await ensure_topic(
                self._broker,
                self._topics,
                topic,
                [one for one in self._readings if one.topic == topic],
            )
        except BrokerUnavailable as error:
            # Also what a server says that does not want this topic: no rights, no room.
            self._pause(topic, error)
            return error
        except (TopicNotFound, TopicMismatch, ConfigurationError) as error:
            self._pause(topic, error)
        else:
            self._known_topics.add(topic)
        return None

    def _pause(self, topic: str, error: BaseException) -> None:
        # It may have vanished from the broker: made again when the pause is over.
        self._known_topics.discard(topic)
        self._pauses.begin(topic, error)

    async def _bury(
        self, row: Stored, leases: Mapping[int, Lease], error: str, reason: str
    ) -> None:
        lease = leases[row.partition]
        if not self._usable(lease):
            return
        try:
            await self._storage.repark(
                lease,
                row,
                state=State.DEAD,
                attempts=row.attempts + 1,
                failure=Failure(error, keepable(reason)[:2000]),
            )
        except LeaseLost:
            self._leases.lost(lease)
            return
        message = row.message
        self._telemetry.count(Count.PUBLISH_REJECTED, topic=message.topic)
        self._telemetry.error(
            LogEvent.PUBLISH_REJECTED,
            f"The broker will never accept message {message.envelope.id} ({message.envelope.type}) for topic "
            f"{message.topic!r}: {reason} It is dead letter {row.position} of {self._queue!r}; later messages of key "
            f"{message.key!r} are held behind it. Redrive it when the cause is mended, or drop it with a reason.",
            queue=self._queue,
            position=row.position,
            topic=message.topic,
            key=message.key,
            **about(message.envelope),
        )

    def _usable_of(self, leases: Mapping[int, Lease]) -> set[int]:
        """The partitions that may be written to at this moment."""
        return {partition for partition, lease in leases.items() if self._usable(lease)}

    def _usable(self, lease: Lease) -> bool:
        try:
            return self._leases.usable(lease)
        except LeaseLost:
            return False


def _key(row: Stored) -> Key:
    return (row.message.topic, row.message.key)


def _by_topic(rows: Sequence[Stored]) -> dict[str, list[Stored]]:
    found: dict[str, list[Stored]] = {}
    for row in rows:
        found.setdefault(row.message.topic, []).append(row)
    return found
