"""Storage and broker in a database, on SQLAlchemy's async core: SQLite through aiosqlite."""

from headrace.drivers.sql.broker import SqlBroker
from headrace.drivers.sql.schema import headrace_metadata
from headrace.drivers.sql.storage import SqlStorage
from headrace.drivers.sql.transaction import SqlTransaction

__all__ = ["SqlBroker", "SqlStorage", "SqlTransaction", "headrace_metadata"]
