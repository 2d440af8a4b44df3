"""MariaDB and MySQL through asyncmy: READ COMMITTED, and what their errors and settings mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import event
from sqlalchemy.dialects.mysql import insert
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles

from headrace.drivers.sql.dialect import now_ms
from headrace.drivers.sql.mysql.errors import meaning_of, text_of
from headrace.drivers.sql.mysql.line import MysqlLine, whole
from headrace.drivers.sql.schema import Name
from headrace.drivers.sql.sqlstate import Meaning
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
    from sqlalchemy.sql.compiler import DDLCompiler, SQLCompiler

    from headrace.drivers.sql.mysql.line import AsyncmyConnection
    from headrace.drivers.sql.steps import Line

_LEVELS: Final = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
_IDLE_SECONDS: Final = 5
"""How long a transaction of Headrace's own may wait for its process between two statements."""
_OLDEST: Final = {True: (10, 6), False: (8, 0)}
"""By whether it is MariaDB: the first versions with SKIP LOCKED."""


@compiles(now_ms, "mysql")
@compiles(now_ms, "mariadb")
def _now_ms(element: now_ms, compiler: SQLCompiler, **kwargs: object) -> str:  # pyright: ignore[reportUnusedFunction]
    # In UTC: an hour that comes twice in the session's time zone must not move a lease. The time at which the statement
    # began: one that waited for a lock finds a lease younger than it is, and so leaves it alone.
    return "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"


@compiles(Name, "mysql")
@compiles(Name, "mariadb")
def _name(element: Name, compiler: DDLCompiler, **kwargs: object) -> str:  # pyright: ignore[reportUnusedFunction]
    # Compared letter by letter, blanks at the end too: else "Order 7", "order 7" and "order 7 " were one key.
    collation = "utf8mb4_nopad_bin" if _is_mariadb(compiler.dialect) else "utf8mb4_0900_bin"
    return f"VARCHAR({element.length}) CHARACTER SET utf8mb4 COLLATE {collation}"


class MysqlDialect:
    """MariaDB from 10.6, MySQL from 8.0.

    Args:
        busy_seconds: how long to wait for a connection of the pool, and for a lock on connections that Headrace opens.
        isolation: of users' units; None for the one that the engine was made with, or else READ COMMITTED.
    """

    one_writer = False
    survives_cancelling = False
    autocommit = True
    # Processes poll.
    hear = None
    # A statement that makes a table commits by itself, so no lock of a transaction holds.
    schema_lock = ("SELECT GET_LOCK('headrace schema', 60)",)
    schema_unlock = ("SELECT RELEASE_LOCK('headrace schema')",)

    def __init__(self, backend: str, *, busy_seconds: float, isolation: str | None) -> None:
        if isolation is not None and isolation not in _LEVELS:
            raise ConfigurationError(
                f"isolation={isolation!r} is not supported on MariaDB and MySQL: use one of {', '.join(_LEVELS)}"
            )
        self.backend = backend
        self._busy_seconds = busy_seconds
        self._asked = isolation
        self._isolation = isolation or _LEVELS[0]
        self._product = "MariaDB"
        self.idle_limit = "idle_transaction_timeout"
        """The session's variable that ends a connection whose transaction is idle."""

    def check_url(self, url: URL) -> None:
        """Refuses a URL without a database: the tables must have a place."""
        if not url.database:
            raise ConfigurationError(
                f"storage {url.render_as_string()!r} names no database: write mysql+asyncmy://user@host/name"
            )

    def create_engine(self, url: URL, *, connections: int, app: str | None = None) -> AsyncEngine:
        """An engine in autocommit mode, for Headrace begins and ends the transactions."""
        # Without a strict mode a name that is too long would be cut, and be another's.
        settings = (
            "SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_TRANS_TABLES'),"
            f" SESSION innodb_lock_wait_timeout = {max(1, round(self._busy_seconds))}"
        )
        engine = create_async_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=self._busy_seconds,
            isolation_level="AUTOCOMMIT",
            # Each transaction is ended by its line. Another ROLLBACK for the pool would be one more round trip for each, and
            # an error in the log for each connection that the server has closed.
            skip_autocommit_rollback=True,
            connect_args={"init_command": settings, "charset": "utf8mb4"},
        )
        _never_lend_closed(engine)
        return engine

    def line(self, driver: object) -> Line | None:
        """A line to the driver's connection."""
        return MysqlLine(cast("AsyncmyConnection", driver), idle_limit=self.idle_limit)

    def learn(self, connection: Connection) -> None:
        """Reads which product and version it is, and the isolation level of the engine.

        Raises:
            ConfigurationError: the server is too old.
        """
        said = str(connection.exec_driver_sql("SELECT VERSION()").scalar_one())
        mariadb = "mariadb" in said.lower()
        self._product = "MariaDB" if mariadb else "MySQL"
        found = re.match(r"(?:5\.5\.5-)?(\d+)\.(\d+)", said)
        if found is not None and (int(found[1]), int(found[2])) < _OLDEST[mariadb]:
            oldest = ".".join(map(str, _OLDEST[mariadb]))
            raise ConfigurationError(
                f"{self._product} {said} has no SKIP LOCKED, without which processes wait for each other: use {oldest} or later"
            )
        # MySQL limits only idle connections, which does as well while a transaction is open.
        self.idle_limit = "idle_transaction_timeout" if mariadb else "wait_timeout"
        own = connection.get_isolation_level()
        # The server's own default, REPEATABLE READ, is nobody's choice: its gap locks let senders wait for each other.
        general = connection.exec_driver_sql(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')"
        ).first()
        chosen = own in _LEVELS and general is not None and own != general[1].replace("-", " ")
        self._isolation = self._asked or (own if chosen else _LEVELS[0])

    @property
    def isolation(self) -> str | None:
        """The level of users' units."""
        return self._isolation

    def begin(self, *, read_only: bool, isolation: str | None) -> Sequence[str]:
        """Says the level, so that no default matters."""
        level = f"SET TRANSACTION ISOLATION LEVEL {isolation or _LEVELS[0]}"
        start = f"START TRANSACTION {'READ ONLY' if read_only else 'READ WRITE'}"
        if isolation or read_only:
            return (level, start)
        # Those of Headrace's own take milliseconds: a process that hangs in one is not to stop the others.
        return (f"SET SESSION {self.idle_limit} = {_IDLE_SECONDS}", level, start)

    def end(self, *, read_only: bool) -> Sequence[str]:
        """Nothing: the line takes back what it has set."""
        return ()

    def is_open(self, connection: Connection) -> bool:
        """Asked only where SQLAlchemy begins transactions."""
        return False

    def insert_new(self, table: Table) -> Insert:
        """INSERT ... ON DUPLICATE KEY UPDATE waits for a row that is not committed, and changes nothing then.

        Not INSERT IGNORE: it hides every other error too, and several that wait for one row lock each other out after.
        """
        key = next(iter(table.primary_key.columns))
        return insert(table).on_duplicate_key_update({key.name: key})

    def translate(self, error: BaseException) -> HeadraceError | None:
        """By the error's number, and by what the driver raises when a connection is lost."""
        meaning, said = meaning_of(error), f"{self._product}: {text_of(error)}"
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
                f"{said}: a lock was not had within innodb_lock_wait_timeout. Look for a long transaction in"
                " information_schema.innodb_trx"
            )
        if meaning is Meaning.READ_ONLY:
            return UnitOfWorkError(
                f"{said}: a query's unit of work is read-only, so write from a command; if this was a command, the server"
                " is a read-only replica: connect to the primary"
            )
        return None

    def dooms(self, error: BaseException, *, in_savepoint: bool) -> bool:
        """A constraint undoes its own statement only; a deadlock has undone all, and a lock time-out is not told apart."""
        return meaning_of(error) not in {None, Meaning.READ_ONLY}

    def recoverable(self, error: BaseException) -> bool:
        """What dooms ends the whole transaction, savepoints included; a failed flush does not."""
        return not self.dooms(error, in_savepoint=True) and not isinstance(error, HeadraceError)

    def transient(self, error: BaseException) -> bool:
        """Lost connections, deadlocks, changed snapshots, locks, a full disk or memory."""
        return meaning_of(error) not in {None, Meaning.READ_ONLY}

    def unknown_at_commit(self, error: BaseException) -> bool:
        """An answer that did not come: the server may have committed."""
        return meaning_of(error) is Meaning.LOST

    def warnings(self, connection: Connection) -> Sequence[str]:
        """Reads the settings that decide whether a commit survives a crash."""
        found: list[str] = []
        flush = _variable(connection, "innodb_flush_log_at_trx_commit")
        if flush not in {None, "1", "3"}:
            found.append(
                f"{self._product} runs with innodb_flush_log_at_trx_commit={flush}: a crash of its machine may lose the last"
                " commits that were already answered. Set it to 1."
            )
        binlog = _variable(connection, "log_bin") in {"1", "ON"}
        if binlog and _variable(connection, "sync_binlog") == "0":
            found.append(
                f"{self._product} runs with sync_binlog=0: after a crash of its machine the binary log, and replicas with it,"
                " may lack the last commits. Set it to 1."
            )
        if "STRICT" not in (_variable(connection, "sql_mode") or "").upper():
            found.append(
                f"{self._product} runs this engine without a strict sql_mode: values that are too long are cut in silence, also"
                " keys and ids. Add STRICT_TRANS_TABLES to sql_mode."
            )
        return found


def _variable(connection: Connection, name: str) -> str | None:
    row = connection.exec_driver_sql(f"SHOW VARIABLES LIKE '{name}'").one_or_none()
    return None if row is None else str(row[1])


def _is_mariadb(dialect: object) -> bool:
    return bool(getattr(dialect, "is_mariadb", False))


def _never_lend_closed(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "checkout")
    def _checkout(dbapi: object, record: object, proxy: object) -> None:  # pyright: ignore[reportUnusedFunction]
        raw = cast("AsyncmyConnection", getattr(record, "driver_connection", None))
        if not whole(raw):
            raise DisconnectionError("the server has closed this connection")
