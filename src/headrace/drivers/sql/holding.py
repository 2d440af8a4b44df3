"""The outbox while a message of it is dead: who waits behind it is marked once, not looked at in every reading (G6).

A sender adds rows without a look at others, so whether one waits behind a dead letter is found out when it is read. Then
it becomes HELD and is passed over by the index from then on, however many there are. When the dead letter has gone, the
first HELD row of its key is its head, and the rows become READY again, oldest first, as fast as they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Final, cast

from headrace.drivers.sql import outbox, parking
from headrace.drivers.sql.rows import stored
from headrace.drivers.sql.steps import Step
from headrace.storage import State

if TYPE_CHECKING:
    from sqlalchemy import Executable

    from headrace.drivers.sql.database import Database
    from headrace.storage import Stored

CHUNK: Final = 512
"""How many rows are looked at in a partition at once, and marked in one transaction: short, and many more than one."""


class Holding:
    """Reads outboxes in which something is blocked.

    Args:
        database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looks: dict[tuple[int, bool], Executable] = {}

    async def ready(
        self, queue: str, partitions: Sequence[int], *, limit: int, paused_topics: Sequence[str]
    ) -> Sequence[Stored]:
        """The oldest READY messages that wait behind none that is not. Marks those that do, and releases who need not."""
        await self._release(queue, partitions, limit)
        shape = (len(partitions), bool(paused_topics))
        if shape not in self._looks:
            self._looks[shape] = outbox.oldest_looked_at(shape[0], pauses=shape[1])
        values: dict[str, object] = {"queue": queue, "most": max(limit, CHUNK)}
        values.update({f"p_{number}": partition for number, partition in enumerate(partitions)})
        if paused_topics:
            values["paused"] = list(paused_topics)
        while True:
            (found,) = await self._database.read(Step(self._looks[shape], values))
            rows = cast("Sequence[tuple[int, int]]", found.rows)
            free = [position for position, behind in rows if not behind][:limit]
            waiting = [position for position, behind in rows if behind]
            for chunk in _chunks(waiting):
                await self._hold(chunk)
            # Those behind others may have filled the answer: what is held by now is not in the next one.
            if len(free) == limit or not waiting:
                return await self._at(free)

    async def _at(self, positions: Sequence[int]) -> Sequence[Stored]:
        steps = [Step(outbox.at_positions, chunk) for chunk in _chunks(positions)]
        found = await self._database.read(*steps) if steps else ()
        return [stored(row, to_publish=True) for outcome in found for row in outcome.rows]

    async def _hold(self, chunk: Mapping[str, Sequence[int]]) -> None:
        async with self._database.writing() as link:
            # Who redrives or drops the dead letter waits, or has done so: then these wait no more.
            _, found = await link.run(
                [Step(parking.own_all, chunk), Step(outbox.behind_now, chunk)]
            )
            still = [cast("int", row[0]) for row in found.rows]
            await link.run([Step(outbox.hold, one) for one in _chunks(still)], commit=True)

    async def _release(self, queue: str, partitions: Sequence[int], most: int) -> None:
        """Make the oldest HELD rows READY whose key has nothing dead before them, at least so many of each key."""
        values = {"queue": queue, "partitions": list(partitions), "most": CHUNK}
        (found,) = await self._database.read(Step(outbox.released, values))
        rows = cast("Sequence[tuple[int, int, str, str]]", found.rows)
        for partition, position, topic, key in rows:
            # Each time from where the last ended: what has left an index is in the way until the database has cleaned it.
            lane = {"h_queue": queue, "h_topic": topic, "h_key": key}
            left, start = most, position
            while left > 0 and (gone := await self._release_some(partition, lane, start)):
                left, start = left - len(gone), gone[-1]

    async def _release_some(
        self, partition: int, lane: Mapping[str, object], start: int
    ) -> Sequence[int]:
        own = Step(parking.own_partition, {"h_queue": lane["h_queue"], "h_partition": partition})
        first = Step(outbox.lane, {**lane, "from_position": start, "most": CHUNK})
        async with self._database.writing() as link:
            _, found = await link.run([own, first])
            rows = cast("Sequence[tuple[int, int]]", found.rows)
            held = [at for at, _ in takewhile(lambda row: row[1] == State.HELD, rows)]
            steps = [Step(outbox.free, chunk) for chunk in _chunks(held)]
            steps.append(Step(parking.promote, lane))
            await link.run(steps, commit=True)
            return held


def _chunks(positions: Sequence[int]) -> Iterator[Mapping[str, Sequence[int]]]:
    """The parameters that name these positions, filled up with the last one: of few lengths, for each is compiled once."""
    for start in range(0, len(positions), CHUNK):
        some = list(positions[start : start + CHUNK])
        some += some[-1:] * (2 ** (len(some) - 1).bit_length() - len(some))
        yield {"positions": some}
