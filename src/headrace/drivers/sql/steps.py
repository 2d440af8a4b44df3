"""Statements of Headrace's own in groups: one hop or one round trip a group where the driver can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from sqlalchemy import Insert

if TYPE_CHECKING:
    from sqlalchemy import ClauseElement, Executable
    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.sql.compiler import SQLCompiler

Values = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of a group.

    Args:
        statement: made once, for it is compiled once; what changes is in `values`.
        values: its parameters; a sequence of them executes it for each.
        expects: how many rows it must find or change; another number ends the group with `Unexpected`.
        script: the same as text that needs no parameters, where it may travel together with BEGIN or COMMIT.
        before: a statement without parameters that is run before it in the same round trip, where one alone cannot do all.
        kept: the script for a connection that keeps the statement ready.
    """

    statement: Executable
    values: Values | Sequence[Values]
    expects: int | None = None
    script: str | None = None
    before: str | None = None
    kept: str | None = None


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


class Call(NamedTuple):
    """A step as the driver takes it.

    Args:
        text: with the driver's own placeholders.
        parameters: by position or by name, as the driver has them; many of them if `many`.
        many: execute it for each.
        expects: see `Step`.
        returns: it gives rows.
        script: see `Step`.
        before: see `Step`.
        kept: see `Step`.
    """

    text: str
    parameters: Sequence[object] | Values | Sequence[Sequence[object]] | Sequence[Values]
    many: bool = False
    expects: int | None = None
    returns: bool = False
    script: str | None = None
    before: str | None = None
    kept: str | None = None

    def unmet(self, outcome: Outcome) -> bool:
        """True if the outcome is not what the step expects."""
        return self.expects is not None and self.expects != max(len(outcome.rows), outcome.count)


END_SECONDS: Final = 5.0
"""How long a ROLLBACK may take before the connection is closed instead."""


class InDoubt(Exception):
    """A statement was cut, so nobody knows how the connection stands: it is to be closed."""


class NothingCommitted(Exception):
    """COMMIT was answered with ROLLBACK: an error before it, of which nobody told us, had ended the transaction."""


class Line(Protocol):
    """The driver's own connection, beneath SQLAlchemy's, with a transaction that Headrace alone begins and ends.

    As far as the driver and SQLAlchemy know, the connection is in autocommit mode. Used by one task at a time.
    """

    @property
    def is_open(self) -> bool:
        """True from `open_with` until a COMMIT was seen to succeed, or `end`."""
        ...

    @property
    def begun(self) -> bool:
        """False if a statement that others send now would run outside the transaction: `begin` first."""
        ...

    @property
    def whole(self) -> bool:
        """False if the connection is known to be lost."""
        ...

    def open_with(self, statements: Sequence[str]) -> None:
        """Begin a transaction together with what is performed next. No I/O."""
        ...

    async def begin(self) -> None:
        """Begin the transaction now, if `open_with` has only noted it."""
        ...

    async def perform(
        self, calls: Sequence[Call], *, commit: bool, then: Sequence[str] = ()
    ) -> tuple[Sequence[Outcome], int | None]:
        """Run the calls in as few round trips as the driver can, then COMMIT if asked, then the statements of `then`.

        Returns:
            What each call found, and the number of the first that did not find what it expects; nothing runs after that.

        Raises:
            CommitFailed: COMMIT failed; the cause is the driver's error.
        """
        ...

    async def end(self, statements: Sequence[str] = ()) -> None:
        """ROLLBACK if a transaction is open, then these statements; no I/O if nothing was begun.

        Raises:
            Exception: the connection is in doubt and is to be closed.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Text:
    """A statement's text, the names of its parameters in order, and the values that the statement itself brings.

    `names` is None where the driver takes parameters by name. `lists` has for each parameter that is a list of changing
    length the names of its items in this text.
    """

    sql: str
    names: Sequence[str] | None
    constants: Mapping[str, object]
    lists: Mapping[str, Sequence[str]]
    returns: bool


class Compiled:
    """The SQL text of statements for one driver, compiled at first use. Belongs to one storage.

    Args:
        dialect: SQLAlchemy's.
        replaced: see `Statements.replaced`.
    """

    def __init__(
        self, dialect: Dialect, replaced: Mapping[Executable, Executable] = MappingProxyType({})
    ) -> None:
        self._dialect = dialect
        self._replaced = replaced
        self._compiled: dict[Executable, tuple[SQLCompiler, Sequence[str]]] = {}
        # A list takes as many places in the text as it has items, so a text is found by the lengths of its lists.
        self._texts: dict[tuple[Executable, tuple[int, ...]], _Text] = {}

    def call(self, step: Step) -> Call:
        """A step as the driver takes it."""
        values = step.values
        many = not isinstance(values, Mapping)
        each = (values,) if isinstance(values, Mapping) else values
        text = self._text(step.statement, each[0])
        if text.constants:
            each = [{**text.constants, **one} for one in each]
        if text.lists:
            each = [{**one, **_items(text.lists, one)} for one in each]
        names = text.names
        if names is None:
            rows: Sequence[Values] | Sequence[Sequence[object]] = each
        else:
            rows = [[one[name] for name in names] for one in each]
        return Call(
            *(text.sql, rows if many else rows[0], many, step.expects, text.returns),
            *(step.script, step.before, step.kept),
        )

    def _text(self, statement: Executable, values: Values) -> _Text:
        found = self._compiled.get(statement)
        if found is None:
            found = self._compiled[statement] = self._compile(statement, values)
        compiled, expanding = found
        lengths = tuple(len(cast("Sequence[object]", values[name])) for name in expanding)
        text = self._texts.get((statement, lengths))
        if text is None:
            text = self._texts[statement, lengths] = self._expand(compiled, values)
        return text

    def _compile(self, statement: Executable, values: Values) -> tuple[SQLCompiler, Sequence[str]]:
        # Nobody asks for the number that a row got.
        statement = self._replaced.get(statement, statement)
        quiet = statement.inline() if isinstance(statement, Insert) else statement
        compiled = cast(
            "SQLCompiler",
            cast("ClauseElement", quiet).compile(dialect=self._dialect, column_keys=list(values)),
        )
        expanding = [
            parameter.key for parameter in compiled.post_compile_params if parameter.key in values
        ]
        return compiled, sorted(expanding)

    def _expand(self, compiled: SQLCompiler, values: Values) -> _Text:
        positional = compiled.positional
        params = compiled.params
        returns = bool(
            compiled.effective_returning or getattr(compiled.statement, "is_select", False)
        )
        state = (
            compiled.construct_expanded_state(dict(values))
            if compiled.post_compile_params
            else None
        )
        names = (state.positiontup if state else compiled.positiontup) or ()
        known = (compiled.positiontup or ()) if positional else list(params)
        constants = {name: params[name] for name in known if name not in values}
        return _Text(
            state.statement if state else compiled.string,
            names if positional else None,
            constants,
            state.parameter_expansion if state else {},
            returns,
        )


def _items(lists: Mapping[str, Sequence[str]], values: Values) -> Values:
    return {
        name: item
        for parameter, names in lists.items()
        for name, item in zip(names, cast("Sequence[object]", values[parameter]), strict=True)
    }


async def run_fast(
    line: Line,
    compiled: Compiled,
    steps: Sequence[Step],
    *,
    commit: bool,
    then: Sequence[str] = (),
) -> Sequence[Outcome]:
    """Run the steps, and COMMIT if asked, on the driver's own connection.

    Args:
        line: with a transaction open, or about to be.
        compiled: the storage's compiled statements.
        steps: what to run.
        commit: end with COMMIT.
        then: statements that follow the steps, if these found what they expect: the end of a transaction that only reads.

    Raises:
        Unexpected: a step did not find what it expects.
        CommitFailed: COMMIT failed; the cause is the driver's error.
    """
    calls = [compiled.call(step) for step in steps]
    found, bad = await line.perform(calls, commit=commit, then=then)
    if bad is not None:
        raise Unexpected(steps[bad])
    return found


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
