"""The half of `SqlStorage` that people work with: see `headrace.inspection`, and `dead` for the statements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from headrace.drivers.sql import dead, outbox, parking
from headrace.drivers.sql.rows import stored
from headrace.drivers.sql.statements import promote
from headrace.drivers.sql.steps import Step
from headrace.envelope import packed_correlation, packed_start
from headrace.storage import Audit, AuditNote, DeadErrors, Handled, Pulse, Stored, outbox_queue

if TYPE_CHECKING:
    from headrace.drivers.sql.database import Database
    from headrace.drivers.sql.link import Link

CHUNK: Final = 500
"""How many rows one transaction changes: below the number of parameters of every database, and short."""

PART: Final = 10_000
"""How many rows one statement of `find` looks at: some milliseconds, and no snapshot that stops a clean-up."""

MOST_HANDLED: Final = 1_000

_OUTBOX: Final = outbox_queue("")
"""What the name of every outbox begins with."""


class SqlInspection(ABC):
    """Looks at and mends what a database keeps."""

    @property
    @abstractmethod
    def database(self) -> Database:
        """The engine in use."""

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
        given = {"queue": queue, "topic": topic, "error": error or None}
        values: dict[str, object] = {"after": after, "most": limit, **_present(given)}
        statement = dead.dead_letters(
            queues=queue is not None,
            topics=topic is not None,
            errors=None if error is None else bool(error),
        )
        (found,) = await self.database.read(Step(statement, values))
        return [stored(row) for row in found.rows]

    async def dead_errors(self, *, queue: str | None = None) -> Sequence[DeadErrors]:
        """See `Inspection.dead_errors`."""
        statement = dead.dead_errors(queues=queue is not None)
        (found,) = await self.database.read(Step(statement, _present({"queue": queue})))
        rows = [
            cast("tuple[str, str, str | None, int, int, int, str | None]", row)
            for row in found.rows
        ]
        return [
            DeadErrors(name, topic, error or "", count, first, last, sample or "")
            for name, topic, error, count, first, last, sample in rows
        ]

    async def behind(self, position: int) -> int:
        """See `Inspection.behind`."""
        (found,) = await self.database.read(Step(dead.place, {"r_position": position}))
        for row in found.rows:
            name, partition, topic, key = cast("tuple[str, int, str, str | None]", row)
            if key is None:
                break
            values = {"queue": name, "topic": topic, "key": key, "r_position": position}
            step = Step(dead.behind, values)
            if name.startswith(_OUTBOX):
                step = Step(dead.behind_in_outbox, {**values, "partition": partition})
            (counted,) = await self.database.read(step)
            return cast("int", counted.rows[0][0])
        return 0

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
        statement = dead.found(
            ids=id is not None,
            topics=topic is not None,
            keys=key is not None,
            queues=queue is not None,
            correlations=correlation is not None,
        )
        values = dict(_present({"topic": topic, "key": key, "queue": queue}))
        if id is not None:
            start = packed_start(id)
            values |= {"start": start, "start_bytes": len(start)}
        if correlation is not None:
            values["part_of"] = packed_correlation(correlation)
        rows: list[Stored] = []
        after = 0
        while len(rows) < limit:
            (end,) = await self.database.read(
                Step(dead.end_of_part, {"after": after, "part": PART})
            )
            upto = cast("int | None", end.rows[0][0])
            if upto is None:
                break
            bounds = {"after": after, "upto": upto, "most": limit - len(rows)}
            (found,) = await self.database.read(Step(statement, {**values, **bounds}))
            rows += [stored(row) for row in found.rows]
            after = upto
        return rows

    async def handled(
        self,
        id: str,  # noqa: A002 - CloudEvents' own name
        *,
        groups: Sequence[str] | None = None,
        sources: Sequence[str] = (),
    ) -> Sequence[Handled]:
        """See `Inspection.handled`."""
        if groups is not None and not groups:
            return ()
        values: dict[str, object] = {"id": id, "most": MOST_HANDLED}
        if groups is not None:
            values["groups"] = list(groups)
        if sources:
            values["sources"] = list(sources)
        statement = dead.handled(groups=groups is not None, sources=bool(sources))
        (found,) = await self.database.read(Step(statement, values))
        rows = [cast("tuple[str, str, str, int]", row) for row in found.rows]
        return [Handled(group, source, one, at_ms / 1000) for group, source, one, at_ms in rows]

    async def redrive(self, positions: Sequence[int], *, audit: AuditNote | None = None) -> int:
        """See `Inspection.redrive`."""
        count = 0
        for start in range(0, len(positions), CHUNK):
            chunk = {"positions": list(positions[start : start + CHUNK])}
            async with self.database.writing() as link:
                found = await _dead_among(link, chunk)
                # In the outbox what is not dead is no parked message, and those that it held come by themselves.
                ours = [one for one in found if one[1].startswith(_OUTBOX)]
                others = [position for position, name, *_ in found if not name.startswith(_OUTBOX)]
                steps = [Step(parking.redrive, {"positions": others})] if others else []
                if ours:
                    steps.append(Step(outbox.free, {"positions": [one[0] for one in ours]}))
                noted = _noted(audit) if found else ()
                await link.run([*steps, *_promoted(ours), *noted], commit=True)
            count += len(found)
        return count

    async def drop(self, positions: Sequence[int], *, audit: AuditNote | None = None) -> int:
        """See `Inspection.drop`."""
        count = 0
        for start in range(0, len(positions), CHUNK):
            chunk = {"positions": list(positions[start : start + CHUNK])}
            async with self.database.writing() as link:
                found = await _dead_among(link, chunk)
                noted = _noted(audit) if found else ()
                steps = [Step(parking.drop, chunk), *_promoted(found), *noted]
                await link.run(steps, commit=True)
            count += len(found)
        return count

    async def rewrite(self, position: int, data: bytes, *, audit: AuditNote | None = None) -> bool:
        """See `Inspection.rewrite`."""
        values = {"r_position": position, "v_body": data}
        async with self.database.writing() as link:
            (changed,) = await link.run([Step(dead.rewrite, values)])
            if changed.count == 0:
                return False
            await link.run(_noted(audit), commit=True)
        return True

    async def pulse(self, app: str, process: str, data: bytes, *, seconds: float) -> None:
        """See `Inspection.pulse`."""
        who = {"a": app, "p": process}
        said = {**who, "v_data": data, "ms": round(seconds * 1000)}
        new = dead.new_pulse(self.database.dialect)
        added, _ = await self.database.write(Step(new, who), Step(dead.say, said))
        if added.count:
            # Where nobody consumes, nobody calls `forget`; each start of a process has a name of its own.
            await self.forget_pulses()

    async def pulses(self, app: str) -> Sequence[Pulse]:
        """See `Inspection.pulses`."""
        (found,) = await self.database.read(Step(dead.pulses, {"a": app}))
        rows = [cast("tuple[str, bytes, int]", row) for row in found.rows]
        return [Pulse(process, data, max(0, age_ms) / 1000) for process, data, age_ms in rows]

    async def forget_pulses(self) -> None:
        """Delete what processes said that say nothing any more. Writes nothing if there is none."""
        (found,) = await self.database.read(Step(dead.expired, {}))
        # In one order for all processes, so that no two wait for each other.
        gone = [{"a": app, "p": process} for app, process in sorted(map(_pair, found.rows))]
        if gone:
            await self.database.write(Step(dead.bury, gone))

    async def audit(self, app: str, who: str, action: str, detail: str) -> None:
        """See `Inspection.audit`."""
        await self.database.write(*_noted(AuditNote(app, who, action, detail)))

    async def audits(
        self, app: str, *, before: int | None = None, limit: int = 100
    ) -> Sequence[Audit]:
        """See `Inspection.audits`."""
        values: dict[str, object] = {"a": app, "most": limit, **_present({"before": before})}
        (found,) = await self.database.read(Step(dead.audits(older=before is not None), values))
        rows = [cast("tuple[int, int, str, str, str]", row) for row in found.rows]
        return [Audit(number, at_ms / 1000, *rest) for number, at_ms, *rest in rows]


def _present(given: Mapping[str, object]) -> Mapping[str, object]:
    return {name: value for name, value in given.items() if value is not None}


def _pair(row: Sequence[object]) -> tuple[str, str]:
    return cast("tuple[str, str]", tuple(row))


def _noted(audit: AuditNote | None) -> Sequence[Step]:
    if audit is None:
        return ()
    values = {
        "a": audit.app,
        "v_who": audit.who,
        "v_action": audit.action,
        "v_detail": audit.detail,
    }
    return [Step(dead.note, values)]


async def _dead_among(
    link: Link, chunk: Mapping[str, Sequence[int]]
) -> Sequence[tuple[int, str, str, str | None]]:
    """Those of these messages that are dead letters, with queue, topic and key; nobody changes them until the COMMIT."""
    # An owner that parks a row at this moment would see the one before it, and nobody promote it.
    _, found = await link.run([Step(parking.own_all, chunk), Step(parking.dead_ones, chunk)])
    return cast("Sequence[tuple[int, str, str, str | None]]", found.rows)


def _promoted(dead: Sequence[tuple[int, str, str, str | None]]) -> Sequence[Step]:
    """The steps that let what is next run, after these were taken out of their keys."""
    lanes = dict.fromkeys((name, topic, key) for _, name, topic, key in dead if key is not None)
    return [promote(*lane) for lane in lanes]
