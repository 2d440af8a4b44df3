"""One consumer of the client library and the thread that polls it. It knows partitions and offsets, nothing of buffers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_STORED,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from headrace.drivers.kafka.feed import bytes_of
from headrace.drivers.kafka.settings import LOG, LOGGER, Settings
from headrace.errors import ConfigurationError
from headrace.telemetry import LogEvent

if TYPE_CHECKING:
    from confluent_kafka import Message as Record

    from headrace.drivers.kafka.sender import Place

# How late a command may be obeyed: the client library's poll cannot be interrupted.
_POLL_SECONDS: Final = 0.02
_IDLE_SECONDS: Final = 1.0
_MOST_RECORDS: Final = 1_000

Generations = Mapping[tuple[str, int], int]
Arrived = Callable[[Generations, Sequence["Record"]], None]


class Fetcher:
    """Polls a consumer that is assigned partitions by hand and brings records to the loop in bulk.

    Args:
        settings: of the broker.
        group: under whose name offsets are committed.
        arrived: called on the loop with the generations of the partitions and what was fetched, errors of partitions too.
    """

    def __init__(self, settings: Settings, group: str, arrived: Arrived) -> None:
        self._settings = settings
        self._group = group
        self._arrived = arrived
        self._loop = asyncio.get_running_loop()
        self._commands: deque[Callable[[Consumer], None]] = deque()
        self._woken = threading.Event()
        self._closing = False
        self._holding = False
        # Counts that only grow, one written by the thread and one by the loop, need no lock.
        self._told_bytes = 0
        self._taken_bytes = 0
        self._paused: set[Place] = set()
        # Those that wait only because no records were wanted for a while.
        self._stopped: set[Place] = set()
        self._generations: dict[Place, int] = {}
        self._committing: dict[Place, asyncio.Future[bool]] = {}
        self._ended = asyncio.Event()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, name=f"headrace kafka consumer {group}", daemon=True
        )
        self.down: KafkaError | None = None
        """The last error of all connections, until `up` is called or a record comes."""

    @property
    def ended(self) -> bool:
        """It fetches nothing more, whoever may have wanted that."""
        return self._ended.is_set()

    async def open(self) -> None:
        """Make the consumer, which connects by itself.

        Raises:
            ConfigurationError: the client library refuses a setting.
        """
        self._thread.start()
        await asyncio.shield(self._started)

    async def close(self) -> None:
        """End the thread; what was committed and not yet confirmed is given a moment. Idempotent."""
        self._closing = True
        self._woken.set()
        if self._thread.ident is not None:
            await self._ended.wait()
            self._thread.join()

    def begin(self, place: Place, offset: int | None, generation: int) -> None:
        """Fetch this partition from an offset. None: where the group is, else from the earliest retained record."""
        self._order(lambda consumer: self._begin(consumer, place, offset, generation))

    def begin_earliest(self, place: Place, generation: int) -> None:
        """Fetch this partition from the earliest retained record."""
        self._order(lambda consumer: self._begin(consumer, place, OFFSET_BEGINNING, generation))

    def end(self, places: Sequence[Place]) -> None:
        """Fetch these no longer."""
        self._order(lambda consumer: self._end(consumer, places))

    def pause(self, place: Place) -> None:
        """Fetch no more of this one for now: its buffer is full while others are not."""
        self._order(lambda consumer: self._pause(consumer, place))

    def resume(self, place: Place) -> None:
        """Fetch this one again."""
        self._order(lambda consumer: self._resume(consumer, place))

    def hold(self, holding: bool) -> None:
        """Take nothing at all while every buffer is full; the library then stops fetching by itself."""
        if self._holding != holding:
            self._holding = holding
            self._woken.set()

    def commit(self, offsets: Mapping[Place, int]) -> asyncio.Future[bool]:
        """Tell the servers where the group goes on. The answer says whether they know it now; nobody has to wait for it."""
        done: asyncio.Future[bool] = self._loop.create_future()
        self._order(lambda consumer: self._commit(consumer, dict(offsets), done))
        return done

    def up(self) -> None:
        """The servers were reached: forget the last error."""
        self.down = None

    def _order(self, command: Callable[[Consumer], None]) -> None:
        self._commands.append(command)
        self._woken.set()

    def _run(self) -> None:
        try:
            consumer = self._make()
        except KafkaException as error:
            self._tell(self._refused, error)
            self._tell(self._ended.set)
            return
        self._tell(self._opened)
        try:
            while not self._closing:
                self._obey(consumer)
                self._poll(consumer)
            self._obey(consumer)
        except Exception as error:
            # Nobody's known fault. A new fetcher takes its place at the next read.
            LOG.error(
                LogEvent.KAFKA_CONSUMER_ENDED,
                f"A consumer of group {self._group!r} ended and is made anew.",
                error,
                group=self._group,
            )
        finally:
            # Commits under way get as long as a request may take.
            until = time.monotonic() + self._settings.timeout_seconds
            while self._committing and time.monotonic() < until:
                with contextlib.suppress(KafkaException):
                    consumer.poll(0.01)
            with contextlib.suppress(KafkaException, RuntimeError):
                consumer.close()
            for done in self._committing.values():
                self._tell(_answer, done, False)
            self._tell(self._ended.set)

    def _make(self) -> Consumer:
        return Consumer(
            {
                **self._settings.consumer(self._group),
                "error_cb": self._noted,
                "on_commit": self._committed,
            },
            logger=LOGGER,
        )

    def _obey(self, consumer: Consumer) -> None:
        self._woken.clear()
        while self._commands:
            command = self._commands.popleft()
            try:
                command(consumer)
            except KafkaException as error:
                self._warn(error)

    def _warn(self, error: KafkaException) -> None:
        LOG.warning(
            LogEvent.KAFKA_CONSUMER_FAILED,
            f"A consumer of group {self._group!r}: {error}",
            group=self._group,
        )

    def _wants_records(self) -> bool:
        # A loop that is blocked cannot say `hold`: what is on its way there is bounded here (G11), to so much and one poll.
        on_the_way = self._told_bytes - self._taken_bytes
        return (
            bool(self._generations)
            and not self._holding
            and on_the_way < self._settings.buffer_bytes // 4
        )

    def _poll(self, consumer: Consumer) -> None:
        busy = self._wants_records()
        if not busy:
            # Looks in now and then all the same: the library renews logins, and says what is committed, only when it is polled.
            self._woken.wait(_POLL_SECONDS / 4 if self._committing else _IDLE_SECONDS)
            if self._woken.is_set():
                return
        records: list[Record] = []
        try:
            if busy and self._stopped:
                consumer.resume([TopicPartition(*p) for p in self._stopped - self._paused])
                self._stopped.clear()
            first = consumer.poll(_POLL_SECONDS if busy else 0.0)
            if first is None:
                return
            records.append(first)
            if busy:
                # Whatever is there already, without waiting for more.
                records += consumer.consume(_MOST_RECORDS, 0.0)
            elif not self._committing:
                # Not while it looks often: a pause throws away what the library has fetched, and a commit is over soon.
                self._stop(consumer, first)
        except KafkaException as error:
            self._warn(error)
        if records:
            size = bytes_of(records)
            self._told_bytes += size
            self._tell(self._take, self._generations, records, size)

    def _take(self, generations: Generations, records: Sequence[Record], size: int) -> None:
        if records[-1].error() is None:
            self.down = None
        try:
            self._arrived(generations, records)
        finally:
            self._taken_bytes += size
            self._woken.set()

    def _pause(self, consumer: Consumer, place: Place) -> None:
        self._paused.add(place)
        consumer.pause([TopicPartition(*place)])

    def _resume(self, consumer: Consumer, place: Place) -> None:
        self._paused.discard(place)
        consumer.resume([TopicPartition(*place)])

    def _stop(self, consumer: Consumer, record: Record) -> None:
        # A look for callbacks takes a record with it, each second for as long as nobody goes on: it is to be the last one.
        place = (record.topic() or "", record.partition() or 0)
        if record.error() is None and place in self._generations:
            self._stopped.add(place)
            consumer.pause([TopicPartition(*place)])

    def _begin(self, consumer: Consumer, place: Place, offset: int | None, generation: int) -> None:
        partition = TopicPartition(*place, offset=OFFSET_STORED if offset is None else offset)
        if place in self._stopped - self._paused:
            consumer.resume([TopicPartition(*place)])
        self._stopped.discard(place)
        if place in self._generations:
            consumer.incremental_unassign([TopicPartition(*place)])
        # A new object each time: what was fetched before keeps the generations that it was fetched under.
        self._generations = {**self._generations, place: generation}
        consumer.incremental_assign([partition])

    def _end(self, consumer: Consumer, places: Sequence[Place]) -> None:
        ending = [place for place in places if place in self._generations]
        self._generations = {p: g for p, g in self._generations.items() if p not in ending}
        self._paused.difference_update(places)
        self._stopped.difference_update(places)
        if ending:
            partitions = [TopicPartition(*place) for place in ending]
            # The library remembers a pause beyond the assignment: whoever takes the partition again would wait for ever.
            consumer.resume(partitions)
            consumer.incremental_unassign(partitions)

    def _commit(
        self, consumer: Consumer, offsets: dict[Place, int], done: asyncio.Future[bool]
    ) -> None:
        for place in offsets:
            earlier = self._committing.pop(place, None)
            if earlier is not None:
                self._tell(_answer, earlier, False)
            self._committing[place] = done
        try:
            consumer.commit(
                offsets=[
                    TopicPartition(*place, offset=offset) for place, offset in offsets.items()
                ],
                asynchronous=True,
            )
        except KafkaException:
            for place in offsets:
                self._committing.pop(place, None)
            self._tell(_answer, done, False)

    def _committed(self, error: KafkaError | None, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            done = self._committing.pop((partition.topic, partition.partition), None)
            if done is not None:
                self._tell(_answer, done, error is None and partition.error is None)

    def _noted(self, error: KafkaError) -> None:
        self.down = error

    def _opened(self) -> None:
        if not self._started.done():
            self._started.set_result(None)

    def _refused(self, error: KafkaException) -> None:
        if not self._started.done():
            self._started.set_exception(
                ConfigurationError(f"KafkaBroker: the Kafka client refuses its settings: {error}.")
            )

    def _tell(self, what: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *args)
        except RuntimeError:
            # The loop was closed under a broker that nobody stopped: there is nobody to tell.
            self._closing = True


def _answer(done: asyncio.Future[bool], known: bool) -> None:
    if not done.done():
        done.set_result(known)
