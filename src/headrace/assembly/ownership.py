"""Who works which partition, and a watch that says when nobody does (G13)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from headrace.backoff import Outage
from headrace.leases import clock, named
from headrace.storage import group_queue, outbox_queue
from headrace.telemetry import Count, LogEvent
from headrace.worker import Worker, infrastructure

if TYPE_CHECKING:
    from headrace.broker import Reading
    from headrace.storage import Storage
    from headrace.telemetry import Telemetry

LEASES = 2
"""How many leases long nobody may have a partition before it is said: one is the time that a takeover takes."""


class Ownership(Struct, frozen=True):
    """Who works the partitions of one queue now.

    Args:
        queue: `outbox:<app>`, `group:<group>/<topic>` or `after:<app>`.
        owners: the process by partition; None where nobody gives a sign of life.
    """

    queue: str
    owners: Mapping[int, str | None]

    @property
    def ownerless(self) -> tuple[int, ...]:
        """The partitions that nobody works: what stands there waits."""
        return tuple(p for p, owner in self.owners.items() if owner is None)


class Watched(Struct, frozen=True):
    """A queue to look at.

    Args:
        queue: its name.
        role: of the processes that work it.
        partitions: how many it has; None: as many as were ever worked, one at least.
    """

    queue: str
    role: str
    partitions: int | None = None


def flow_queues(app: str, partitions: int, readings: Iterable[Reading]) -> list[Watched]:
    """The outbox of an app, with its number of partitions, and the queues of its groups."""
    groups = [Watched(group_queue(one.group, one.topic), "consume") for one in readings]
    return [Watched(outbox_queue(app), "relay", partitions), *groups]


class OwnershipWatch:
    """Looks at the owners of queues at regular intervals, in every process, also in one that works none of them.

    Args:
        storage: where the leases are.
        watched: the queues.
        telemetry: where it is said and counted.
        lease_seconds: how long a lease lasts; it looks twice in that time.
        now: the clock by which it measures; default `leases.clock`, another one in tests.
    """

    def __init__(
        self,
        storage: Storage,
        watched: Collection[Watched],
        telemetry: Telemetry,
        *,
        lease_seconds: float,
        now: Callable[[], float] = clock,
    ) -> None:
        self._storage = storage
        self._watched = tuple(watched)
        self._telemetry = telemetry
        self._seconds = lease_seconds
        self._now = now
        # When each partition was first seen without an owner, and those of which it was said.
        self._since: dict[tuple[str, int], float] = {}
        self._said: set[tuple[str, int]] = set()
        outage = Outage(
            "Looking for partitions without an owner",
            Count.CONSUMER_PAUSED,
            telemetry,
            lambda error: infrastructure(storage, error),
        )
        self._worker = Worker("headrace ownership", self._step, outage)

    def start(self) -> None:
        """Look in the background."""
        self._worker.start()

    async def stop(self) -> None:
        """Look no more."""
        await self._worker.stop(drain_seconds=5.0)
        self._since.clear()
        self._said.clear()

    @property
    def ownerless(self) -> Mapping[str, tuple[int, ...]]:
        """The partitions by queue that nobody has worked for longer than a takeover takes; does no I/O."""
        found: dict[str, tuple[int, ...]] = {}
        for queue, partition in sorted(self._said):
            found[queue] = (*found.get(queue, ()), partition)
        return found

    async def now(self) -> tuple[Ownership, ...]:
        """The owners of all queues, as the storage knows them now; a query for each."""
        return tuple([await self._owners(one) for one in self._watched])

    async def _owners(self, watched: Watched) -> Ownership:
        found = await self._storage.owners(watched.queue)
        count = watched.partitions
        partitions: Iterable[int] = found or (0,) if count is None else range(count)
        owners = {p: found.get(p) for p in partitions}
        return Ownership(
            watched.queue,
            {p: one.name if one and one.expires_seconds > 0 else None for p, one in owners.items()},
        )

    async def _step(self) -> float:
        for watched in self._watched:
            self._look(watched, await self._owners(watched))
        # Often enough to see every owner, however short: each lease lasts longer than that.
        return self._seconds / 2

    def _look(self, watched: Watched, ownership: Ownership) -> None:
        now, ownerless = self._now(), set(ownership.ownerless)
        late: list[int] = []
        back: list[int] = []
        for partition in ownership.owners:
            place = (watched.queue, partition)
            if partition not in ownerless:
                self._since.pop(place, None)
                if place in self._said:
                    self._said.discard(place)
                    back.append(partition)
            elif now - self._since.setdefault(place, now) > LEASES * self._seconds:
                if place not in self._said:
                    self._said.add(place)
                    late.append(partition)
        if late:
            self._telemetry.count(Count.OWNERLESS, len(late), queue=watched.queue)
            self._telemetry.warning(
                LogEvent.OWNERLESS,
                f"Nobody has worked {named(late)} of queue {watched.queue!r} for {LEASES * self._seconds:g} seconds: what is "
                f"there waits. Start a process with the role {watched.role!r}; if there is one, look into its log.",
                queue=watched.queue,
                partitions=late,
            )
        if back:
            self._telemetry.info(
                LogEvent.OWNED_AGAIN,
                f"Somebody works {named(back)} of queue {watched.queue!r} again.",
                queue=watched.queue,
                partitions=back,
            )
