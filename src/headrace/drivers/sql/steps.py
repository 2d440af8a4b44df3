"""Statements of Headrace's own in groups: one hop or one round trip a group where the driver can."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sqlalchemy import ClauseElement, Executable
    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.sql.compiler import SQLCompiler

    from headrace.drivers.sql.connection import BufferedConnection

Values = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a group.

    Args:
        statement: made once, for it is compiled once; what changes is in `values`.
        values: its parameters; a sequence of them executes it for each.
        expects: how many rows it must find or change; another number ends the group with `Unexpected`.
    """

    statement: Executable
    values: Values | Sequence[Values]
    expects: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step found: its rows, or the number of rows that it changed."""

    rows: Sequence[tuple[object, ...]]
    count: int


class Unexpected(Exception):
    """A step found or changed another number of rows than it expects; the steps after it were not executed."""

    def __init__(self, step: Step) -> None:
        super().__init__(f"{step.statement}: not {step.expects} rows")
        self.step = step


class CommitFailed(Exception):
    """COMMIT itself failed; the cause is the driver's error."""


_Call = tuple[str, Sequence[object], bool, int | None]


class Compiled:
    """The SQL text of statements for one driver, compiled at first use. Belongs to one storage."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._texts: dict[Executable, SQLCompiler] = {}

    def call(self, step: Step) -> _Call:
        """The text of a step, its positional parameters, whether these are many, and what it expects."""
        many = not isinstance(step.values, Mapping)
        each = step.values if not isinstance(step.values, Mapping) else (step.values,)
        compiled = self._texts.get(step.statement)
        if compiled is None:
            keys = list(each[0])
            compiled = cast(
                "SQLCompiler",
                cast("ClauseElement", step.statement).compile(
                    dialect=self._dialect, column_keys=keys
                ),
            )
            self._texts[step.statement] = compiled
        if compiled.post_compile_params:
            state = compiled.construct_expanded_state(dict(each[0]))
            return state.statement, state.positional_parameters, False, step.expects
        names = compiled.positiontup or ()
        constants = compiled.params
        rows = [[v[n] if n in v else constants[n] for n in names] for v in each]
        return compiled.string, rows if many else rows[0], many, step.expects


async def run_fast(
    connection: BufferedConnection, compiled: Compiled, steps: Sequence[Step], *, commit: bool
) -> Sequence[Outcome]:
    """Run the steps, and COMMIT if asked, in one hop to the connection's thread.

    Raises:
        Unexpected: a step did not find what it expects.
        CommitFailed: COMMIT failed; the cause is the driver's error.
    """
    calls = [compiled.call(step) for step in steps]
    found, bad = await connection.run(partial(_perform, calls, commit), ends=commit)
    if bad is not None:
        raise Unexpected(steps[bad])
    return found


def _perform(
    calls: Sequence[_Call], commit: bool, raw: sqlite3.Connection
) -> tuple[Sequence[Outcome], int | None]:
    found: list[Outcome] = []
    for number, (text, parameters, many, expects) in enumerate(calls):
        if many:
            cursor = raw.executemany(text, cast("Sequence[Sequence[object]]", parameters))
        else:
            cursor = raw.execute(text, parameters)
        outcome = Outcome(cursor.fetchall() if cursor.description else (), cursor.rowcount)
        found.append(outcome)
        if expects is not None and expects != max(len(outcome.rows), outcome.count):
            return found, number
    if commit:
        try:
            raw.execute("COMMIT")
        except sqlite3.Error as error:
            raise CommitFailed from error
    return found, None


def run_slow(connection: Connection, steps: Sequence[Step], *, commit: bool) -> Sequence[Outcome]:
    """As `run_fast`, a round trip a statement, on any driver. Runs inside `run_sync`; raises the same."""
    found: list[Outcome] = []
    for step in steps:
        result = connection.execute(step.statement, cast("dict[str, object]", step.values))
        rows = [tuple(row) for row in result] if result.returns_rows else ()
        outcome = Outcome(rows, result.rowcount)
        found.append(outcome)
        if step.expects is not None and step.expects != max(len(rows), outcome.count):
            raise Unexpected(step)
    if commit:
        transaction = connection.get_transaction()
        try:
            if transaction is not None:
                transaction.commit()
        except Exception as error:
            raise CommitFailed from error
    return found
