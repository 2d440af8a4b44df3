"""Who works which partition: taking, renewing and giving back leases by the database's clock.

A lease lasts as long as its owner's sign of life (`headrace_owner`), so a renewal touches no lease: whoever works under one
has its row locked for as long as a handler takes. An owner that leaves while it still works leaves the end behind in the
lease itself. Nobody waits for a locked lease; it is tried again with the next sign of life.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import (
    BigInteger,
    Integer,
    String,
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    update,
)

from headrace.drivers.sql.dialect import Dialect, now_ms
from headrace.drivers.sql.schema import lease, owner
from headrace.drivers.sql.steps import Step
from headrace.leases import clock
from headrace.storage import Lease, LeaseGrant, Owner

if TYPE_CHECKING:
    from sqlalchemy import Insert

    from headrace.drivers.sql.database import Database

_queue = bindparam("q", type_=String)
_owner = bindparam("o", type_=String)
_partition = bindparam("p", type_=Integer)
_until = now_ms() + bindparam("ms", type_=BigInteger)
_partitions = bindparam("partitions", type_=Integer, expanding=True)

_beat: Final = (
    update(owner)
    .where(owner.c.queue == _queue, owner.c.owner == _owner)
    .values(expires_at_ms=_until)
)
_dead: Final = (
    select(owner.c.owner)
    .where(owner.c.queue == _queue, owner.c.expires_at_ms <= now_ms())
    .with_for_update(skip_locked=True)
)
_bury: Final = delete(owner).where(owner.c.queue == _queue, owner.c.owner == _owner)
_alive: Final = select(owner.c.owner).where(owner.c.queue == _queue)
_all: Final = (
    select(
        lease.c.partition,
        lease.c.token,
        lease.c.owner,
        case((lease.c.expires_at_ms <= now_ms(), 1), else_=0),
        lease.c.position,
    )
    .where(lease.c.queue == _queue)
    .order_by(lease.c.partition)
)
_free: Final = _all.where(lease.c.partition.in_(_partitions)).with_for_update(skip_locked=True)
_take: Final = (
    update(lease)
    .where(lease.c.queue == _queue, lease.c.partition == _partition)
    .values(owner=_owner, token=lease.c.token + 1, expires_at_ms=0)
)
_left: Final = (
    select(lease.c.partition, owner.c.expires_at_ms)
    .join(owner, and_(owner.c.queue == lease.c.queue, owner.c.owner == lease.c.owner))
    .where(lease.c.queue == _queue, lease.c.owner == _owner)
    .order_by(lease.c.partition)
    .with_for_update(of=lease, skip_locked=True)
)
_last: Final = (
    update(lease)
    .where(lease.c.queue == _queue, lease.c.partition == _partition)
    .values(expires_at_ms=bindparam("ends", type_=BigInteger))
)
_release: Final = (
    update(lease)
    .where(
        lease.c.queue == _queue,
        lease.c.partition == _partition,
        lease.c.owner == _owner,
        lease.c.token == bindparam("t", type_=BigInteger),
    )
    .values(owner=None, expires_at_ms=0)
)
_ends = func.coalesce(owner.c.expires_at_ms, 0)
_owners: Final = (
    select(
        lease.c.partition,
        lease.c.owner,
        case((_ends > lease.c.expires_at_ms, _ends), else_=lease.c.expires_at_ms) - now_ms(),
    )
    .select_from(
        lease.outerjoin(owner, and_(owner.c.queue == lease.c.queue, owner.c.owner == lease.c.owner))
    )
    .where(lease.c.queue == _queue)
    .order_by(lease.c.partition)
)
_positions: Final = select(lease.c.partition, lease.c.position).where(
    lease.c.queue == _queue, lease.c.position.is_not(None)
)


@dataclass(frozen=True, slots=True)
class _Row:
    partition: int
    token: int
    owner: str | None
    expired: bool
    position: str | None

    def free(self, alive: Collection[str]) -> bool:
        """True if anybody may take it."""
        return self.owner is None or (self.owner not in alive and self.expired)

    def same(self, seen: _Row | None) -> bool:
        """True if nobody has taken it since it was seen, or found missing."""
        return self.owner is None or (
            seen is not None and (self.token, self.owner) == (seen.token, seen.owner)
        )


class LeaseTable:
    """The leases of all queues of a database.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._new_owner = _new_owner(database.dialect)
        self._new_lease = _new_lease(database.dialect)

    async def lease(self, queue: str, name: str, *, partitions: int, seconds: float) -> LeaseGrant:
        """See `Storage.lease`."""
        deadline = clock() + seconds
        mine = {"q": queue, "o": name, "ms": round(seconds * 1000)}
        async with self._database.writing() as link:
            (beat,) = await link.run([Step(_beat, mine)])
            if beat.count == 0:
                await link.run([Step(self._new_owner, {"q": queue, "o": name}), Step(_beat, mine)])
            # The leases before the living: who takes one gives a sign of life first, so its owner is among these.
            dead, found, living = await link.run(
                [Step(each, {"q": queue}) for each in (_dead, _all, _alive)]
            )
            gone = {cast("str", one[0]) for one in dead.rows}
            alive = {cast("str", one[0]) for one in living.rows} - gone
            rows = {row.partition: row for row in map(_row, found.rows)}
            steps: list[Step] = []
            if gone:
                steps.append(Step(_bury, [{"q": queue, "o": one} for one in sorted(gone)]))
            missing = [p for p in range(partitions) if p not in rows]
            if missing:
                steps.append(Step(self._new_lease, [{"q": queue, "p": p} for p in missing]))
            held = [row for p, row in rows.items() if row.owner == name and p < partitions]
            share = -(-partitions // max(len(alive), 1))
            free = [p for p in range(partitions) if p in missing or rows[p].free(alive)]
            wanted = free[: max(0, share - len(held))]
            if wanted:
                steps.append(Step(_free, {"q": queue, "partitions": wanted}))
            locked = (await link.run(steps))[-1].rows if steps else ()
            taken = (
                [row for row in map(_row, locked) if row.same(rows.get(row.partition))]
                if wanted
                else []
            )
            takes = [{**mine, "p": row.partition} for row in taken]
            await link.run([Step(_take, takes)] if takes else [], commit=True)
        leases = [
            Lease(*(queue, row.partition, row.token, name, deadline, row.position), seconds=seconds)
            for row in held
        ] + [
            Lease(
                *(queue, row.partition, row.token + 1, name, deadline, row.position),
                unclean=row.owner is not None,
                taken_from=row.owner,
                seconds=seconds,
            )
            for row in taken
        ]
        leases.sort(key=lambda one: one.partition)
        return LeaseGrant(held=tuple(leases), surplus=tuple(leases[share:]))

    async def release(
        self, queue: str, name: str, leases: Sequence[Lease], *, leaving: bool
    ) -> None:
        """See `Storage.release`."""
        mine = [
            {"q": queue, "p": one.partition, "o": name, "t": one.token}
            for one in sorted(leases, key=lambda one: one.partition)
        ]
        back = [Step(_release, mine)] if mine else []
        if not leaving:
            if back:
                await self._database.write(*back)
            return
        async with self._database.writing() as link:
            left = (await link.run([*back, Step(_left, {"q": queue, "o": name})]))[-1]
            ends = [{"q": queue, "p": row[0], "ends": row[1]} for row in left.rows]
            last = [Step(_last, ends)] if ends else []
            await link.run([*last, Step(_bury, {"q": queue, "o": name})], commit=True)

    async def owners(self, queue: str) -> Mapping[int, Owner | None]:
        """See `Storage.owners`."""
        (found,) = await self._database.read(Step(_owners, {"q": queue}))
        rows = [cast("tuple[int, str | None, int]", row) for row in found.rows]
        return {p: None if name is None else Owner(name, left / 1000) for p, name, left in rows}

    async def positions(self, queue: str) -> Mapping[int, str]:
        """See `Storage.positions`."""
        (found,) = await self._database.read(Step(_positions, {"q": queue}))
        return {cast("int", row[0]): cast("str", row[1]) for row in found.rows}


def _new_owner(dialect: Dialect) -> Insert:
    return dialect.insert_new(owner).values(queue=_queue, owner=_owner, expires_at_ms=0)


def _new_lease(dialect: Dialect) -> Insert:
    return dialect.insert_new(lease).values(
        queue=_queue, partition=_partition, token=0, owner=None, expires_at_ms=0
    )


def _row(row: Sequence[object]) -> _Row:
    partition, token, name, expired, position = cast(
        "tuple[int, int, str | None, int, str | None]", row
    )
    return _Row(partition, token, name, bool(expired), position)
