"""What is to be done to the tables is told as statements, which do the same as the command that does it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from headrace.drivers.sql import SqlStorage
from headrace.drivers.sql.existing import ExistingStorage
from headrace.drivers.sql.schema import VERSION
from tests.servers import engine
from tests.unit.drivers_sql.conftest import Base
from tests.unit.drivers_sql.test_upgrades import OLD, UNDO, described, shape


def existing(url: str) -> ExistingStorage:
    return ExistingStorage(SqlStorage(url, metadata=Base.metadata))


async def test_looking_makes_nothing(tmp_path: Path) -> None:
    """Not even the file (of SQLite)."""
    file = tmp_path / "new.db"
    found = await existing(f"sqlite+aiosqlite:///{file}").migration()
    assert found.found is None
    assert {"headrace_queue", "headrace_meta", "account"} <= set(found.tables)
    assert not file.exists()


@pytest.mark.parametrize("version", OLD)
async def test_the_statements_upgrade_every_older_version(tmp_path: Path, version: int) -> None:
    """Run by hand they lead to the tables that the command makes."""
    by_hand, made = tmp_path / "old.db", tmp_path / "new.db"
    url = f"sqlite+aiosqlite:///{by_hand}"
    with closing(sqlite3.connect(by_hand)) as db:
        db.executescript(OLD[version].read_text(encoding="utf-8"))
        db.execute("INSERT INTO headrace_meta VALUES ('', 'schema', ?)", (str(version),))
        db.execute("INSERT INTO headrace_meta VALUES ('app', 'partitions', '4')")
        db.commit()
    migration = await existing(url).migration()
    assert (migration.found, migration.wanted) == (version, VERSION)
    assert dict(migration.partitions) == {"app": 4}
    with closing(sqlite3.connect(by_hand)) as db:
        for statement in migration.statements:
            db.execute(statement)
        db.commit()
    await SqlStorage(f"sqlite+aiosqlite:///{made}", metadata=Base.metadata).create_schema()
    assert shape(by_hand) == shape(made)
    after = await existing(url).migration()
    assert (after.found, after.statements, after.newer) == (VERSION, (), False)


@pytest.mark.parametrize("name", UNDO)
async def test_the_statements_do_on_servers_what_the_command_does(name: str) -> None:
    """Into an empty database; where a change of tables commits by itself, they are no transaction."""
    url, drop = engine(name).fresh_database()
    other, drop_other = engine(name).fresh_database()
    try:
        await SqlStorage(url).create_schema()
        migration = await ExistingStorage(SqlStorage(other)).migration()
        assert migration.atomic is (name == "postgresql")
        made, by_hand = create_async_engine(url), create_async_engine(other)
        async with by_hand.begin() as connection:
            for statement in migration.statements:
                await connection.exec_driver_sql(statement.replace("%", "%%"))
        async with made.connect() as one, by_hand.connect() as two:
            assert await two.run_sync(described) == await one.run_sync(described)
        await made.dispose()
        await by_hand.dispose()
        assert not (await ExistingStorage(SqlStorage(other)).migration()).statements
    finally:
        drop()
        drop_other()


async def test_tables_of_a_newer_headrace_are_left_alone(url: str) -> None:
    """There is no way back, and nothing is to be run."""
    await SqlStorage(url).create_schema()
    with closing(sqlite3.connect(url.partition(":///")[2])) as db:
        db.execute("UPDATE headrace_meta SET value = '99' WHERE name = 'schema'")
        db.commit()
    migration = await existing(url).migration()
    assert (migration.newer, migration.statements) == (True, ())


async def test_a_password_is_not_shown() -> None:
    """Where the database is, is shown to people."""
    shown = ExistingStorage(SqlStorage("postgresql+asyncpg://ann:secret@db/shop")).where
    assert shown == "postgresql+asyncpg://ann:***@db/shop"
