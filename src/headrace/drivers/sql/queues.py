"""The durable queues: reading, parking, redriving, counting. See `parking` and `outbox` for the statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from headrace.drivers.sql import outbox, parking
from headrace.drivers.sql.fence import lost, own
from headrace.drivers.sql.rows import failure_values, stored
from headrace.drivers.sql.steps import Outcome, Step, Unexpected
from headrace.drivers.sql.transaction import delay_ms, promote
from headrace.storage import Backlog, Failure, Lease, State, Stored

if TYPE_CHECKING:
    from sqlalchemy import Executable

    from headrace.drivers.sql.database import Database

CHUNK = 500
"""How many rows one statement names: below the number of parameters of every database, and short as a transaction."""


class Queues:
    """The queues of a database. Each method is the method of the same name of `Storage`.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ready: dict[tuple[int, bool], Executable] = {}
        self._dead = {one: outbox.dead_letters(one_queue=one) for one in (False, True)}

    async def ready(
        self, queue: str, partitions: Sequence[int], *, limit: int, paused_topics: Sequence[str]
    ) -> Sequence[Stored]:
        """The oldest READY messages."""
        if not partitions:
            return ()
        shape = (len(partitions), bool(paused_topics))
        if shape not in self._ready:
            self._ready[shape] = outbox.oldest_ready(shape[0], pauses=shape[1])
        values: dict[str, object] = {"queue": queue, "most": limit}
        values.update({f"p_{number}": partition for number, partition in enumerate(partitions)})
        if paused_topics:
            values["paused"] = list(paused_topics)
        (found,) = await self._database.read(Step(self._ready[shape], values))
        return [stored(row) for row in found.rows]

    async def runnable(
        self, queue: str, partitions: Sequence[int], *, limit: int
    ) -> Sequence[Stored]:
        """Parked messages that may run now."""
        values = {"queue": queue, "partitions": list(partitions), "most": limit}
        (found,) = await self._database.read(Step(parking.runnable, values))
        return [stored(row) for row in found.rows]

    async def due_in(self, queue: str, partitions: Sequence[int]) -> float | None:
        """Seconds until one of them may run."""
        values = {"queue": queue, "partitions": list(partitions)}
        (found,) = await self._database.read(Step(parking.due_in, values))
        due, now = cast("tuple[int | None, int]", found.rows[0])
        return None if due is None else max(0.0, (due - now) / 1000)

    async def delete(self, positions: Sequence[int]) -> None:
        """Delete published messages."""
        for start in range(0, len(positions), CHUNK):
            rows = [{"r_position": p} for p in positions[start : start + CHUNK]]
            await self._database.write(Step(outbox.delete_published, rows))

    async def attempt(self, lease: Lease, message: Stored) -> bool:
        """Count an attempt."""
        found = await self._under(lease, Step(parking.attempt, {"r_position": message.position}))
        return found[-1].count == 1

    async def repark(
        self,
        lease: Lease,
        message: Stored,
        *,
        state: State,
        delay_seconds: float,
        failure: Failure | None,
        attempts: int | None,
    ) -> None:
        """Put a message back at its place; one that is gone stays gone."""
        values = {
            **failure_values(failure),
            "r_position": message.position,
            "v_state": int(state),
            "v_attempts": attempts,
            "p_delay_ms": delay_ms(state, delay_seconds),
        }
        await self._under(lease, Step(parking.repark, values))

    async def redrive(self, positions: Sequence[int]) -> int:
        """Make dead letters READY."""
        count = 0
        for start in range(0, len(positions), CHUNK):
            chunk = {"positions": list(positions[start : start + CHUNK])}
            (found,) = await self._database.write(Step(parking.redrive, chunk))
            count += found.count
        return count

    async def drop(self, positions: Sequence[int]) -> int:
        """Delete dead letters and release what is behind them."""
        count = 0
        for start in range(0, len(positions), CHUNK):
            chunk = {"positions": list(positions[start : start + CHUNK])}
            async with self._database.writing() as link:
                lanes, deleted = await link.run(
                    [Step(parking.dead_lanes, chunk), Step(parking.drop, chunk)]
                )
                steps = [promote(*cast("tuple[str, str, str]", tuple(lane))) for lane in lanes.rows]
                await link.run(steps, commit=True)
            count += deleted.count
        return count

    async def dead_letters(self, *, queue: str | None, after: int, limit: int) -> Sequence[Stored]:
        """Dead letters by position."""
        values: dict[str, object] = {"after": after, "most": limit}
        if queue is not None:
            values["queue"] = queue
        (found,) = await self._database.read(Step(self._dead[queue is not None], values))
        return [stored(row) for row in found.rows]

    async def backlog(self, queue: str) -> Backlog:
        """Count a queue."""
        (found,) = await self._database.read(Step(outbox.sizes, {"queue": queue}))
        rows = [cast("tuple[int, int, int]", row) for row in found.rows]
        sizes = {State(state): count for state, count, _ in rows}
        oldest = min((first for state, _, first in rows if state != State.DEAD), default=None)
        age = 0.0
        if oldest is not None:
            (aged,) = await self._database.read(Step(outbox.age, {"r_position": oldest}))
            # It may be gone since it was counted; then it was handled just now.
            age = max(0, cast("int", aged.rows[0][0])) / 1000 if aged.rows else 0.0
        return Backlog(
            ready=sizes.get(State.READY, 0),
            waiting=sizes.get(State.WAITING, 0),
            held=sizes.get(State.HELD, 0),
            dead=sizes.get(State.DEAD, 0),
            oldest_seconds=age,
        )

    async def _under(self, lease: Lease, *steps: Step) -> Sequence[Outcome]:
        try:
            return await self._database.write(own(lease), *steps)
        except Unexpected as error:
            raise lost(lease) from error
