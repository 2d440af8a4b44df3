"""What an error of MariaDB or MySQL means, by its number.

Source: MariaDB documentation, "MariaDB Error Codes"; MySQL documentation, "Server Error Message Reference".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy.exc import DBAPIError

from headrace.drivers.sql.sqlstate import Meaning

_MEANINGS: Final = {
    # Lost, refused, or ended by the server: shut down, killed, idle for too long.
    **dict.fromkeys((2003, 2006, 2013, 2014, 2045, 2055, 4031), Meaning.LOST),
    **dict.fromkeys((1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161), Meaning.LOST),
    **dict.fromkeys((1927, 3169), Meaning.LOST),
    # COMMIT itself failed in the storage engine: nobody knows how far it came.
    1180: Meaning.LOST,
    **dict.fromkeys((1040, 1203, 1226), Meaning.FULL),
    1213: Meaning.DEADLOCK,
    **dict.fromkeys((1205, 3572), Meaning.LOCKED),
    # A row was changed after the snapshot was taken (innodb_snapshot_isolation).
    1020: Meaning.SERIALIZATION,
    **dict.fromkeys((1792, 1836), Meaning.READ_ONLY),
    **dict.fromkeys((1021, 1030, 1037, 1038, 1041, 1114, 1135), Meaning.RESOURCES),
}
_OPTION_PREVENTS: Final = 1290
_SAID_WHEN_LOST: Final = (
    "not connected",
    "cancelled during execution",
    "network operation failed",
    "packet sequence number wrong",
    "already closed",
)


def number_of(error: BaseException) -> int | None:
    """The server's or the driver's number of the error, if it has one."""
    for one in _each(error):
        if _of_driver(one) and one.args and isinstance(one.args[0], int):
            return one.args[0]
    return None


def meaning_of(error: BaseException) -> Meaning | None:
    """What an error of the driver means; None for one that is the statement's or its data's."""
    number = number_of(error)
    if number == _OPTION_PREVENTS:
        return Meaning.READ_ONLY if "read-only" in text_of(error).lower() else None
    if number:
        return _MEANINGS.get(number)
    for one in _each(error):
        if isinstance(one, OSError):
            return Meaning.LOST
        if _of_driver(one) and any(words in str(one).lower() for words in _SAID_WHEN_LOST):
            return Meaning.LOST
    return None


def text_of(error: BaseException) -> str:
    """What the server or driver said, without SQLAlchemy's words around it."""
    last = list(_each(error))[-1]
    if len(last.args) == 2:
        number, words = last.args
        return f"{words} ({number})"
    return str(last).strip() or type(last).__name__


def _of_driver(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "asyncmy"


def _each(error: BaseException) -> Iterator[BaseException]:
    """The error, and the driver's inside."""
    yield error
    if isinstance(error, DBAPIError) and error.orig is not None:
        yield error.orig
        if error.orig.__cause__ is not None:
            yield error.orig.__cause__
