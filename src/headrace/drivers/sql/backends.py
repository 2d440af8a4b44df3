"""Which databases Headrace speaks: a folder each."""

from __future__ import annotations

import importlib.util

from headrace.drivers.sql.dialect import Dialect
from headrace.errors import ConfigurationError, MissingExtra

_EXTRAS = {
    "aiosqlite": "sqlite",
    "asyncpg": "postgresql",
    "psycopg": "psycopg",
    "asyncmy": "mysql",
}


def dialect_of(
    backend: str, driver: str, *, busy_seconds: float, synchronous: str, isolation: str | None
) -> Dialect:
    """The dialect for a SQLAlchemy backend and driver name. Imports what only this database needs.

    Raises:
        ConfigurationError: Headrace does not speak it, or it has no such isolation level.
        MissingExtra: the driver is not installed.
    """
    if driver in _EXTRAS and importlib.util.find_spec(driver) is None:
        raise MissingExtra.of(f"{backend}+{driver}://", _EXTRAS[driver], driver)
    if backend == "sqlite" and driver == "aiosqlite":
        from headrace.drivers.sql.sqlite.dialect import SqliteDialect

        return SqliteDialect(
            busy_seconds=busy_seconds, synchronous=synchronous, isolation=isolation
        )
    if backend == "postgresql" and driver in {"asyncpg", "psycopg"}:
        from headrace.drivers.sql.postgresql.dialect import PostgresDialect

        return PostgresDialect(driver, busy_seconds=busy_seconds, isolation=isolation)
    if backend in {"mysql", "mariadb"} and driver == "asyncmy":
        from headrace.drivers.sql.mysql.dialect import MysqlDialect

        return MysqlDialect(backend, busy_seconds=busy_seconds, isolation=isolation)
    raise ConfigurationError(
        f"storage on {backend}+{driver} is not supported: use sqlite+aiosqlite:///file.db,"
        " postgresql+asyncpg://user@host/name, postgresql+psycopg://user@host/name or mysql+asyncmy://user@host/name"
    )
