"""Leases: which partitions of a queue this process works now.

A lease is for liveness; safety never depends on it. That two processes do not commit the same work is the token's doing,
checked by the storage in each transaction.

Source: C. Gray, D. Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency" (1989).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.backoff import Outage
from headrace.errors import LeaseLost
from headrace.telemetry import Count, LogEvent
from headrace.worker import Worker, infrastructure

if TYPE_CHECKING:
    from headrace.storage import Lease, Storage
    from headrace.telemetry import Telemetry


def clock() -> float:
    """Seconds on a clock that never goes back and goes on while the machine is suspended, where there is one.

    `time.monotonic` stands still during a suspend on Linux: a process would wake up and believe in a lease of yesterday.
    """
    boottime: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class Leases:
    """Keeps this process's fair share of a queue's partitions: one task that gives a sign of life at regular intervals.

    A partition that another process should have is given back as soon as nobody works in it (`working`). A lease whose
    deadline has passed is not offered any more until the storage has renewed it; work that is under way is left to its
    token.

    Args:
        storage: where the leases are.
        queue: see `outbox_queue` and `group_queue`.
        owner: the name of this process, unique.
        partitions: how many the queue has.
        telemetry: the app's.
        seconds: how long a lease lasts without a sign of life; one is given every third of it. Default 15, see
            `Limits.lease_seconds`.
        changed: called after the partitions held have changed.
        now: the clock that deadlines are on; default `clock`, another one in tests.
    """

    def __init__(
        self,
        storage: Storage,
        queue: str,
        owner: str,
        *,
        partitions: int,
        telemetry: Telemetry,
        seconds: float = 15.0,
        changed: Callable[[], None] = lambda: None,
        now: Callable[[], float] = clock,
    ) -> None:
        self._storage = storage
        self._queue = queue
        self._owner = owner
        self._partitions = partitions
        self._telemetry = telemetry
        self._seconds = seconds
        # What is begun at the last moment must reach the storage before the deadline there.
        self._margin = seconds / 10
        self._changed = changed
        self._now = now
        self._held: dict[int, Lease] = {}
        self._leaving: set[int] = set()
        self._lapsed: set[int] = set()
        self._working: Counter[int] = Counter()
        self._next_beat = 0.0
        self._outage = Outage(
            f"Keeping the leases of queue {queue!r}",
            Count.RELAY_PAUSED if queue.startswith("outbox:") else Count.CONSUMER_PAUSED,
            telemetry,
            lambda error: infrastructure(storage, error),
            labels={"queue": queue},
        )
        self._worker = Worker(
            f"headrace leases {queue}", self._beat, self._outage, max_backoff_seconds=seconds / 3
        )

    @property
    def running(self) -> bool:
        """True between `start` and `stop`."""
        return self._worker.running

    @property
    def error(self) -> BaseException | None:
        """Why no sign of life reaches the storage now, or None."""
        return self._outage.error

    def start(self) -> None:
        """Start to take partitions. `changed` tells when there are some."""
        self._next_beat = self._now()
        self._worker.start()

    async def stop(self) -> None:
        """Give back all partitions, except those in which somebody still works: these run out by themselves."""
        try:
            # A sign of life that is cut may have taken partitions of which nobody here would know.
            await self._worker.stop(self._seconds)
        finally:
            await self._give_back()

    async def _give_back(self) -> None:
        given = [lease for lease in self._held.values() if not self._working[lease.partition]]
        self._held.clear()
        self._leaving.clear()
        self._lapsed.clear()
        try:
            # No longer than it takes them to run out.
            async with asyncio.timeout(self._seconds):
                await self._storage.release(self._queue, self._owner, given, leaving=True)
        except Exception as error:
            self._telemetry.warning(
                LogEvent.NOT_GIVEN_BACK,
                f"The leases of queue {self._queue!r} could not be given back "
                f"({type(error).__name__}: {error}); other processes take over in {self._seconds:g} seconds.",
                queue=self._queue,
            )

    def held(self) -> Mapping[int, Lease]:
        """The leases that may be worked now, by partition: renewed in time and not to be given back."""
        self._notice()
        return {
            partition: lease
            for partition, lease in self._held.items()
            if partition not in self._leaving and partition not in self._lapsed
        }

    def usable(self, lease: Lease) -> bool:
        """True if work may begin under this lease now; False while it waits for its renewal.

        Raises:
            LeaseLost: another process has the partition.
        """
        current = self._held.get(lease.partition)
        if current is None or current.token != lease.token:
            raise LeaseLost(
                f"Partition {lease.partition} of queue {self._queue!r} is no longer leased to {self._owner!r}: "
                f"token {lease.token} has ended. Another process does the work from the last commit on."
            )
        return self._now() < current.deadline - self._margin

    def surplus(self, lease: Lease) -> bool:
        """True if the partition is to be given back as soon as nobody works in it."""
        return lease.partition in self._leaving

    def lost(self, lease: Lease) -> None:
        """Tell that the storage refused the lease's token."""
        current = self._held.get(lease.partition)
        if current is not None and current.token == lease.token:
            del self._held[lease.partition]
            self._leaving.discard(lease.partition)
            self._count_lost([lease.partition], "another process has taken over")
            self._next_beat = self._now()
            self._worker.wake()

    @contextmanager
    def working(self, partitions: Iterable[int]) -> Generator[None, None, None]:
        """Keep the partitions from being given back meanwhile."""
        busy = tuple(partitions)
        for partition in busy:
            self._working[partition] += 1
        try:
            yield
        finally:
            for partition in busy:
                self._working[partition] -= 1
            if self._leaving and any(partition in self._leaving for partition in busy):
                self._worker.wake()

    async def _beat(self) -> float:
        self._notice()
        await self._release_surplus()
        asked = self._now()
        if asked < self._next_beat:
            return self._next_beat - asked
        grant = await self._storage.lease(
            self._queue, self._owner, partitions=self._partitions, seconds=self._seconds
        )
        # Counted from before the question, on the clock that `usable` reads: never later than the storage's own expiry.
        held = {one.partition: replace(one, deadline=asked + self._seconds) for one in grant.held}
        before, self._held = self._held, held
        lost = [
            partition
            for partition, lease in before.items()
            if partition not in self._lapsed
            and (partition not in held or held[partition].token != lease.token)
        ]
        self._count_lost(lost, "another process has taken over")
        self._count_taken(grant.held)
        self._lapsed.clear()
        self._leaving = {lease.partition for lease in grant.surplus}
        self._next_beat = asked + self._seconds / 3
        await self._release_surplus()
        self._changed()
        return max(self._next_beat - self._now(), 0.001)

    async def _release_surplus(self) -> None:
        idle = [
            self._held[partition]
            for partition in self._leaving
            if partition in self._held and not self._working[partition]
        ]
        if idle:
            await self._storage.release(self._queue, self._owner, idle)
            for lease in idle:
                self._held.pop(lease.partition, None)
                self._leaving.discard(lease.partition)
            self._changed()

    def _notice(self) -> None:
        """Find leases that were not renewed in time."""
        late = self._now() + self._margin
        lapsed = [
            partition
            for partition, lease in self._held.items()
            if late >= lease.deadline and partition not in self._lapsed
        ]
        self._lapsed.update(lapsed)
        self._count_lost(lapsed, f"it was not renewed within {self._seconds:g} seconds")

    def _count_lost(self, partitions: Sequence[int], why: str) -> None:
        if not partitions:
            return
        self._telemetry.count(Count.LEASE_LOST, len(partitions), queue=self._queue)
        self._telemetry.warning(
            LogEvent.LEASE_LOST,
            f"The lease of {named(partitions)} of queue {self._queue!r} is lost: {why}. Nothing more is begun there; what is "
            "under way commits only if no other process has taken over.",
            queue=self._queue,
            partitions=partitions,
        )

    def _count_taken(self, leases: Iterable[Lease]) -> None:
        """Say whose partitions these were: the storage tells it with the grant that takes them, and only then."""
        taken: dict[str, list[int]] = {}
        for lease in leases:
            if lease.taken_from is not None:
                taken.setdefault(lease.taken_from, []).append(lease.partition)
        for owner, partitions in taken.items():
            self._telemetry.count(Count.TAKEN_OVER, len(partitions), queue=self._queue)
            self._telemetry.warning(
                LogEvent.TAKEN_OVER,
                f"{named(partitions).capitalize()} of queue {self._queue!r} taken over from {owner}, which gave no sign of life "
                f"for {self._seconds:g} s: it died, hung or could not reach the storage.",
                queue=self._queue,
                partitions=partitions,
                owner=owner,
            )


def named(partitions: Sequence[int]) -> str:
    """Partitions in a sentence: "partition 3", "partitions 0, 1 and 7"."""
    *most, last = map(str, sorted(partitions))
    return f"partitions {', '.join(most)} and {last}" if most else f"partition {last}"
