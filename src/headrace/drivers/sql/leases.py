"""Who works which partition: taking, renewing and giving back leases by the database's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import BigInteger, Integer, String, bindparam, case, delete, func, select, update

from headrace.drivers.sql.dialects.base import Dialect, now_ms
from headrace.drivers.sql.schema import lease, owner
from headrace.drivers.sql.steps import Step
from headrace.leases import clock
from headrace.storage import Lease, LeaseGrant

if TYPE_CHECKING:
    from sqlalchemy import Insert

    from headrace.drivers.sql.database import Database

_queue = bindparam("q", type_=String)
_owner = bindparam("o", type_=String)
_partition = bindparam("p", type_=Integer)
_until = now_ms() + bindparam("ms", type_=BigInteger)

_beat: Final = (
    update(owner)
    .where(owner.c.queue == _queue, owner.c.owner == _owner)
    .values(expires_at_ms=_until)
)
_bury: Final = delete(owner).where(owner.c.queue == _queue, owner.c.expires_at_ms <= now_ms())
_leave: Final = delete(owner).where(owner.c.queue == _queue, owner.c.owner == _owner)
_alive: Final = select(func.count()).select_from(owner).where(owner.c.queue == _queue)
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
    .with_for_update()
)
_renew: Final = (
    update(lease)
    .where(lease.c.queue == _queue, lease.c.partition == _partition)
    .values(expires_at_ms=_until)
)
_take: Final = (
    update(lease)
    .where(lease.c.queue == _queue, lease.c.partition == _partition)
    .values(owner=_owner, token=lease.c.token + 1, expires_at_ms=_until)
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
        missing = [{"q": queue, "p": partition} for partition in range(partitions)]
        async with self._database.writing() as link:
            found = await link.run(
                [
                    Step(self._new_owner, {"q": queue, "o": name}),
                    Step(_beat, mine),
                    Step(_bury, {"q": queue}),
                    Step(self._new_lease, missing),
                    Step(_alive, {"q": queue}),
                    Step(_all, {"q": queue}),
                ]
            )
            alive = cast("int", found[4].rows[0][0])
            rows = [_row(row) for row in found[5].rows if cast("int", row[0]) < partitions]
            share = -(-partitions // max(alive, 1))
            held = [row for row in rows if row.owner == name]
            free = [row for row in rows if row.owner is None or (row.owner != name and row.expired)]
            taken = free[: max(0, share - len(held))]
            steps = [
                Step(statement, [{**mine, "p": row.partition} for row in chosen])
                for statement, chosen in ((_renew, held), (_take, taken))
                if chosen
            ]
            await link.run(steps, commit=True)
        leases = [
            Lease(queue, row.partition, row.token, name, deadline, row.position) for row in held
        ] + [
            Lease(
                *(queue, row.partition, row.token + 1, name, deadline, row.position),
                unclean=row.owner is not None,
            )
            for row in taken
        ]
        leases.sort(key=lambda one: one.partition)
        return LeaseGrant(held=tuple(leases), surplus=tuple(leases[share:]))

    async def release(
        self, queue: str, name: str, leases: Sequence[Lease], *, leaving: bool
    ) -> None:
        """See `Storage.release`."""
        steps: list[Step] = []
        if leases:
            mine = [{"q": queue, "p": one.partition, "o": name, "t": one.token} for one in leases]
            steps.append(Step(_release, mine))
        if leaving:
            steps.append(Step(_leave, {"q": queue, "o": name}))
        if steps:
            await self._database.write(*steps)

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
