"""The half of `MemoryStorage` that people work with: see `headrace.inspection`."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from headrace.drivers.memory.queue import Row
from headrace.drivers.memory.records import Said
from headrace.storage import (
    Audit,
    AuditNote,
    DeadErrors,
    Handled,
    Pulse,
    State,
    Stored,
)

if TYPE_CHECKING:
    from headrace.drivers.memory.database import MemoryDatabase

MOST_HANDLED = 1_000


class MemoryInspection(ABC):
    """Looks at and mends what a `MemoryDatabase` keeps. Every method is one step: nothing else runs in between."""

    @abstractmethod
    def _open(self) -> MemoryDatabase: ...

    async def dead_letters(
        self,
        *,
        queue: str | None = None,
        after: int = 0,
        limit: int = 100,
        error: str | None = None,
        topic: str | None = None,
    ) -> Sequence[Stored]:
        """See `Inspection.dead_letters`."""
        chosen = (
            row
            for row in self._dead(queue)
            if row.position > after
            and topic in {None, row.message.topic}
            and error in {None, _error(row)}
        )
        found = heapq.nsmallest(limit, chosen, key=lambda row: row.position)
        return [row.stored() for row in found]

    async def dead_errors(self, *, queue: str | None = None) -> Sequence[DeadErrors]:
        """See `Inspection.dead_errors`."""
        found: dict[tuple[str, str, str], DeadErrors] = {}
        for row in sorted(self._dead(queue), key=lambda row: row.position):
            names = (row.queue, row.message.topic, _error(row))
            known = found.get(names) or DeadErrors(*names, 0, row.position, row.position, "")
            sample = row.failure.message if row.failure is not None else ""
            found[names] = DeadErrors(
                *names, known.count + 1, known.first_position, row.position, sample
            )
        return sorted(found.values(), key=lambda one: (-one.count, one.first_position))

    async def behind(self, position: int) -> int:
        """See `Inspection.behind`."""
        database = self._open()
        row = database.rows.get(position)
        if row is None:
            return 0
        return sum(other > position for other in database.queues[row.queue].lane_of(row))

    async def find(
        self,
        *,
        id: str | None = None,  # noqa: A002 - CloudEvents' own name
        topic: str | None = None,
        key: str | None = None,
        queue: str | None = None,
        correlation: str | None = None,
        limit: int = 100,
    ) -> Sequence[Stored]:
        """See `Inspection.find`."""
        found: list[Stored] = []
        for row in self._open().rows.values():
            if len(found) >= limit:
                break
            message = row.message
            if (
                id in {None, message.envelope.id}
                and topic in {None, message.topic}
                and key in {None, message.key}
                and queue in {None, row.queue}
                and correlation in {None, message.envelope.correlationid}
            ):
                found.append(row.stored())
        return found

    async def handled(
        self,
        id: str,  # noqa: A002 - CloudEvents' own name
        *,
        groups: Sequence[str] | None = None,
        sources: Sequence[str] = (),
    ) -> Sequence[Handled]:
        """See `Inspection.handled`."""
        found = [
            Handled(group, source, one, at)
            for (group, source, one), at in self._open().inbox.items()
            if one == id
            and (groups is None or group in groups)
            and (not sources or source in sources)
        ]
        return sorted(found, key=lambda one: (one.group, one.source))[:MOST_HANDLED]

    async def redrive(self, positions: Sequence[int], *, audit: AuditNote | None = None) -> int:
        """See `Inspection.redrive`."""
        dead = self._dead_among(positions)
        database = self._open()
        for row in dead:
            database.queues[row.queue].change(row, State.READY, None)
            row.attempts = 0
        self._note(audit if dead else None)
        return len(dead)

    async def drop(self, positions: Sequence[int], *, audit: AuditNote | None = None) -> int:
        """See `Inspection.drop`."""
        dead = self._dead_among(positions)
        for row in dead:
            self._open().remove(row.position)
        self._note(audit if dead else None)
        return len(dead)

    async def rewrite(self, position: int, data: bytes, *, audit: AuditNote | None = None) -> bool:
        """See `Inspection.rewrite`."""
        dead = self._dead_among([position])
        for row in dead:
            row.message = replace(row.message, data=data)
        self._note(audit if dead else None)
        return bool(dead)

    async def pulse(self, app: str, process: str, data: bytes, *, seconds: float) -> None:
        """See `Inspection.pulse`."""
        database = self._open()
        now = database.clock()
        database.records.forget(now)
        database.records.said[app, process] = Said(data, now, now + seconds)

    async def pulses(self, app: str) -> Sequence[Pulse]:
        """See `Inspection.pulses`."""
        database = self._open()
        now = database.clock()
        return [
            Pulse(process, said.data, max(0.0, now - said.at))
            for (of, process), said in sorted(database.records.said.items(), key=lambda one: one[0])
            if of == app and said.expires_at > now
        ]

    async def audit(self, app: str, who: str, action: str, detail: str) -> None:
        """See `Inspection.audit`."""
        self._note(AuditNote(app, who, action, detail))

    async def audits(
        self, app: str, *, before: int | None = None, limit: int = 100
    ) -> Sequence[Audit]:
        """See `Inspection.audits`."""
        newest = reversed(self._open().records.audits.get(app, []))
        return [each for each in newest if before is None or each.number < before][:limit]

    def _note(self, audit: AuditNote | None) -> None:
        database = self._open()
        if audit is not None:
            database.records.note(audit, database.clock())

    def _dead(self, queue: str | None) -> Iterator[Row]:
        database = self._open()
        chosen = list(database.queues.values()) if queue is None else [database.queue(queue)]
        for one in chosen:
            yield from one.dead()

    def _dead_among(self, positions: Sequence[int]) -> list[Row]:
        rows = self._open().rows
        found = (rows.get(position) for position in dict.fromkeys(positions))
        return [row for row in found if row is not None and row.state is State.DEAD]


def _error(row: Row) -> str:
    return row.failure.error if row.failure is not None else ""
