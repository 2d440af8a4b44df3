"""The durable queues: reading, parking, counting. See `parking` and `outbox` for the statements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from headrace.drivers.sql import outbox, parking
from headrace.drivers.sql.fence import lost
from headrace.drivers.sql.holding import Holding
from headrace.drivers.sql.rows import failure_values, stored, stored_ready
from headrace.drivers.sql.statements import delay_ms
from headrace.drivers.sql.steps import Outcome, Step, Unexpected
from headrace.storage import Backlog, Failure, Lease, State, Stored

if TYPE_CHECKING:
    from sqlalchemy import Executable

    from headrace.drivers.sql.database import Database

PARTITIONS = 32
"""How many partitions one statement looks into: SQLite takes no more than 500 parts, three for each of them."""


class Queues:
    """The queues of a database. Each method is the method of the same name of `Storage`.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ready: dict[tuple[int, bool], Executable] = {}
        self._each: dict[tuple[Callable[[int], Executable], int], Executable] = {}
        self._holding = Holding(database)
        # What was found so at the last look; the next one need not read for nothing.
        self._blocked: set[str] = set()

    async def ready(
        self, queue: str, partitions: Sequence[int], *, limit: int, paused_topics: Sequence[str]
    ) -> Sequence[Stored]:
        """The oldest READY messages."""
        if not partitions:
            return ()
        shape = (len(partitions), bool(paused_topics))
        if shape not in self._ready:
            self._ready[shape] = outbox.oldest_ready(
                shape[0], pauses=shape[1], in_order=self._database.statements.reads_in_order
            )
        values: dict[str, object] = {"queue": queue, "most": limit}
        values.update({f"p_{number}": partition for number, partition in enumerate(partitions)})
        if paused_topics:
            values["paused"] = list(paused_topics)
        read = Step(self._ready[shape], values)
        again = queue in self._blocked
        rows = () if again else (await self._database.read(read))[0].rows
        if not rows or rows[0][-1] is not None:
            (blocked,) = await self._database.read(Step(outbox.blocked, {"queue": queue}))
            if blocked.rows:
                self._blocked.add(queue)
                return await self._holding.ready(
                    queue, partitions, limit=limit, paused_topics=paused_topics
                )
            self._blocked.discard(queue)
            if again or rows:
                # Only the owner of a partition, who asks, makes a message of it wait: since the look none came.
                rows = (await self._database.read(read))[0].rows
        return [stored_ready(row, queue) for row in rows]

    async def runnable(
        self, queue: str, partitions: Sequence[int], *, limit: int
    ) -> Sequence[Stored]:
        """Parked messages that may run now."""
        steps = self._on_partitions(parking.runnable, queue, partitions, {"most": limit})
        found = await self._database.read(*steps) if steps else ()
        rows = [stored(row) for outcome in found for row in outcome.rows]
        return rows if len(steps) < 2 else sorted(rows, key=_position)[:limit]

    async def due_in(self, queue: str, partitions: Sequence[int]) -> float | None:
        """Seconds until one of them may run."""
        steps = self._on_partitions(parking.due_in, queue, partitions, {})
        found = await self._database.read(*steps) if steps else ()
        rows = [cast("tuple[int | None, int]", outcome.rows[0]) for outcome in found]
        return min(
            (max(0.0, (due - now) / 1000) for due, now in rows if due is not None), default=None
        )

    def _on_partitions(
        self,
        make: Callable[[int], Executable],
        queue: str,
        partitions: Sequence[int],
        values: Mapping[str, object],
    ) -> Sequence[Step]:
        """The statement for these partitions, in as many steps as are needed to keep each short."""
        steps: list[Step] = []
        for start in range(0, len(partitions), PARTITIONS):
            some = list(partitions[start : start + PARTITIONS])
            # Few shapes, because each is compiled once: filled up with a partition that there is not.
            some += [-1] * (2 ** (len(some) - 1).bit_length() - len(some))
            statement = self._each.get((make, len(some)))
            if statement is None:
                statement = self._each[make, len(some)] = make(len(some))
            numbers = {f"p_{number}": partition for number, partition in enumerate(some)}
            steps.append(Step(statement, {"queue": queue, **values, **numbers}))
        return steps

    async def delete(self, positions: Sequence[int]) -> None:
        """Delete published messages."""
        say = self._database.statements
        # Sorted, so that two that delete the same rows take them in one order.
        ordered = sorted(positions)
        for start in range(0, len(ordered), say.chunk):
            await self._database.write(say.delete(ordered[start : start + say.chunk]))

    async def attempt(self, lease: Lease, message: Stored) -> bool:
        """Count an attempt."""
        row = {"r_position": message.position}
        count = Step(parking.attempt, {**row, "v_attempts": message.attempts + 1})
        found = await self._under(lease, count, Step(parking.may_run, row))
        return bool(found[-1].rows)

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
            return await self._database.write(self._database.statements.own(lease), *steps)
        except Unexpected as error:
            raise lost(lease) from error


def _position(message: Stored) -> int:
    return message.position
