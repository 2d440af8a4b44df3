"""Looking for messages in topics that are kept in the database: for people, not for the flow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import BigInteger, Integer, LargeBinary, String, bindparam, func, select

from headrace.broker import Received
from headrace.drivers.sql.bytes_in import PlaceIn
from headrace.drivers.sql.schema import log
from headrace.drivers.sql.steps import Step
from headrace.envelope import Message, packed_correlation, packed_start, unpack

if TYPE_CHECKING:
    from sqlalchemy import Executable

    from headrace.drivers.sql.database import Database

PART: Final = 10_000
"""How many rows one statement looks at: some milliseconds, and no snapshot that stops a clean-up."""


_of_partition = (
    log.c.topic == bindparam("t", type_=String),
    log.c.partition == bindparam("p", type_=Integer),
)
_ends: Final = select(func.min(log.c.position), func.max(log.c.position)).where(*_of_partition)


@cache
def _found(*, ids: bool, keys: bool, correlations: bool) -> Executable:
    """Messages in a part of a partition, the latest first."""
    chosen = (
        select(log.c.partition, log.c.position, log.c.topic, log.c.key, log.c.envelope, log.c.body)
        .where(
            *_of_partition,
            log.c.position > bindparam("after", type_=BigInteger),
            log.c.position <= bindparam("upto", type_=BigInteger),
        )
        .order_by(log.c.position.desc())
        .limit(bindparam("most", type_=Integer))
    )
    if ids:
        start = func.substr(log.c.envelope, 1, bindparam("start_bytes", type_=Integer))
        chosen = chosen.where(start == bindparam("start", type_=LargeBinary))
    if correlations:
        chosen = chosen.where(PlaceIn(log.c.envelope, bindparam("part", type_=LargeBinary)) > 0)
    return chosen.where(log.c.key == bindparam("v_key", type_=String)) if keys else chosen


async def search(
    database: Database,
    topic: str,
    partitions: Iterable[int],
    *,
    id: str | None = None,  # noqa: A002 - CloudEvents' own name
    key: str | None = None,
    correlation: str | None = None,
    limit: int = 100,
) -> Sequence[Received]:
    """The latest messages of these partitions to which all that is given applies, in order within each partition.

    Reads all of them, in bounded parts.

    Args:
        database: where the topic is.
        topic: its name.
        partitions: where to look.
        id: of the envelope.
        key: of the message.
        correlation: of the envelope.
        limit: how many at most, of each partition.
    """
    statement = _found(
        ids=id is not None, keys=key is not None, correlations=correlation is not None
    )
    values: dict[str, object] = {"t": topic}
    if id is not None:
        start = packed_start(id)
        values |= {"start": start, "start_bytes": len(start)}
    if key is not None:
        values["v_key"] = key
    if correlation is not None:
        values["part"] = packed_correlation(correlation)
    found: list[Received] = []
    for partition in partitions:
        place = {**values, "p": partition}
        (ends,) = await database.read(Step(_ends, {"t": topic, "p": partition}))
        first, upto = cast("tuple[int | None, int | None]", ends.rows[0])
        latest: list[Received] = []
        while first is not None and upto is not None and upto >= first and len(latest) < limit:
            bounds = {"after": upto - PART, "upto": upto, "most": limit - len(latest)}
            (page,) = await database.read(Step(statement, {**place, **bounds}))
            latest += [received(row) for row in page.rows]
            upto -= PART
        found += reversed(latest)
    return found


def received(row: Sequence[object]) -> Received:
    """A row of the log as a message that was read."""
    partition, position, topic, key, envelope, body = cast(
        "tuple[int, int, str, str | None, bytes, bytes]", row
    )
    return Received(partition, str(position), Message(topic, key, unpack(envelope), body))
