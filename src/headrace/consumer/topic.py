"""A group's work on one topic: which partitions, what to read, when to look for parked messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from headrace.backoff import Backoff, Outage
from headrace.consumer.lane import Lane
from headrace.consumer.window import Window
from headrace.errors import BrokerUnavailable, LeaseLost
from headrace.leases import Leases
from headrace.telemetry import Count
from headrace.topics import ensure_topic
from headrace.worker import Worker, infrastructure

if TYPE_CHECKING:
    from headrace.broker import Broker, Topic
    from headrace.consumer.delivery import Work
    from headrace.limits import Limits

SETTLE_SECONDS = 1.0
"""How often the broker is told the committed positions at most: a hint for what it may forget, so there is no hurry."""

CANCEL_SECONDS = 5.0
"""How long a cancelled handler may take to end before its partition is left to run out: a COMMIT under way is not cut."""


class TopicConsumer:
    """Feeds the lanes of the partitions that this process owns, and stops them.

    Args:
        work: what the group does with the messages.
        broker: where they come from.
        owner: the name of this process.
        limits: `window`, `poll_seconds` and `lease_seconds` are used.
        topics: settings for topics, by name.
        now: the clock of leases.
    """

    def __init__(
        self,
        work: Work,
        broker: Broker,
        *,
        owner: str,
        limits: Limits,
        topics: Mapping[str, Topic],
        now: Callable[[], float],
    ) -> None:
        self._work = work
        self._broker = broker
        self._owner = owner
        self._limits = limits
        self._topics = topics
        self._now = now
        self._lanes: dict[int, Lane] = {}
        self._leases: Leases | None = None
        self._unlisten: Callable[[], None] | None = None
        self._stopping = asyncio.Event()
        self._look_at = 0.0
        self._read_at = 0.0
        self._settle_at = 0.0
        self._settled: dict[int, str] = {}
        self._broker_backoff = Backoff()
        self._outage = Outage(
            f"Group {work.group!r} on topic {work.topic!r}",
            Count.CONSUMER_PAUSED,
            work.telemetry,
            lambda error: infrastructure(work.storage, error),
        )
        self._worker = Worker(
            f"headrace consumer {work.group}/{work.topic}", self._round, self._outage
        )

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._work.topic

    @property
    def error(self) -> BaseException | None:
        """Why the work, or a part of it, is paused now, or None."""
        return self._outage.error or (self._leases.error if self._leases is not None else None)

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions that this process owns."""
        return () if self._leases is None else tuple(sorted(self._leases.held()))

    @property
    def in_memory(self) -> int:
        """Messages read and not yet finished."""
        return sum(len(lane.fresh) + len(lane.parked) for lane in self._lanes.values())

    def wake(self) -> None:
        """Hint that there may be something to do, parked messages included."""
        self._look(0.0)

    def start(self) -> None:
        """Start in the background. Once: another start takes another object."""
        self._worker.start()

    async def stop(self, drain_seconds: float) -> None:
        """Begin no further message, let the running ones end within `drain_seconds`, give the partitions back (G10)."""
        deadline = asyncio.get_running_loop().time() + drain_seconds
        self._stopping.set()
        await self._worker.stop(drain_seconds)
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        await self._drain(tasks, deadline - asyncio.get_running_loop().time())
        await self._settle_finally()
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        if self._leases is not None:
            await self._leases.stop()
            self._leases = None
        self._lanes.clear()
        self._settled.clear()

    async def _drain(self, tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=max(seconds, 0.0))
        if not late:
            return
        for task in late:
            task.cancel()
        self._work.telemetry.warning(
            f"{len(late)} handlers of group {self._work.group!r} on topic {self.topic!r} did not end within the drain and were "
            "cancelled; their messages are rolled back and redelivered."
        )
        _, stuck = await asyncio.wait(late, timeout=CANCEL_SECONDS)
        if stuck:
            self._work.telemetry.error(
                f"{len(stuck)} handlers of group {self._work.group!r} on topic {self.topic!r} went on "
                f"{CANCEL_SECONDS:g} seconds after they were cancelled; their partitions are not given back and run out. Let "
                "handlers pass CancelledError on."
            )

    async def _round(self) -> float:
        leases = self._leases or await self._prepare()
        self._match_lanes(leases)
        await self._fetch_parked()
        self._start_lanes()
        more = await self._fetch_fresh()
        self._start_lanes()
        if more:
            return 0.0
        now = self._loop_time()
        return max(min(self._limits.poll_seconds, self._look_at - now), 0.001)

    async def _prepare(self) -> Leases:
        partitions = await ensure_topic(self._broker, self._topics, self.topic)
        # Makes the group known to the broker, which keeps from then on what the group has not settled.
        await self._broker.settle(self._work.group, self.topic, {})
        self._unlisten = self._broker.listen(self.topic, self._worker.wake)
        self._leases = Leases(
            self._work.storage,
            self._work.queue,
            self._owner,
            partitions=partitions,
            telemetry=self._work.telemetry,
            seconds=self._limits.lease_seconds,
            changed=self.wake,
            now=self._now,
        )
        self._leases.start()
        return self._leases

    def _match_lanes(self, leases: Leases) -> None:
        """A lane for each lease, and none for those that are lost."""
        for partition, lane in list(self._lanes.items()):
            try:
                lane.usable()
            except LeaseLost:
                if lane.task is None:
                    del self._lanes[partition]
                    self._settled.pop(partition, None)
                else:
                    # Its commit would be refused. The next lane of the partition begins when this one has ended.
                    lane.abandon()
        for partition, lease in leases.held().items():
            if partition not in self._lanes:
                self._lanes[partition] = Lane(
                    lease,
                    self._work,
                    leases,
                    self._outage,
                    self._stopping,
                    look=self._look,
                    idle=self._worker.wake,
                )

    def _start_lanes(self) -> None:
        for lane in self._lanes.values():
            lane.start()

    async def _fetch_parked(self) -> None:
        now = self._loop_time()
        if now < self._look_at:
            return
        self._look_at = now + self._limits.poll_seconds
        lanes = {p: lane for p, lane in self._usable_lanes().items() if not lane.parked}
        if not lanes:
            return
        storage, queue = self._work.storage, self._work.queue
        due = await storage.due_in(queue, list(lanes))
        if due is None:
            return
        if due > 0:
            self._look_at = min(self._look_at, now + due)
            return
        room = Window(self._limits.window, {p: len(lane.parked) for p, lane in self._lanes.items()})
        rows = await storage.runnable(queue, list(lanes), limit=room.for_all(lanes))
        if len(rows) == room.for_all(lanes):
            # There may be more, in other partitions.
            self._look_at = now
        for row in rows:
            lane = lanes[row.partition]
            if self._lanes.get(row.partition) is lane and room.take(row.partition):
                lane.parked.append(row)

    async def _fetch_fresh(self) -> bool:
        """Read for the lanes that have nothing. Returns True if there may be more to read at once."""
        if self._loop_time() < self._read_at:
            return False
        try:
            await self._settle()
            lanes = {p: lane for p, lane in self._usable_lanes().items() if not lane.fresh}
            if not lanes:
                return False
            room = Window(
                self._limits.window,
                {p: len(lane.fresh) for p, lane in self._lanes.items()},
                least=self._work.subscription.batch,
            )
            limit = room.for_all(lanes)
            after = {p: lane.finished for p, lane in lanes.items()}
            messages = await self._broker.read(self.topic, after, limit=limit)
        except BrokerUnavailable as error:
            # Parked messages need no broker: only the reading pauses.
            self._outage.failed(error, "broker")
            self._read_at = self._loop_time() + self._broker_backoff.next()
            return False
        self._broker_backoff.reset()
        self._outage.over("broker")
        for received in messages:
            lane = lanes[received.partition]
            if self._lanes.get(received.partition) is lane and room.take(received.partition):
                lane.fresh.append(received)
        return len(messages) >= limit

    async def _settle(self) -> None:
        now = self._loop_time()
        if now >= self._settle_at:
            self._settle_at = now + SETTLE_SECONDS
            finished = {p: lane.finished for p, lane in self._lanes.items()}
            news = {
                p: position
                for p, position in finished.items()
                if position is not None and self._settled.get(p) != position
            }
            if news:
                await self._broker.settle(self._work.group, self.topic, news)
                self._settled.update(news)

    async def _settle_finally(self) -> None:
        self._settle_at = 0.0
        try:
            await self._settle()
        except Exception as error:
            self._work.telemetry.info(
                f"The broker was not told how far group {self._work.group!r} came on topic {self.topic!r} "
                f"({type(error).__name__}: {error}); it is told after the next start."
            )

    def _usable_lanes(self) -> dict[int, Lane]:
        usable: dict[int, Lane] = {}
        for partition, lane in self._lanes.items():
            try:
                if lane.usable():
                    usable[partition] = lane
            except LeaseLost:
                if lane.task is None:
                    # The next round takes it away. One that still works wakes us when it has ended.
                    self._worker.wake()
        return usable

    def _look(self, seconds: float) -> None:
        self._look_at = min(self._look_at, self._loop_time() + seconds)
        self._worker.wake()

    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()
