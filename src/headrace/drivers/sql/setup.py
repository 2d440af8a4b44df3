"""The first connection of a start: making the tables, and checking what is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import String, bindparam, inspect, select
from sqlalchemy.util.concurrency import greenlet_spawn

from headrace.drivers.sql.schema import VERSION, headrace_metadata, meta
from headrace.drivers.sql.steps import Step
from headrace.errors import PartitionCountChanged, SchemaVersionError

if TYPE_CHECKING:
    from sqlalchemy import MetaData
    from sqlalchemy.engine import Connection

    from headrace.drivers.sql.database import Database

_ALL_APPS: Final = ""
_read: Final = select(meta.c.value).where(
    meta.c.app == bindparam("a", type_=String), meta.c.name == bindparam("n", type_=String)
)


async def create_schema(database: Database, metadata: MetaData | None) -> None:
    """Make the tables that do not exist, in one transaction.

    Raises:
        SchemaVersionError: there are tables of another version; nothing was made.
    """
    async with database.writing() as link:
        await greenlet_spawn(_create, link.join(), metadata)
        insert = database.dialect.insert_new(meta)
        values = {"app": _ALL_APPS, "name": "schema", "value": str(VERSION)}
        await link.run([Step(insert, values)], commit=True)


async def fix_partitions(database: Database, app: str, partitions: int) -> None:
    """Record the app's partition count at its first start, and compare it at each later one.

    Raises:
        PartitionCountChanged: it was another count.
    """
    insert = database.dialect.insert_new(meta)
    _, found = await database.write(
        Step(insert, {"app": app, "name": "partitions", "value": str(partitions)}),
        Step(_read, {"a": app, "n": "partitions"}),
    )
    first = str(found.rows[0][0])
    if first != str(partitions):
        raise PartitionCountChanged(
            f"the outbox of app {app!r} was first started with {first} partitions in this database, now with {partitions}:"
            f" start it with {first}, for the place of a key depends on it"
        )


async def warnings(database: Database) -> Sequence[str]:
    """What is weaker than full durability."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(database.dialect.warnings)


def _create(connection: Connection, metadata: MetaData | None) -> None:
    if inspect(connection).has_table(meta.name):
        found = connection.execute(_read, {"a": _ALL_APPS, "n": "schema"}).scalar_one_or_none()
        if found is not None and found != str(VERSION):
            raise SchemaVersionError(
                f"the tables of Headrace in this database have version {found}, and this Headrace has version {VERSION}:"
                " install the Headrace that fits, or migrate the tables (headrace_metadata describes them for Alembic)"
            )
    headrace_metadata.create_all(connection)
    if metadata is not None:
        metadata.create_all(connection)
