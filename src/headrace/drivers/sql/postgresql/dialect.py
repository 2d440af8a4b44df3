"""PostgreSQL through asyncpg or psycopg: transactions of its own, and what its errors and settings mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles

from headrace.drivers.sql.dialect import now_ms
from headrace.drivers.sql.postgresql.kept import Kept
from headrace.drivers.sql.postgresql.lines import AsyncpgLine, PsycopgLine, hear_on_asyncpg
from headrace.drivers.sql.sqlstate import Meaning, lost_before, meaning_of, text_of
from headrace.errors import (
    ConfigurationError,
    HeadraceError,
    StorageBusy,
    StorageUnavailable,
    UnitOfWorkError,
)

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Insert, Table
    from sqlalchemy.engine import URL, Connection
    from sqlalchemy.sql.compiler import SQLCompiler

    from headrace.drivers.sql.postgresql.lines import AsyncpgConnection
    from headrace.drivers.sql.steps import Line

_LEVELS: Final = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")

_IDLE_SECONDS: Final = 5.0
"""How long a transaction of Headrace's own may wait for its process between two statements."""


@compiles(now_ms, "postgresql")
def _now_ms(element: now_ms, compiler: SQLCompiler, **kwargs: object) -> str:  # pyright: ignore[reportUnusedFunction]
    # now() stands still in a transaction, and a lease must not.
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)"


class PostgresDialect:
    """PostgreSQL.

    Args:
        driver: asyncpg or psycopg.
        busy_seconds: how long to wait for a connection of the pool, and for a lock in a transaction of Headrace's own.
        isolation: of users' units; None for the engine's or the server's own.
    """

    backend = "postgresql"
    one_writer = False
    survives_cancelling = False
    autocommit = True
    # Any number that nobody else uses.
    schema_lock = ("SELECT pg_advisory_xact_lock(7522521)",)
    schema_unlock: Sequence[str] = ()

    def __init__(self, driver: str, *, busy_seconds: float, isolation: str | None) -> None:
        if isolation is not None and isolation not in _LEVELS:
            raise ConfigurationError(
                f"isolation={isolation!r} is not supported on PostgreSQL: use one of {', '.join(_LEVELS)}"
            )
        self._driver = driver
        self._busy_seconds = busy_seconds
        self._asked = isolation
        self._isolation = isolation or _LEVELS[0]
        self._alone = False
        # Only connections of Headrace's own: a pool of the user's may clean them between two.
        self._kept: WeakKeyDictionary[object, Kept] | None = None
        self._limits = (
            f"SET LOCAL lock_timeout = {round(busy_seconds * 1000)};"
            f" SET LOCAL idle_in_transaction_session_timeout = {round(_IDLE_SECONDS * 1000)}"
        )

    def check_url(self, url: URL) -> None:
        """Any will do."""

    def create_engine(self, url: URL, *, connections: int, app: str | None = None) -> AsyncEngine:
        """An engine in autocommit mode, for Headrace begins and ends the transactions."""
        # What people see in pg_stat_activity; PostgreSQL cuts it at 63 bytes.
        name = {"application_name": f"headrace/{app}" if app else "headrace"}
        given = "application_name" in url.query or "options" in url.query
        names = {} if given else {"server_settings": name} if self._driver == "asyncpg" else name
        engine = create_async_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=self._busy_seconds,
            isolation_level="AUTOCOMMIT",
            # Each transaction is ended by its line: to ask the driver for another ROLLBACK only takes time.
            skip_autocommit_rollback=True,
            # asyncpg hears at once when a connection is lost; psycopg has to ask.
            pool_pre_ping=self._driver == "psycopg",
            connect_args=names,
        )
        self._kept = WeakKeyDictionary()
        if self._driver == "asyncpg":
            _never_lend_closed(engine)
        return engine

    def line(self, driver: object) -> Line | None:
        """A line to the driver's connection."""
        kept = None if self._kept is None else self._kept.setdefault(driver, Kept())
        if self._driver == "asyncpg":
            return AsyncpgLine(cast("AsyncpgConnection", driver), alone=self._alone, kept=kept)
        raw = cast("psycopg.AsyncConnection[tuple[object, ...]]", driver)
        return PsycopgLine(raw, alone=self._alone, kept=kept)

    async def hear(
        self,
        driver: object,
        channel: str,
        began: Callable[[], None],
        heard: Callable[[str], None],
    ) -> None:
        """LISTEN, until the connection is lost."""
        if self._driver == "asyncpg":
            await hear_on_asyncpg(cast("AsyncpgConnection", driver), channel, began, heard)
        else:
            raw = cast("psycopg.AsyncConnection[tuple[object, ...]]", driver)
            await raw.execute(f"LISTEN {channel}".encode())
            began()
            async for notice in raw.notifies():
                heard(notice.payload)

    def learn(self, connection: Connection) -> None:
        """Reads the isolation level of users' units, and whether a statement alone is READ COMMITTED."""
        default = _setting(connection, "default_transaction_isolation").upper()
        self._alone = default == _LEVELS[0]
        own = connection.get_isolation_level()
        level = self._asked or (own if own in _LEVELS else default)
        self._isolation = level if level in _LEVELS else _LEVELS[0]

    @property
    def isolation(self) -> str | None:
        """The level of users' units."""
        return self._isolation

    def begin(self, *, read_only: bool, isolation: str | None) -> Sequence[str]:
        """BEGIN says the level, so that no default matters."""
        mode = "READ ONLY" if read_only else "READ WRITE"
        begin = f"BEGIN ISOLATION LEVEL {isolation or _LEVELS[0]}, {mode}"
        # Those of Headrace's own take milliseconds: neither a lock that does not come nor a process that hangs in one is
        # to stop the others.
        return (begin,) if isolation else (begin, self._limits)

    def end(self, *, read_only: bool) -> Sequence[str]:
        """Nothing: what a transaction set ended with it."""
        return ()

    def is_open(self, connection: Connection) -> bool:
        """Asked only where SQLAlchemy begins transactions."""
        return False

    def insert_new(self, table: Table) -> Insert:
        """INSERT ... ON CONFLICT DO NOTHING waits for a row that is not committed."""
        return insert(table).on_conflict_do_nothing()

    def translate(self, error: BaseException) -> HeadraceError | None:
        """By SQLSTATE, and by what the drivers raise when a connection is lost."""
        meaning, said = meaning_of(error), f"PostgreSQL: {text_of(error)}"
        if meaning is Meaning.LOST:
            return StorageUnavailable(
                f"{said}: the connection was lost or refused. Look whether the server runs and can be reached; a send that"
                " failed so has done nothing and may be repeated"
            )
        if meaning is Meaning.FULL:
            return StorageBusy(
                f"{said}: the server has no connection left. Lower SqlStorage(connections=...) or the number of processes,"
                " or raise max_connections of the server"
            )
        if meaning is Meaning.LOCKED:
            return StorageBusy(
                f"{said}: a lock was not had within lock_timeout. Look for a long transaction in pg_stat_activity"
            )
        if meaning is Meaning.READ_ONLY:
            return UnitOfWorkError(
                f"{said}: a query's unit of work is read-only, so write from a command; if this was a command, the server"
                " is a read-only standby: connect to the primary"
            )
        return None

    def dooms(self, error: BaseException, *, in_savepoint: bool) -> bool:
        """Any error outside a savepoint; in one, what going back to it does not undo."""
        return not in_savepoint or not self.recoverable(error)

    def recoverable(self, error: BaseException) -> bool:
        """A lost connection has nothing to go back to, and a serialization failure holds for the whole transaction."""
        if isinstance(error, StorageUnavailable):
            return False
        return meaning_of(error) not in {Meaning.LOST, Meaning.SERIALIZATION}

    def transient(self, error: BaseException) -> bool:
        """Lost connections, deadlocks, serialization failures, locks, a full disk or memory."""
        return meaning_of(error) not in {None, Meaning.READ_ONLY}

    def unknown_at_commit(self, error: BaseException) -> bool:
        """An answer that did not come: the server may have committed."""
        return meaning_of(error) is Meaning.LOST and not lost_before(error)

    def warnings(self, connection: Connection) -> Sequence[str]:
        """Reads the settings that decide whether a commit survives a crash."""
        found: list[str] = []
        if _setting(connection, "fsync") == "off":
            found.append(
                "PostgreSQL runs with fsync=off: a crash of its machine may lose commits and destroy the database."
                " Set fsync=on."
            )
        if _setting(connection, "full_page_writes") == "off":
            found.append(
                "PostgreSQL runs with full_page_writes=off: a crash of its machine may leave torn pages."
                " Set full_page_writes=on, unless the file system prevents them."
            )
        commit = _setting(connection, "synchronous_commit")
        if commit == "off":
            found.append(
                "PostgreSQL runs with synchronous_commit=off: a crash may lose the last commits that were already answered."
                " Set synchronous_commit=on where that matters."
            )
        return found


def _setting(connection: Connection, name: str) -> str:
    return str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())


def _never_lend_closed(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "checkout")
    def _checkout(dbapi: object, record: object, proxy: object) -> None:  # pyright: ignore[reportUnusedFunction]
        raw = cast("AsyncpgConnection", getattr(record, "driver_connection", None))
        if raw.is_closed():
            raise DisconnectionError("the server has closed this connection")
