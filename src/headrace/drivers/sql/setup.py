"""The first connection of a start: making the tables, and checking what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import String, bindparam, inspect, select, update
from sqlalchemy.util.concurrency import greenlet_spawn

from headrace.drivers.sql.schema import VERSION, headrace_metadata, meta
from headrace.drivers.sql.steps import Step
from headrace.errors import PartitionCountChanged, SchemaVersionError

if TYPE_CHECKING:
    from sqlalchemy import MetaData
    from sqlalchemy.engine import Connection

    from headrace.drivers.sql.database import Database

_SOME_ROWS: Final = frozenset({"sqlite", "postgresql"})
"""The databases that have indexes of some rows only."""

UPGRADES: Final[Mapping[int, Sequence[str]]] = {
    # The head of a key is found by partition, and what is due without a look at the rest. There was only SQLite then.
    1: (
        "DROP INDEX headrace_queue_head",
        "CREATE INDEX headrace_queue_head ON headrace_queue (queue, state, partition, head, position) WHERE head = 1",
        "CREATE INDEX headrace_queue_due ON headrace_queue (queue, partition, due_at_ms) WHERE due_at_ms IS NOT NULL",
    ),
    # Dead letters are listed, chosen and counted by an index of their own.
    2: (
        "CREATE INDEX headrace_queue_dead ON headrace_queue"
        " (state, position, queue, topic, error{some_letters}){dead_only}",
    ),
}
"""The statements that bring tables of a version to the next one. `create_all` then makes tables that are new."""

_NEW_INDEX: Final = "CREATE INDEX "
_OLD_INDEX: Final = "DROP INDEX "
_ALL_APPS: Final = ""
_raise_version: Final = (
    update(meta)
    .where(meta.c.app == _ALL_APPS, meta.c.name == "schema")
    .values(value=bindparam("value", type_=String))
)
_read: Final = select(meta.c.value).where(
    meta.c.app == bindparam("a", type_=String), meta.c.name == bindparam("n", type_=String)
)


async def create_schema(database: Database, metadata: MetaData | None) -> None:
    """Make the tables that do not exist and bring older ones to this version, in one transaction.

    Raises:
        SchemaVersionError: the tables are of a newer version; nothing was made.
    """
    async with database.writing() as link:
        # Of several processes that start at once one makes the tables, and the others find them.
        for lock in database.dialect.schema_lock:
            await link.execute(lock)
        await link.open()
        try:
            await greenlet_spawn(_create, link.join(), metadata)
            insert = database.dialect.insert_new(meta)
            values = {"app": _ALL_APPS, "name": "schema", "value": str(VERSION)}
            await link.run([Step(insert, values)], commit=True)
        finally:
            for unlock in database.dialect.schema_unlock:
                await link.execute(unlock)


async def fix_partitions(
    database: Database, app: str, partitions: int, *, record: bool = True
) -> None:
    """Record the app's partition count at its first start, and compare it at each later one.

    Without `record` it only compares, if there was a start.

    Raises:
        PartitionCountChanged: it was another count.
    """
    read = Step(_read, {"a": app, "n": "partitions"})
    if record:
        values = {"app": app, "name": "partitions", "value": str(partitions)}
        _, found = await database.write(Step(database.dialect.insert_new(meta), values), read)
    else:
        (found,) = await database.read(read)
    first = str(found.rows[0][0]) if found.rows else str(partitions)
    if first != str(partitions):
        raise PartitionCountChanged(
            f"the outbox of app {app!r} was first started with {first} partitions in this database, now with {partitions}:"
            f" start it with {first}, for the place of a key depends on it"
        )


async def check_schema(database: Database) -> None:
    """Compare the version of the tables, and make nothing.

    Raises:
        SchemaVersionError: there are none, or they are of another version; says what to do.
    """
    found = await version_of(database)
    if found is None:
        raise SchemaVersionError(
            "this database has no tables of Headrace, and SqlStorage(create=False) makes none: call"
            " `await SqlStorage(url).create_schema()` in a step of the deployment, or add headrace_metadata to your migrations"
            f" (with the row ('', 'schema', '{VERSION}') in headrace_meta)"
        )
    if found != VERSION:
        raise _other_version(found)


async def version_of(database: Database) -> int | None:
    """The version of the tables, or None if there are none."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(version_in)


async def warnings(database: Database) -> Sequence[str]:
    """What is weaker than full durability."""
    async with database.engine.connect() as connection:
        return await connection.run_sync(database.dialect.warnings)


def upgrades(found: int, product: str) -> list[str]:
    """The statements that bring tables of a version to this one, on a database that SQLAlchemy names so."""
    some_rows = product in _SOME_ROWS
    words = {
        "dead_only": " WHERE state = 3" if some_rows else "",
        "some_letters": "" if some_rows else "(191)",
    }
    versions = range(found, VERSION)
    return [statement.format_map(words) for one in versions for statement in UPGRADES[one]]


def open_upgrades(connection: Connection, found: int) -> list[str]:
    """As `upgrades`, without indexes that are there already.

    On MariaDB and MySQL each statement commits by itself: an upgrade that was cut in the middle is taken up where it ended.
    """
    statements = upgrades(found, connection.dialect.name)
    if not any(statement.startswith(_NEW_INDEX) for statement in statements):
        return statements
    there = _indexes(connection)
    dropped = {one.removeprefix(_OLD_INDEX) for one in statements if one.startswith(_OLD_INDEX)}
    return [
        statement
        for statement in statements
        if not statement.startswith(_NEW_INDEX)
        or (name := statement.removeprefix(_NEW_INDEX).partition(" ")[0]) in dropped
        or name not in there
    ]


def _indexes(connection: Connection) -> set[str | None]:
    found = inspect(connection)
    ours = [name for name in headrace_metadata.tables if found.has_table(name)]
    return {index["name"] for name in ours for index in found.get_indexes(name)}


def _add_missing_indexes(connection: Connection) -> None:
    """Tables of a first start that was cut in the middle, where each statement commits by itself, may lack some."""
    there = _indexes(connection)
    for table in headrace_metadata.sorted_tables:
        for index in table.indexes:
            if index.name not in there:
                index.create(connection)


def _create(connection: Connection, metadata: MetaData | None) -> None:
    found = version_in(connection)
    if found is not None:
        if found > VERSION:
            raise _other_version(found)
        for statement in open_upgrades(connection, found):
            connection.exec_driver_sql(statement)
        if found < VERSION:
            connection.execute(_raise_version, {"value": str(VERSION)})
    headrace_metadata.create_all(connection)
    if found is None:
        _add_missing_indexes(connection)
    if metadata is not None:
        metadata.create_all(connection)


def version_in(connection: Connection) -> int | None:
    """See `version_of`."""
    if not inspect(connection).has_table(meta.name):
        return None
    found = connection.execute(_read, {"a": _ALL_APPS, "n": "schema"}).scalar_one_or_none()
    return None if found is None else int(found)


def _other_version(found: int) -> SchemaVersionError:
    what = (
        "install the Headrace that fits"
        if found > VERSION
        else "call `await SqlStorage(url).create_schema()` in a step of the deployment, which upgrades them, or migrate them with"
        " Alembic (headrace_metadata describes them)"
    )
    return SchemaVersionError(
        f"the tables of Headrace in this database have version {found}, and this Headrace has version {VERSION}: {what}"
    )
