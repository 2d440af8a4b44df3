"""Deleting log messages that are old and that every group has finished, a chunk at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from headrace.drivers.sql import log
from headrace.drivers.sql.steps import Step

if TYPE_CHECKING:
    from headrace.drivers.sql.database import Database
    from headrace.drivers.sql.storage import SqlStorage

CHUNK: Final = 1_000
"""Rows deleted of a partition in one transaction: some milliseconds of the write turn."""

_ALL: Final = 2**62


class Housekeeping:
    """Deletes what is finished, now and then.

    Args:
        storage: where the logs and the groups' positions are.
        retention_seconds: how old a message must be.
        every_seconds: the least time between two runs for a topic; default 1, as often as is cheap.
        now: the clock; another one in tests.
    """

    def __init__(
        self,
        storage: SqlStorage,
        retention_seconds: float,
        *,
        every_seconds: float = 1.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._retention_ms = round(retention_seconds * 1000)
        self._every_seconds = every_seconds
        self._now = now
        self._next: dict[str, float] = {}

    def due(self, topic: str) -> bool:
        """True if the last run for the topic was long enough ago."""
        return self._now() >= self._next.get(topic, 0.0)

    async def run(self, topic: str, partitions: int) -> int:
        """Delete a chunk of each partition. Returns how many messages."""
        self._next[topic] = self._now() + self._every_seconds
        database = self._storage.database
        (found,) = await database.read(Step(log.finished, {}))
        floors = _floors([cast("_Finished", row) for row in found.rows], topic)
        if not floors and self._retention_ms == 0:
            # Nobody has come yet; whoever comes starts at the earliest retained message.
            return 0
        deleted = 0
        for partition in range(partitions):
            floor = floors.get(partition, 0) if floors else _ALL
            if floor > 0:
                values = {
                    "t": topic,
                    "p": partition,
                    "upto": floor,
                    "age_ms": self._retention_ms,
                    "most": CHUNK,
                }
                deleted += await _forget(database, values)
        return deleted


async def _forget(database: Database, values: Mapping[str, object]) -> int:
    if not database.statements.reads_before_deleting:
        (outcome,) = await database.write(Step(log.forget, values))
        return outcome.count
    (found,) = await database.read(Step(log.old, values))
    where = {"t": values["t"], "p": values["p"]}
    rows = [{**where, "r_position": row[0]} for row in found.rows]
    if not rows:
        return 0
    (outcome,) = await database.write(Step(log.delete_one, rows))
    return outcome.count


_Finished = tuple[str, int, str | None]


def _floors(finished: Sequence[_Finished], topic: str) -> Mapping[int, int]:
    """The position that every group has finished, by partition; 0 if one has not begun.

    Names of groups and topics may contain slashes, so a lease of another topic may be counted: that keeps more, never less.
    """
    floors: dict[int, int] = {}
    for queue, partition, position in finished:
        if queue.endswith(f"/{topic}"):
            floors[partition] = min(floors.get(partition, _ALL), int(position or 0))
    return floors
