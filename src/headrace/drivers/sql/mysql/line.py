"""The line to MariaDB and MySQL: a group of statements travels in one packet, with BEGIN before it and COMMIT behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol, cast

from headrace.drivers.sql.mysql.errors import meaning_of, number_of
from headrace.drivers.sql.sqlstate import Meaning
from headrace.drivers.sql.steps import (
    END_SECONDS,
    Call,
    CommitFailed,
    InDoubt,
    NothingCommitted,
    Outcome,
)

_PACKET: Final = 1_000_000
"""How many letters of SQL travel together: far below the smallest max_allowed_packet in use, 16 MB."""

_COMMIT: Final = "COMMIT"

_RETRIES: Final = 5
"""How often what deadlocked is run again before the error is told; each time one of those in it has ended."""

# asyncmy's cursors read these; beside them it has no way to take what a packet of statements has found.
_RESULT: Final = "_result"
_BROKEN: Final = "_stream_broken"


class AsyncmyResult(Protocol):
    """What is used of asyncmy's result of one statement."""

    rows: Sequence[tuple[object, ...]] | None
    affected_rows: int
    has_next: int


class AsyncmyConnection(Protocol):
    """What is used of asyncmy's connection, whose types say little."""

    @property
    def connected(self) -> bool:
        """False once it was closed on this side."""
        ...

    async def query(self, sql: str) -> int:
        """Send statements with `;` between them, and read the answer of the first."""
        ...

    async def next_result(self) -> int:
        """Read the answer of the next."""
        ...

    def get_transaction_status(self) -> bool:
        """True if the server said with its last answer that a transaction is open."""
        ...

    def escape(self, obj: object) -> str:
        """A value as a literal."""
        ...


def whole(connection: AsyncmyConnection) -> bool:
    """False if the connection is known to be closed, by whomever."""
    return connection.connected and not getattr(connection, _BROKEN)


class MysqlLine:
    """See `Line`. The server runs the statements of a packet in order and stops at the first that fails.

    Args:
        connection: asyncmy's, in autocommit mode.
        idle_limit: the session's variable that limits how long a transaction may be idle.
    """

    def __init__(self, connection: AsyncmyConnection, *, idle_limit: str) -> None:
        self._raw = connection
        self._idle_limit = idle_limit
        self._first: tuple[str, ...] = ()
        self._open = False
        self._cut = False
        self._limited = False
        # A transaction of Headrace's own, known by its limit.
        self._ours = False

    @property
    def is_open(self) -> bool:
        """See `Line`."""
        return self._open

    @property
    def begun(self) -> bool:
        """See `Line`."""
        return not self._first

    @property
    def whole(self) -> bool:
        """See `Line`."""
        return not self._cut and whole(self._raw)

    def open_with(self, statements: Sequence[str]) -> None:
        """See `Line`."""
        self._first = tuple(statements)
        self._open = True
        self._ours = any(self._idle_limit in statement for statement in statements)

    async def begin(self) -> None:
        """See `Line`."""
        packet = _Packet(self._take_first())
        await self._send(packet, [])

    async def perform(
        self, calls: Sequence[Call], *, commit: bool, then: Sequence[str] = ()
    ) -> tuple[Sequence[Outcome], int | None]:
        """See `Line`. Of `then` only the ROLLBACK is meant: a transaction on a server leaves nothing else behind.

        A deadlock has rolled back all, so what a transaction begins with is run again: three that insert one row, the first
        of which rolls back, leave the two others with locks on the gap that each needs.
        """
        if then and self._first:
            # Only reads, and each sees what is committed: no transaction is needed.
            self._first, self._open = (), False
        first = self._first
        for _ in range(_RETRIES if first else 0):
            try:
                return await self._perform(calls, commit=commit)
            except Exception as error:
                cause = error.__cause__ if isinstance(error, CommitFailed) else error
                if cause is None or meaning_of(cause) is not Meaning.DEADLOCK:
                    raise
                self._first = first
        return await self._perform(calls, commit=commit)

    async def _perform(
        self, calls: Sequence[Call], *, commit: bool
    ) -> tuple[Sequence[Outcome], int | None]:
        packet = _Packet(self._take_first())
        found: list[Outcome] = []
        for number, call in enumerate(calls):
            if call.before is not None:
                packet.add(call.before)
                self._limited = True
            for text in self._texts(call):
                if packet.size > _PACKET:
                    await self._send(packet, found)
                    packet = _Packet()
                packet.add(text, number)
            if call.expects is not None:
                # What follows must not run if this one has not found what it expects.
                await self._send(packet, found)
                packet = _Packet()
                if call.unmet(found[number]):
                    return found, number
        if commit:
            await self._commit(packet, found)
        else:
            await self._send(packet, found)
        # A call for many with none.
        found += [Outcome((), 0)] * (len(calls) - len(found))
        return found, None

    async def _commit(self, packet: _Packet, found: list[Outcome]) -> None:
        if packet.begins == 0 and not self._ours and not self._raw.get_transaction_status():
            raise CommitFailed from NothingCommitted(
                "the transaction had ended before its COMMIT: a statement that commits by itself (CREATE, ALTER, DROP,"
                " TRUNCATE, LOCK TABLES) was executed inside a unit of work, or the server has rolled it back"
            )
        packet.add(_COMMIT)
        if self._limited:
            packet.add(f"SET SESSION {self._idle_limit} = DEFAULT")
        await self._send(packet, found)
        self._limited = False
        self._open = False

    async def end(self, statements: Sequence[str] = ()) -> None:
        """See `Line`."""
        begun, was_open = not self._first, self._open
        self._first, self._open = (), False
        if not self.whole:
            raise InDoubt
        packet = _Packet()
        if was_open and begun:
            packet.add("ROLLBACK")
        if self._limited:
            packet.add(f"SET SESSION {self._idle_limit} = DEFAULT")
            self._limited = False
        if packet.texts:
            async with asyncio.timeout(END_SECONDS):
                await self._send(packet, [])

    def _take_first(self) -> Sequence[str]:
        first, self._first = self._first, ()
        self._limited = self._limited or (self._ours and bool(first))
        return first

    def _texts(self, call: Call) -> Sequence[str]:
        rows = call.parameters if call.many else (call.parameters,)
        return [self._filled(call.text, cast("Sequence[object]", row)) for row in rows]

    def _filled(self, text: str, values: Sequence[object]) -> str:
        return text % tuple(self._literal(value) for value in values)

    def _literal(self, value: object) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, bytes):
            # Safe whatever the sql_mode is.
            return f"x'{value.hex()}'"
        return self._raw.escape(value)

    async def _send(self, packet: _Packet, found: list[Outcome]) -> None:
        """Run what is in a packet, and put what its calls found behind what was found before.

        Raises:
            CommitFailed: COMMIT was in it, and the answer to it was an error or did not come.
        """
        if not packet.texts:
            return
        raw, done = self._raw, 0
        try:
            await raw.query("; ".join(packet.texts))
            while True:
                result = cast("AsyncmyResult", getattr(raw, _RESULT))
                packet.take(done, result, found)
                done += 1
                if not result.has_next:
                    break
                await raw.next_result()
        except asyncio.CancelledError:
            self._cut = True
            raise
        except Exception as error:
            if not packet.commits:
                raise
            at = packet.texts.index(_COMMIT)
            if done > at:
                # It is committed; what failed is what comes behind it.
                self._cut = True
                self._open = False
                return
            told = number_of(error)
            answered = told is not None and not 2000 <= told < 3000
            if done == at or not answered:
                # Also if the connection was lost at a statement before: the server may have read on.
                raise CommitFailed from error
            raise


class _Packet:
    """Statements that travel together, and to which call each belongs."""

    def __init__(self, first: Sequence[str] = ()) -> None:
        self.begins = len(first)
        self.texts = list(first)
        self.size = 0
        self._calls: list[int | None] = [None] * len(first)

    @property
    def commits(self) -> bool:
        """Whether COMMIT is among them."""
        return _COMMIT in self.texts

    def add(self, text: str, call: int | None = None) -> None:
        """Put one behind the others."""
        self.texts.append(text)
        self._calls.append(call)
        self.size += len(text)

    def take(self, number: int, result: AsyncmyResult, found: list[Outcome]) -> None:
        """Note the answer of a statement: of several of one call, the number of rows is the sum."""
        call = self._calls[number]
        if call is None:
            return
        found += [Outcome((), 0)] * (call - len(found))
        outcome = Outcome(result.rows or (), result.affected_rows)
        if call < len(found):
            outcome = Outcome(outcome.rows, found[call].count + outcome.count)
            found[call] = outcome
        else:
            found.append(outcome)
