"""Who works which partition: leases, tokens, signs of life and positions in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.errors import LeaseLost
from headrace.storage import Lease, LeaseGrant, Owner


@dataclass(slots=True)
class _Partition:
    token: int = 0
    owner: str | None = None
    expires_at: float = 0.0
    position: str | None = None


@dataclass(slots=True)
class _Queue:
    partitions: dict[int, _Partition] = field(default_factory=dict[int, _Partition])
    owners: dict[str, float] = field(default_factory=dict[str, float])


class Leases:
    """The lease table. Every method is one step: nothing else runs in between."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    def lease(
        self,
        queue: str,
        owner: str,
        *,
        partitions: int,
        seconds: float,
        now: float,
        deadline: float,
    ) -> LeaseGrant:
        """See `Storage.lease`; `now` by the storage's clock, `deadline` by the owner's."""
        table = self._queues.setdefault(queue, _Queue())
        table.owners[owner] = now + seconds
        table.owners = {name: end for name, end in table.owners.items() if end > now}
        share = -(-partitions // len(table.owners))

        rows = {p: table.partitions.setdefault(p, _Partition()) for p in range(partitions)}
        held: dict[int, str | None] = {p: None for p, row in rows.items() if row.owner == owner}
        for p, row in rows.items():
            if len(held) >= share:
                break
            if p in held or (row.owner is not None and row.expires_at > now):
                continue
            held[p] = row.owner
            row.token += 1
            row.owner = owner
        for p in held:
            rows[p].expires_at = now + seconds

        leases = tuple(
            Lease(
                *(queue, p, rows[p].token, owner, deadline, rows[p].position),
                unclean=held[p] is not None,
                taken_from=held[p],
                seconds=seconds,
            )
            for p in sorted(held)
        )
        return LeaseGrant(held=leases, surplus=leases[share:])

    def release(self, queue: str, owner: str, leases: Sequence[Lease], *, leaving: bool) -> None:
        """See `Storage.release`."""
        table = self._queues.get(queue)
        if table is None:
            return
        if leaving:
            table.owners.pop(owner, None)
        for lease in leases:
            row = table.partitions.get(lease.partition)
            if row is not None and row.token == lease.token and row.owner == owner:
                row.owner = None

    def owners(self, queue: str, now: float) -> dict[int, Owner | None]:
        """See `Storage.owners`."""
        table = self._queues.get(queue, _Queue())
        return {
            p: None if row.owner is None else Owner(row.owner, row.expires_at - now)
            for p, row in sorted(table.partitions.items())
        }

    def check(self, lease: Lease) -> None:
        """Raise `LeaseLost` unless the lease's token is the last one given for its partition."""
        table = self._queues.get(lease.queue)
        row = table.partitions.get(lease.partition) if table else None
        if row is None or row.token != lease.token:
            current = f"token {row.token}, owner {row.owner!r}" if row else "no lease"
            raise LeaseLost(
                f"{lease.owner!r} wrote to partition {lease.partition} of {lease.queue!r} with token {lease.token},"
                f" but there is {current} now: roll back, and lease again before going on"
            )

    def advance(self, lease: Lease, position: str) -> None:
        """Record a group's position; the token was checked."""
        self._queues[lease.queue].partitions[lease.partition].position = position

    def positions(self, queue: str) -> dict[int, str]:
        """See `Storage.positions`."""
        table = self._queues.get(queue, _Queue())
        return {p: row.position for p, row in table.partitions.items() if row.position is not None}
