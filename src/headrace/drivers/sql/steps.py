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


@dataclass(frozen=True, slots=True)
class _Text:
    sql: str
    names: Sequence[str]
    constants: Mapping[str, object]
    expands: SQLCompiler | None


class Compiled:
    """The SQL text of statements for one driver, compiled at first use. Belongs to one storage."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._texts: dict[Executable, _Text] = {}

    def call(self, step: Step) -> _Call:
        """The text of a step, its positional parameters, whether these are many, and what it expects."""
        values = step.values
        many = not isinstance(values, Mapping)
        each = (values,) if isinstance(values, Mapping) else values
        text = self._texts.get(step.statement)
        if text is None:
            text = self._texts[step.statement] = self._compile(step.statement, each[0])
        if text.expands is not None:
            state = text.expands.construct_expanded_state(dict(each[0]))
            return state.statement, state.positional_parameters, False, step.expects
        if text.constants:
            each = [{**text.constants, **one} for one in each]
        rows = [[one[name] for name in text.names] for one in each]
        return text.sql, rows if many else rows[0], many, step.expects

    def _compile(self, statement: Executable, values: Values) -> _Text:
        compiled = cast(
            "SQLCompiler",
            cast("ClauseElement", statement).compile(
                dialect=self._dialect, column_keys=list(values)
            ),
        )
        names = compiled.positiontup or ()
        params = compiled.params
        return _Text(
            compiled.string,
            names,
            {name: params[name] for name in names if name not in values},
            compiled if compiled.post_compile_params else None,
        )


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
