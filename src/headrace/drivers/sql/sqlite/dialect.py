"""SQLite: one writer, BEGIN IMMEDIATE, WAL, a file.

Source: https://www.sqlite.org/rescode.html for the result codes, https://www.sqlite.org/lang_transaction.html for what
ends a transaction by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles

from headrace.drivers.sql.dialect import now_ms
from headrace.drivers.sql.sqlite.connection import BufferedConnection, connect
from headrace.errors import (
    ConfigurationError,
    HeadraceError,
    StorageBusy,
    StorageUnavailable,
    UnitOfWorkError,
)

if TYPE_CHECKING:
    from sqlalchemy import Insert, Table
    from sqlalchemy.engine import URL, Connection
    from sqlalchemy.sql.compiler import SQLCompiler

    from headrace.drivers.sql.steps import Line

_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# After these the file, the disk or the process is at fault, and SQLite may have rolled back by itself.
_BROKEN: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_SYNCHRONOUS: Final = {"OFF": 0, "NORMAL": 1, "FULL": 2, "EXTRA": 3}


@compiles(now_ms, "sqlite")
def _now_ms(element: now_ms, compiler: SQLCompiler, **kwargs: object) -> str:  # pyright: ignore[reportUnusedFunction]
    # unixepoch('subsec') needs SQLite 3.42; rounding takes away the error of the floating point day.
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


class SqliteDialect:
    """SQLite through aiosqlite.

    Args:
        busy_seconds: how long a writer waits for another process's transaction.
        synchronous: PRAGMA synchronous of the connections that Headrace opens: FULL, EXTRA, NORMAL or OFF.
    """

    backend = "sqlite"
    one_writer = True
    # Connections of Headrace's own are opened in autocommit mode; on those of a user's engine SQLAlchemy executes.
    autocommit = False
    isolation = None
    # Processes on one file poll it.
    hear = None
    # A transaction that writes has the file for itself.
    schema_lock: Sequence[str] = ()
    schema_unlock: Sequence[str] = ()
    # The connection's thread does one thing after another, so a ROLLBACK comes after what was cancelled. Closing the
    # connection instead would keep its locks for as long as somebody keeps the cursor, as a traceback does.
    survives_cancelling = True

    def __init__(self, *, busy_seconds: float, synchronous: str, isolation: str | None) -> None:
        if synchronous.upper() not in _SYNCHRONOUS:
            raise ConfigurationError(
                f"synchronous={synchronous!r} is no setting of SQLite: use one of {', '.join(_SYNCHRONOUS)}"
            )
        if isolation not in {None, "SERIALIZABLE"}:
            raise ConfigurationError(
                f"isolation={isolation!r}: SQLite has only SERIALIZABLE; leave the setting out"
            )
        self._busy_seconds = busy_seconds
        self._synchronous = synchronous.upper()

    def check_url(self, url: URL) -> None:
        """Refuses SQLite in memory."""
        name = url.database or ""
        memory = not name or ":memory:" in name or "mode=memory" in name
        if memory or url.query.get("mode") == "memory":
            raise ConfigurationError(
                f"storage {url.render_as_string()!r} is SQLite in memory, which every connection has for itself and which"
                " is gone with the process: use MemoryStorage() for that, or a file, as in sqlite+aiosqlite:///app.db"
            )

    def create_engine(self, url: URL, *, connections: int, app: str | None = None) -> AsyncEngine:
        """An engine whose connections take one hop to their thread for each statement."""
        creator = partial(connect, busy_seconds=self._busy_seconds, synchronous=self._synchronous)
        return create_async_engine(
            url,
            # Beside these, one writer and one reader stay taken.
            pool_size=connections,
            max_overflow=2,
            pool_timeout=self._busy_seconds,
            connect_args={"async_creator_fn": creator},
        )

    def line(self, driver: object) -> Line | None:
        """Connections that Headrace opened are their own line."""
        return driver if isinstance(driver, BufferedConnection) else None

    def learn(self, connection: Connection) -> None:
        """Nothing to learn."""

    def begin(self, *, read_only: bool, isolation: str | None) -> Sequence[str]:
        """A writer takes the lock at once: read-then-write in a deferred transaction fails however long it waits."""
        return ("PRAGMA query_only=ON", "BEGIN") if read_only else ("BEGIN IMMEDIATE",)

    def end(self, *, read_only: bool) -> Sequence[str]:
        """A read-only transaction gives the connection its right to write back."""
        return ("PRAGMA query_only=OFF",) if read_only else ()

    def is_open(self, connection: Connection) -> bool:
        """Asks the sqlite3 connection, which knows without a hop."""
        driver = connection.connection.driver_connection
        return bool(getattr(driver, "in_transaction", False))

    def insert_new(self, table: Table) -> Insert:
        """INSERT ... ON CONFLICT DO NOTHING; the one writer has nobody to wait for."""
        return insert(table).on_conflict_do_nothing()

    def translate(self, error: BaseException) -> HeadraceError | None:
        """BUSY and LOCKED become StorageBusy; a file that cannot be opened or read, StorageUnavailable."""
        code = _code(error)
        if code in _BUSY:
            return StorageBusy(
                f"SQLite: {_text(error)}: another process has held the write lock for more than {self._busy_seconds:g} s."
                " Look for a long transaction there (a slow await inside a unit of work, a debugger, an open shell),"
                " or raise SqlStorage(busy_seconds=...)"
            )
        if code == sqlite3.SQLITE_CANTOPEN:
            return StorageUnavailable(
                f"SQLite: {_text(error)}: create the file's directory, and let this process write to it"
                " (SQLite makes a -wal and a -shm file beside the database)"
            )
        if code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_PROTOCOL} or _lost(
            error
        ):
            return StorageUnavailable(
                f"SQLite: {_text(error)}: look at the file, its disk and its permissions"
            )
        if code == sqlite3.SQLITE_READONLY:
            return UnitOfWorkError(
                f"SQLite: {_text(error)}: a query's unit of work is read-only, so write from a command;"
                " if this was a command, this process may not write to the file"
            )
        return None

    def dooms(self, error: BaseException, *, in_savepoint: bool) -> bool:
        """A constraint undoes its own statement only; what breaks the file or the wait for it ends the transaction."""
        code = _code(error)
        return code in _BROKEN or code in _BUSY or _lost(error)

    def recoverable(self, error: BaseException) -> bool:
        """What dooms on SQLite ends the whole transaction, savepoints included; a failed flush does not."""
        return not self.dooms(error, in_savepoint=True) and not isinstance(error, HeadraceError)

    def transient(self, error: BaseException) -> bool:
        """Locks, disk, memory, a lost file: never the fault of a message."""
        code = _code(error)
        return code in _BROKEN or code in _BUSY or _lost(error)

    def unknown_at_commit(self, error: BaseException) -> bool:
        """A failed write or sync of the log may or may not have reached the disk."""
        return _code(error) == sqlite3.SQLITE_IOERR or _lost(error)

    def warnings(self, connection: Connection) -> Sequence[str]:
        """Reads the settings that the connection really has; a user's engine sets its own."""
        found: list[str] = []
        synchronous = int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())
        journal = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())
        if synchronous < _SYNCHRONOUS["FULL"]:
            name = next(n for n, value in _SYNCHRONOUS.items() if value == synchronous)
            found.append(
                f"SQLite runs with synchronous={name}: a power failure may lose commits that were already answered."
                ' Use synchronous="FULL" where that matters.'
            )
        if journal.lower() != "wal":
            found.append(
                f"SQLite runs with journal_mode={journal}: readers and the writer block each other."
                " Execute PRAGMA journal_mode=WAL once on this file."
            )
        return found


def _driver_error(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _code(error: BaseException) -> int | None:
    """SQLite's primary result code, without the extension in the higher bits."""
    found: object = getattr(_driver_error(error), "sqlite_errorcode", None)
    return found & 0xFF if isinstance(found, int) else None


def _lost(error: BaseException) -> bool:
    """True if the connection to the file (in truth: to its thread) is gone."""
    inner = _driver_error(error)
    text = str(inner).lower()
    return isinstance(inner, (sqlite3.Error, ValueError)) and (
        "connection closed" in text or "no active connection" in text or "closed database" in text
    )


def _text(error: BaseException) -> str:
    return str(_driver_error(error))
