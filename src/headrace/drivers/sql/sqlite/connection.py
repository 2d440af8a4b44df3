"""The connection to SQLite that Headrace opens: one hop to its thread for each statement, or for many.

SQLAlchemy's adapter for aiosqlite goes to the thread for the cursor, the execution, the rows and the closing: four hops of
about 64 µs for a SELECT (measured on CPython 3.11). This one brings the rows back with the execution.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar, cast

import aiosqlite

from headrace.drivers.sql.steps import Call, CommitFailed, Outcome

T = TypeVar("T")

Row = tuple[object, ...]

CHUNK_ROWS: Final = 1_000
"""How many rows come back with the execution; a stream of more keeps memory bounded and takes a hop for each chunk."""


class BufferedConnection(aiosqlite.Connection):
    """An aiosqlite connection in autocommit mode whose transactions are begun and ended by Headrace alone."""

    _tx: SimpleQueue[tuple[asyncio.Future[Any] | None, Callable[[], Any]]]

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, CHUNK_ROWS)
        self._thread.daemon = True
        self._first: tuple[str, ...] = ()
        self._open = False
        self._abandoned = False

    @property
    def is_open(self) -> bool:
        """See `Line`."""
        return self._open

    @property
    def begun(self) -> bool:
        """True: BEGIN comes with whatever statement is the next, also one of others."""
        return True

    @property
    def whole(self) -> bool:
        """False after it was closed."""
        return self._running and self._connection is not None

    async def begin(self) -> None:
        """See `Line`."""

    async def perform(
        self, calls: Sequence[Call], *, commit: bool, then: Sequence[str] = ()
    ) -> tuple[Sequence[Outcome], int | None]:
        """See `Line`: all of it takes one hop."""
        return await self.run(partial(_perform, calls, commit, then), ends=commit or bool(then))

    def open_with(self, statements: Sequence[str]) -> None:
        """Begin a transaction together with the next statement, in the same hop."""
        self._first = tuple(statements)
        self._open = True

    async def run(self, work: Callable[[sqlite3.Connection], T], *, ends: bool = False) -> T:
        """Run a function on the sqlite3 connection in one hop, inside the transaction if one was opened.

        Args:
            work: runs in the connection's thread; no other statement comes between.
            ends: `work` may have ended the transaction.
        """
        result = await self._hop(partial(self._in_transaction, work))
        if ends and not self._conn.in_transaction:
            self._open = False
        return result

    async def end(self, statements: Sequence[str] = ()) -> None:
        """ROLLBACK if a transaction is open, then these statements; no hop if nothing was begun.

        Does not fail because SQLite rolled back by itself.
        """
        if self._open and (self._abandoned or not self._first):
            await self._hop(partial(self._roll_back, statements))
        self._first = ()
        self._open = self._abandoned = False

    def join(self) -> None:
        """Wait for the thread to end; blocks."""
        self._thread.join()

    def cursor(self) -> BufferedCursor:  # type: ignore[override]
        """A cursor; costs no hop."""
        return BufferedCursor(self)

    async def commit(self) -> None:
        """COMMIT, if a transaction is open."""
        if self._open and not self._first:
            await self.run(_commit, ends=True)

    async def rollback(self) -> None:
        """ROLLBACK, if a transaction is open. Until `end` every statement is refused: it would be committed alone."""
        if self._open:
            self._first = ()
            await self._hop(partial(self._roll_back, ()))

    async def _hop(self, function: Callable[[], T]) -> T:
        if not self._running or self._connection is None:
            raise sqlite3.OperationalError("connection closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((future, function))
        try:
            return await future
        except asyncio.CancelledError:
            # The thread goes on; only a ROLLBACK behind what it does now can say how the transaction stands.
            self._abandoned = True
            # A connection that was closed meanwhile has nothing left to interrupt.
            with suppress(ValueError, sqlite3.Error):
                self._conn.interrupt()
            raise

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        raw = self._conn
        if self._open:
            if self._first:
                for statement in self._first:
                    raw.execute(statement)
                self._first = ()
            elif not raw.in_transaction:
                # Without this the statement would be committed alone.
                raise sqlite3.OperationalError("the transaction was ended by SQLite or a statement")
        return work(raw)

    def _roll_back(self, statements: Sequence[str]) -> None:
        raw = self._conn
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        for statement in statements:
            raw.execute(statement)


class BufferedCursor:
    """A cursor that has its rows when `execute` returns."""

    def __init__(self, connection: BufferedConnection) -> None:
        self._connection = connection
        self._rest: sqlite3.Cursor | None = None
        self._rows: deque[Row] = deque()
        self.description: object = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> BufferedCursor:
        return self

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> BufferedCursor:
        """Execute and fetch in one hop."""
        self._take(await self._connection.run(partial(_execute, sql, parameters)))
        return self

    async def executemany(self, sql: str, parameters: Iterable[Sequence[object]]) -> BufferedCursor:
        """Execute for each, in one hop."""
        self._take(await self._connection.run(partial(_executemany, sql, parameters)))
        return self

    def _take(self, found: _Fetched) -> None:
        self._rest, rows, self.description, self.rowcount, self.lastrowid = found
        self._rows = deque(rows)

    async def fetchone(self) -> Row | None:
        """The next row."""
        if not self._rows and self._rest is not None:
            await self._more()
        return self._rows.popleft() if self._rows else None

    async def fetchmany(self, size: int | None = None) -> list[Row]:
        """The next rows."""
        wanted = self.arraysize if size is None else size
        while len(self._rows) < wanted and self._rest is not None:
            await self._more()
        return [self._rows.popleft() for _ in range(min(wanted, len(self._rows)))]

    async def fetchall(self) -> list[Row]:
        """All rows that are left."""
        if self._rest is not None:
            rest, self._rest = self._rest, None
            self._rows.extend(await self._connection.run(lambda _: rest.fetchall()))
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def __aiter__(self) -> AsyncIterator[Row]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Row]:
        while (row := await self.fetchone()) is not None:
            yield row

    async def _more(self) -> None:
        rest = self._rest
        if rest is not None:
            rows = await self._connection.run(lambda _: rest.fetchmany(CHUNK_ROWS))
            self._rows.extend(rows)
            if len(rows) < CHUNK_ROWS:
                self._rest = None

    async def close(self) -> None:
        """Forget the rows; a hop only for a stream that was left before its end."""
        self._rows.clear()
        if self._rest is not None:
            rest, self._rest = self._rest, None
            await self._connection.run(lambda _: rest.close())


_Fetched = tuple[sqlite3.Cursor | None, list[Row], object, int, int | None]


def connect(
    database: str, *, busy_seconds: float, synchronous: str, **options: object
) -> Awaitable[BufferedConnection]:
    """Open a file as Headrace wants it: WAL, foreign keys, and a bounded wait for other processes.

    Args:
        database: the file, or a `file:` URI if `uri` is among the options.
        busy_seconds: how long a statement waits for another process's lock.
        synchronous: PRAGMA synchronous.
        options: of `sqlite3.connect`, as SQLAlchemy makes them from the URL.
    """
    uri = bool(options.get("uri", False))
    detect_types = options.get("detect_types", 0)

    def connector() -> sqlite3.Connection:
        connection = sqlite3.connect(
            database,
            timeout=busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            detect_types=detect_types if isinstance(detect_types, int) else 0,
            uri=uri,
        )
        try:
            _wal(connection, busy_seconds)
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute("PRAGMA foreign_keys=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    return _started(BufferedConnection(connector))


class _started:  # noqa: N801 - an awaitable, made by a function's name
    def __init__(self, connection: BufferedConnection) -> None:
        self._connection = connection

    def __await__(self) -> Generator[object, None, BufferedConnection]:
        try:
            yield from self._connection.__await__()
        except BaseException:
            # aiosqlite has told its thread to end and does not wait for it: it would answer a loop that is closed by then.
            yield from asyncio.to_thread(self._connection.join).__await__()
            raise
        return self._connection


def _wal(connection: sqlite3.Connection, busy_seconds: float) -> None:
    # SQLite does not call its busy handler while it changes the journal mode, so two processes that start at
    # once have to wait for each other here.
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _perform(
    calls: Sequence[Call], commit: bool, then: Sequence[str], raw: sqlite3.Connection
) -> tuple[Sequence[Outcome], int | None]:
    found: list[Outcome] = []
    for number, call in enumerate(calls):
        if call.many:
            cursor = raw.executemany(call.text, cast("Sequence[Sequence[object]]", call.parameters))
        else:
            cursor = raw.execute(call.text, cast("Sequence[object]", call.parameters))
        outcome = Outcome(cursor.fetchall() if cursor.description else (), cursor.rowcount)
        found.append(outcome)
        if call.unmet(outcome):
            return found, number
    if commit:
        try:
            raw.execute("COMMIT")
        except sqlite3.Error as error:
            raise CommitFailed from error
    for statement in then:
        raw.execute(statement)
    return found, None


def _commit(raw: sqlite3.Connection) -> None:
    raw.execute("COMMIT")


def _execute(sql: str, parameters: Sequence[object], raw: sqlite3.Connection) -> _Fetched:
    cursor = raw.execute(sql, parameters)
    return _fetch(cursor)


def _executemany(
    sql: str, parameters: Iterable[Sequence[object]], raw: sqlite3.Connection
) -> _Fetched:
    return _fetch(raw.executemany(sql, parameters))


def _fetch(cursor: sqlite3.Cursor) -> _Fetched:
    rows: list[Row] = []
    rest: sqlite3.Cursor | None = None
    if cursor.description is not None:
        rows = cursor.fetchmany(CHUNK_ROWS)
        if len(rows) == CHUNK_ROWS:
            rest = cursor
    return rest, rows, cursor.description, cursor.rowcount, cursor.lastrowid
