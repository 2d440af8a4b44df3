"""Making all that is kept older, as if time had passed: how `headrace.testing` goes on in time without waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Update, bindparam, update

from headrace.drivers.sql.schema import headrace_metadata
from headrace.drivers.sql.steps import Step

if TYPE_CHECKING:
    from headrace.drivers.sql.database import Database

# Who works what stays as it is: the processes of a test live in real time.
_IN_REAL_TIME: Final = frozenset({"headrace_lease", "headrace_owner", "headrace_pulse"})


async def age(database: Database, seconds: float) -> None:
    """Move every time that the flow goes by into the past: due times, times of creation, times of handling.

    Args:
        database: of a test, with nothing under way.
        seconds: how far, to the millisecond.
    """
    milliseconds = round(seconds * 1000)
    await database.write(*(Step(one, {"older_by": milliseconds}) for one in _statements()))


def _statements() -> list[Update]:
    """One for each table that has such times; they are known by their names, so that a table that joins is not forgotten."""
    older_by = bindparam("older_by", type_=BigInteger)
    found: list[Update] = []
    for table in headrace_metadata.sorted_tables:
        times = [column for column in table.columns if f"_{column.name}".endswith("_at_ms")]
        if times and table.name not in _IN_REAL_TIME:
            found.append(update(table).values({one.name: one - older_by for one in times}))
    return found
