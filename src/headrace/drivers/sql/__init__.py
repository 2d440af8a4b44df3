"""Storage and broker in a database, on SQLAlchemy's async core. Needs the extra of the database, such as `sqlite`."""

from headrace.errors import MissingExtra

try:
    from headrace.drivers.sql.broker import SqlBroker
    from headrace.drivers.sql.schema import headrace_metadata
    from headrace.drivers.sql.storage import SqlStorage
    from headrace.drivers.sql.transaction import SqlTransaction
except ModuleNotFoundError as error:
    # Which database it is to be is not known here; each of their extras has SQLAlchemy.
    raise MissingExtra.of(__name__, "sqlite", error.name or "sqlalchemy") from error

__all__ = ["SqlBroker", "SqlStorage", "SqlTransaction", "headrace_metadata"]
