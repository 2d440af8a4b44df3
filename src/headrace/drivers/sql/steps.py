"""Statements of Headrace's own in groups: one hop or one round trip a group where the driver can."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeGuard, cast

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
    """A statement's text, the names of its parameters in order, and the values that the statement itself brings.

    `lists` has for each parameter that is a list the names of its items in this text.
    """

    sql: str
    names: Sequence[str]
    constants: Mapping[str, object]
    lists: Mapping[str, Sequence[str]]


class Compiled:
    """The SQL text of statements for one driver, compiled at first use. Belongs to one storage."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._compiled: dict[Executable, SQLCompiler] = {}
        # A list takes as many places in the text as it has items, so a text is found by the lengths of its lists.
        self._texts: dict[tuple[Executable, tuple[int, ...]], _Text] = {}

    def call(self, step: Step) -> _Call:
        """The text of a step, its positional parameters, whether these are many, and what it expects."""
        values = step.values
        many = not isinstance(values, Mapping)
        each = (values,) if isinstance(values, Mapping) else values
        lengths = tuple(len(v) for v in each[0].values() if _is_list(v))
        text = self._texts.get((step.statement, lengths))
        if text is None:
            text = self._compile(step.statement, each[0])
            self._texts[step.statement, lengths] = text
        if text.constants:
            each = [{**text.constants, **one} for one in each]
        if text.lists:
            each = [{**one, **_items(text.lists, one)} for one in each]
        rows = [[one[name] for name in text.names] for one in each]
        return text.sql, rows if many else rows[0], many, step.expects

    def _compile(self, statement: Executable, values: Values) -> _Text:
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = self._compiled[statement] = cast(
                "SQLCompiler",
                cast("ClauseElement", statement).compile(
                    dialect=self._dialect, column_keys=list(values)
                ),
            )
        names, params = compiled.positiontup or (), compiled.params
        constants = {name: params[name] for name in names if name not in values}
        if not compiled.post_compile_params:
            return _Text(compiled.string, names, constants, {})
        state = compiled.construct_expanded_state(dict(values))
        return _Text(state.statement, state.positiontup or (), constants, state.parameter_expansion)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _items(lists: Mapping[str, Sequence[str]], values: Values) -> Values:
    return {
        name: item
        for parameter, names in lists.items()
        for name, item in zip(names, cast("Sequence[object]", values[parameter]), strict=True)
    }


async def run_fast(
    connection: BufferedConnection,
    compiled: Compiled,
    steps: Sequence[Step],
    *,
    commit: bool,
    then: Sequence[str] = (),
) -> Sequence[Outcome]:
    """Run the steps, and COMMIT if asked, in one hop to the connection's thread.

    Args:
        connection: with a transaction open, or about to be.
        compiled: the storage's compiled statements.
        steps: what to run.
        commit: end with COMMIT.
        then: statements that follow the steps, if these found what they expect: the end of a transaction that only reads.

    Raises:
        Unexpected: a step did not find what it expects.
        CommitFailed: COMMIT failed; the cause is the driver's error.
    """
    calls = [compiled.call(step) for step in steps]
    work = partial(_perform, calls, commit, then)
    found, bad = await connection.run(work, ends=commit or bool(then))
    if bad is not None:
        raise Unexpected(steps[bad])
    return found


def _perform(
    calls: Sequence[_Call], commit: bool, then: Sequence[str], raw: sqlite3.Connection
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
    for statement in then:
        raw.execute(statement)
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
