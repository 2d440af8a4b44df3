"""Where databases differ: the seam, and the file of each database that Headrace speaks."""

from __future__ import annotations

from headrace.drivers.sql.dialects.base import Dialect, now_ms
from headrace.drivers.sql.dialects.sqlite import SqliteDialect
from headrace.errors import ConfigurationError

__all__ = ["Dialect", "SqliteDialect", "dialect_of", "now_ms"]


def dialect_of(backend: str, driver: str, *, busy_seconds: float, synchronous: str) -> Dialect:
    """The dialect for a SQLAlchemy backend and driver name.

    Raises:
        ConfigurationError: Headrace does not speak it.
    """
    if backend == "sqlite" and driver == "aiosqlite":
        return SqliteDialect(busy_seconds=busy_seconds, synchronous=synchronous)
    raise ConfigurationError(
        f"storage on {backend}+{driver} is not supported: use sqlite+aiosqlite:///file.db"
    )
