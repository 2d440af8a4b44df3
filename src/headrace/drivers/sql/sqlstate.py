"""What a driver's error means, by its SQLSTATE. Of standard codes and PostgreSQL's own.

Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from sqlalchemy.exc import DBAPIError, IntegrityError


class Meaning(enum.Enum):
    """What matters of an error."""

    LOST = "the connection is lost, or could not be made"
    FULL = "no connection is left"
    SERIALIZATION = "another transaction was in the way: run all of it again"
    DEADLOCK = "another transaction waited for this one"
    LOCKED = "a lock was not had in time"
    READ_ONLY = "the transaction may not write"
    RESOURCES = "disk, memory or another of the server's means ran out"


_MEANINGS: Final = {
    "40001": Meaning.SERIALIZATION,
    "40P01": Meaning.DEADLOCK,
    "55P03": Meaning.LOCKED,
    "25006": Meaning.READ_ONLY,
    "53300": Meaning.FULL,
    # Ended by the server: shut down, crashed, not ready yet, database dropped, idle for too long.
    "57P01": Meaning.LOST,
    "57P02": Meaning.LOST,
    "57P03": Meaning.LOST,
    "57P04": Meaning.LOST,
    "57P05": Meaning.LOST,
    "25P03": Meaning.LOST,
    "25P04": Meaning.LOST,
}
_CONSTRAINT: Final = "23"
# The server ended the transaction while it waited for the client.
_ENDED_BEFORE: Final = frozenset({"25P03", "25P04", "57P05"})
_UNSENT: Final = ("connection is closed", "cannot switch to state")

_CLASSES: Final = {"08": Meaning.LOST, "53": Meaning.RESOURCES, "58": Meaning.RESOURCES}
_SAID_WHEN_LOST: Final = (
    "connection is closed",
    "connection was closed",
    "connection has been closed",
    "connection closed",
    "closed the connection",
    "connection is lost",
    "connection timeout",
    "connection failed",
    "consuming input failed",
    "underlying connection is closed",
    "the underlying transport",
    "connection reset",
    "broken pipe",
    # asyncpg's, when the server ended the connection while nothing was asked of it.
    "cannot switch to state",
)


def sqlstate(error: BaseException) -> str | None:
    """The five letters of the error, if it came from a server."""
    for one in _each(error):
        for name in ("sqlstate", "pgcode"):
            code = getattr(one, name, None)
            if isinstance(code, str) and len(code) == 5:
                return code
    return None


def meaning_of(error: BaseException) -> Meaning | None:
    """What an error of a driver means; None for one that is the statement's or its data's."""
    code = sqlstate(error)
    if code is not None:
        return _MEANINGS.get(code) or _CLASSES.get(code[:2])
    for one in _each(error):
        if isinstance(one, OSError):
            return Meaning.LOST
        of_driver = type(one).__module__.partition(".")[0] in {"asyncpg", "psycopg", "sqlalchemy"}
        if of_driver and any(words in str(one).lower() for words in _SAID_WHEN_LOST):
            return Meaning.LOST
    return None


def refused(error: BaseException) -> BaseException:
    """For a constraint that COMMIT found broken, SQLAlchemy's `IntegrityError`; any other error as it is."""
    if isinstance(error, DBAPIError):
        return error
    by_name = any(kind.__name__ == "IntegrityError" for kind in type(error).__mro__)
    if by_name or (sqlstate(error) or "").startswith(_CONSTRAINT):
        return IntegrityError("COMMIT", None, error)
    return error


def lost_before(error: BaseException) -> bool:
    """True if the connection was lost before the statement was sent, so that the server never saw it."""
    if sqlstate(error) in _ENDED_BEFORE:
        return True
    said = [str(one).lower() for one in _each(error)]
    return sqlstate(error) is None and any(words in one for words in _UNSENT for one in said)


def text_of(error: BaseException) -> str:
    """What the server or driver said, without SQLAlchemy's words around it."""
    found = list(_each(error))
    return str(found[-1]).strip() or type(found[-1]).__name__


def _each(error: BaseException) -> Iterator[BaseException]:
    """The error, and the driver's inside."""
    yield error
    if isinstance(error, DBAPIError) and error.orig is not None:
        yield error.orig
        if error.orig.__cause__ is not None:
            yield error.orig.__cause__
