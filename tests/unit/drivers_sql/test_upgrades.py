"""Tables of every earlier version become those of this one, and keep what is in them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine

from headrace.drivers.sql import SqlStorage
from headrace.drivers.sql.existing import ExistingStorage
from headrace.drivers.sql.schema import VERSION
from headrace.drivers.sql.setup import UPGRADES
from headrace.errors import SchemaVersionError
from tests.servers import engine

OLD = {n: Path(__file__).with_name(f"schema_{n}.sql") for n in range(1, VERSION)}
"""The tables of each earlier version on SQLite, as they were made then."""

UNDO = {
    "postgresql": "DROP INDEX headrace_queue_dead",
    "mariadb": "DROP INDEX headrace_queue_dead ON headrace_queue",
}
"""What makes tables of version 3 those of version 2, besides the tables that are new."""


def shape(file: Path) -> set[tuple[str, str]]:
    """Tables with their columns, and indexes with what they are on."""
    with closing(sqlite3.connect(file)) as db:
        found = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {(name, " ".join(sql.replace("BLOB", "").split())) for name, sql in found}


@pytest.fixture(params=OLD)
def version(request: pytest.FixtureRequest) -> int:
    """An earlier version."""
    return int(request.param)


@pytest.fixture
def old(tmp_path: Path, version: int) -> Path:
    """A file of that version with a message in it."""
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as db:
        db.executescript(OLD[version].read_text(encoding="utf-8"))
        db.execute("INSERT INTO headrace_meta VALUES ('', 'schema', ?)", (str(version),))
        db.execute("INSERT INTO headrace_meta VALUES ('app', 'partitions', '4')")
        db.execute(
            "INSERT INTO headrace_queue (queue, partition, topic, key, envelope, body, state, head, attempts, created_at_ms)"
            " VALUES ('outbox:app', 1, 'orders', 'a',"
            ' \'{"specversion":"1.0","id":"1","source":"app","type":"t.v1"}\', \'{}\', 0, 0, 0, 0)'
        )
        db.commit()
    return file


async def test_older_tables_are_upgraded(old: Path, tmp_path: Path) -> None:
    """The upgraded file has the tables and indexes of a new one, its version, and the message that was in it."""
    new = tmp_path / "new.db"
    await SqlStorage(f"sqlite+aiosqlite:///{new}").create_schema()
    storage = SqlStorage(f"sqlite+aiosqlite:///{old}")
    await storage.start("app", partitions=4)
    try:
        (row,) = await storage.ready("outbox:app", range(4), limit=5)
    finally:
        await storage.stop()
    assert (row.message.topic, row.message.envelope.id) == ("orders", "1")
    assert shape(old) == shape(new)
    with closing(sqlite3.connect(old)) as db:
        query = "SELECT value FROM headrace_meta WHERE app = '' AND name = 'schema'"
        assert db.execute(query).fetchone() == (str(VERSION),)


async def test_without_create_old_tables_are_refused(old: Path, version: int) -> None:
    """A process that may not change tables says which version they have, and how they are upgraded."""
    storage = SqlStorage(f"sqlite+aiosqlite:///{old}", create=False)
    with pytest.raises(SchemaVersionError, match=rf"have version {version}.*create_schema"):
        await storage.start("app", partitions=4)


def test_every_version_has_a_way_to_the_next() -> None:
    """From each earlier version there are steps to this one."""
    assert sorted(UPGRADES) == list(range(1, VERSION))


@pytest.mark.parametrize("name", UNDO)
async def test_servers_are_upgraded_from_version_2(name: str) -> None:
    """On a server too the upgraded tables have the columns and indexes of new ones."""
    url, drop = engine(name).fresh_database()
    try:
        await SqlStorage(url).create_schema()
        made = create_async_engine(url)
        async with made.begin() as connection:
            new = await connection.run_sync(described)
            for statement in (
                UNDO[name],
                "DROP TABLE headrace_pulse",
                "DROP TABLE headrace_audit",
                "UPDATE headrace_meta SET value = '2' WHERE name = 'schema'",
            ):
                await connection.exec_driver_sql(statement)
        await SqlStorage(url).create_schema()
        async with made.connect() as connection:
            assert await connection.run_sync(described) == new
        await made.dispose()
    finally:
        drop()


@pytest.mark.parametrize("name", UNDO)
async def test_an_upgrade_that_was_cut_is_taken_up(name: str) -> None:
    """Where each statement commits by itself, a process may die between an index and the version that says so."""
    url, drop = engine(name).fresh_database()
    try:
        await SqlStorage(url).create_schema()
        made = create_async_engine(url)
        async with made.begin() as connection:
            new = await connection.run_sync(described)
            await connection.exec_driver_sql(
                "UPDATE headrace_meta SET value = '2' WHERE name = 'schema'"
            )
        assert await ExistingStorage(SqlStorage(url)).version() == 2
        plan = await ExistingStorage(SqlStorage(url)).migration()
        assert not any("CREATE INDEX" in statement for statement in plan.statements)
        await SqlStorage(url).create_schema()
        assert await ExistingStorage(SqlStorage(url)).version() == VERSION
        async with made.begin() as connection:
            assert await connection.run_sync(described) == new
            await connection.exec_driver_sql("DELETE FROM headrace_meta")
            await connection.exec_driver_sql(UNDO[name])
        await SqlStorage(url).create_schema()
        async with made.connect() as connection:
            assert await connection.run_sync(described) == new
        await made.dispose()
    finally:
        drop()


def described(connection: Connection) -> dict[str, object]:
    """Each table with its columns, and its indexes with what they are on."""
    found = inspect(connection)
    return {
        table: (
            [(column["name"], str(column["type"])) for column in found.get_columns(table)],
            sorted(map(str, found.get_indexes(table))),
        )
        for table in found.get_table_names()
    }
