"""The work on one queue: which of its partitions are ours, when to look for what may run, how to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from headrace.backoff import Outage
from headrace.consumer.lane import Lane
from headrace.consumer.unsettled import Unsettled
from headrace.consumer.window import Window
from headrace.errors import LeaseLost
from headrace.leases import Leases
from headrace.telemetry import Count, LogEvent
from headrace.worker import CANCEL_SECONDS, Worker, ended, infrastructure

if TYPE_CHECKING:
    from headrace.consumer.delivery import Work
    from headrace.limits import Limits


class QueueConsumer:
    """Runs what waits in a queue in storage: feeds the lanes of the partitions that this process owns, and stops them.

    What is parked or deferred needs nothing else. `TopicConsumer` adds what is read from a broker.

    Args:
        work: what is done with the messages.
        owner: the name of this process.
        limits: `window`, `poll_seconds` and `lease_seconds` are used.
        partitions: how many the queue has.
        now: the clock of leases.
    """

    def __init__(
        self,
        work: Work,
        *,
        owner: str,
        limits: Limits,
        partitions: int,
        now: Callable[[], float],
    ) -> None:
        self._work = work
        self._owner = owner
        self._limits = limits
        self._count = partitions
        self._now = now
        self._lanes: dict[int, Lane] = {}
        self._unsettled: dict[int, Unsettled] = {}
        self._leases: Leases | None = None
        self._stopping = asyncio.Event()
        self._look_at = 0.0
        self._hinted: set[int] = set()
        self._outage = Outage(
            work.title,
            Count.CONSUMER_PAUSED,
            work.telemetry,
            lambda error: infrastructure(work.storage, error),
            labels=dict(work.labels),
        )
        self._worker = Worker(f"headrace consumer {work.queue}", self._round, self._outage)

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

    @property
    def loads(self) -> Mapping[int, int]:
        """The partitions that may be worked now, each with the number of messages that it has in memory."""
        return {p: len(lane.fresh) + len(lane.parked) for p, lane in self._usable_lanes().items()}

    @property
    def idle(self) -> bool:
        """True while nothing is in memory and the next look for more is a matter of hints and of time."""
        return self._worker.idle and not self.in_memory

    def wake(self) -> None:
        """Hint that there may be something to do, parked messages included."""
        self._look(0.0)

    def hint(self, partitions: Iterable[int]) -> None:
        """There is something that may run in these partitions; one that is not worked here is passed over."""
        self._hinted.update(partition for partition in partitions if partition in self._lanes)
        self._worker.wake()

    def start(self) -> None:
        """Start in the background. Once: another start takes another object."""
        self._worker.start()

    async def stop(self, drain_seconds: float) -> None:
        """Begin no further message, let the running ones end within `drain_seconds`, give the partitions back (G10).

        Cancelled, it waits no longer for the running ones and cancels them; the partitions are given back all the same.
        """
        deadline = self._loop_time() + drain_seconds
        self._stopping.set()
        async with AsyncExitStack() as stack:
            # From the last one up, and each whatever becomes of the others: a cancelled stop leaves no task behind.
            stack.callback(self._lanes.clear)
            stack.push_async_callback(self._give_back)
            stack.push_async_callback(self._leave)
            stack.push_async_callback(self._cut)
            await self._worker.stop(drain_seconds)
            if running := self._running():
                await asyncio.wait(running, timeout=max(deadline - self._loop_time(), 0.0))

    def _running(self) -> list[asyncio.Task[None]]:
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        return [task for task in tasks if not task.done()]

    async def _cut(self) -> None:
        """Cancel what still runs, once: a second cancellation would cut the wait for its COMMIT."""
        late = self._running()
        if not late:
            return
        for task in late:
            task.cancel()
        self._work.telemetry.count(Count.DRAIN_CUT)
        self._work.telemetry.warning(
            LogEvent.DRAIN_CUT,
            f"{self._work.title}: {len(late)} handlers did not end within the drain and were cancelled; their messages are "
            "rolled back and redelivered.",
            group=self._work.group,
            topic=self._work.topic,
        )
        try:
            await ended(late, CANCEL_SECONDS)
        finally:
            if stuck := [task for task in late if not task.done()]:
                self._work.telemetry.error(
                    LogEvent.DRAIN_STUCK,
                    f"{self._work.title}: {len(stuck)} handlers went on {CANCEL_SECONDS:g} seconds after they were cancelled; "
                    "their partitions are not given back and run out. Let handlers pass CancelledError on.",
                    group=self._work.group,
                    topic=self._work.topic,
                )

    async def _leave(self) -> None:
        await self._left(tuple(self._lanes.values()))

    async def _give_back(self) -> None:
        leases, self._leases = self._leases, None
        if leases is not None:
            await leases.stop()

    async def _round(self) -> float:
        leases = self._leases or await self._prepare()
        await self._left(self._match_lanes(leases))
        await self._fetch_parked()
        self._start_lanes()
        more = await self._read()
        self._start_lanes()
        if more:
            return 0.0
        now = self._loop_time()
        return max(min(self._limits.poll_seconds, self._look_at - now), 0.001)

    async def _prepare(self) -> Leases:
        """Begin to take partitions, once all that is needed for it is there."""
        self._leases = Leases(
            self._work.storage,
            self._work.queue,
            self._owner,
            partitions=self._count,
            telemetry=self._work.telemetry,
            seconds=self._limits.lease_seconds,
            changed=self.wake,
            now=self._now,
        )
        self._leases.start()
        return self._leases

    async def _read(self) -> bool:
        """Bring what the lanes have not got from the queue. Returns True if there may be more at once."""
        return False

    async def _left(self, lanes: Sequence[Lane]) -> None:
        """These lanes take nothing more."""

    def _match_lanes(self, leases: Leases) -> Sequence[Lane]:
        """A lane for each lease, and none for those that are lost. Returns those whose reading is to end."""
        ended: list[Lane] = []
        for partition, lane in list(self._lanes.items()):
            try:
                lane.usable()
            except LeaseLost:
                if not lane.abandoned:
                    # Also while a handler hangs: the next owner must be able to read.
                    ended.append(lane)
                if lane.task is None:
                    del self._lanes[partition]
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
                    look=partial(self._look_in, partition),
                    idle=self._worker.wake,
                    unsettled=self._unsettled.setdefault(partition, Unsettled()),
                )
        return ended

    def _start_lanes(self) -> None:
        for lane in self._lanes.values():
            lane.start()

    async def _fetch_parked(self) -> None:
        now = self._loop_time()
        lanes = {p: lane for p, lane in self._usable_lanes().items() if not lane.parked}
        if now < self._look_at:
            # Between two looks at all partitions, only where something was said to be. Busy ones are looked at afterwards.
            lanes = {p: lane for p, lane in lanes.items() if p in self._hinted}
            self._hinted -= lanes.keys()
        else:
            self._look_at = now + self._limits.poll_seconds
            self._hinted -= lanes.keys()
            lanes = await self._unless_nothing_is_due(lanes)
        if not lanes:
            return
        storage, queue = self._work.storage, self._work.queue
        room = Window(self._limits.window, {p: len(lane.parked) for p, lane in self._lanes.items()})
        rows = await storage.runnable(queue, list(lanes), limit=room.for_all(lanes))
        if len(rows) == room.for_all(lanes):
            # There may be more, in other partitions.
            self._look_at = now
        for row in rows:
            lane = lanes[row.partition]
            if self._lanes.get(row.partition) is lane and room.take(row.partition):
                lane.parked.append(row)

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

    async def _unless_nothing_is_due(self, lanes: dict[int, Lane]) -> dict[int, Lane]:
        due = await self._work.storage.due_in(self._work.queue, list(lanes)) if lanes else None
        if due == 0:
            return lanes
        if due is not None:
            self._look_at = min(self._look_at, self._loop_time() + due)
        return {}

    def _look_in(self, partition: int, seconds: float) -> None:
        if seconds > 0:
            self._look(seconds)
        else:
            self.hint((partition,))

    def _look(self, seconds: float) -> None:
        self._look_at = min(self._look_at, self._loop_time() + seconds)
        self._worker.wake()

    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()
