"""SQLite: files, settings, a user's own engine, and other writers."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from headrace.drivers.sql import SqlStorage
from headrace.errors import (
    ConfigurationError,
    SchemaVersionError,
    StorageBusy,
    StorageUnavailable,
)
from headrace.storage import Verdict
from tests.unit.drivers_sql.conftest import Base
from tests.unit.drivers_sql.steps import (
    connection_of,
    message,
    names,
    one_lease,
    outbox_ids,
    session_of,
)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite:///file:x?mode=memory&cache=shared&uri=true",
    ],
)
def test_sqlite_in_memory_is_refused(url: str) -> None:
    """A database that each connection has for itself keeps nothing; the error names what to take."""
    with pytest.raises(ConfigurationError, match="MemoryStorage"):
        SqlStorage(url)


@pytest.mark.parametrize("url", ["postgresql+nothing://x", "sqlite:///a.db", "no url"])
def test_other_urls_are_refused(url: str) -> None:
    """A URL that cannot be used is an error with one that can."""
    with pytest.raises(ConfigurationError, match=r"sqlite\+aiosqlite"):
        SqlStorage(url)


async def test_a_missing_directory_is_explained(tmp_path: Path) -> None:
    """A file that cannot be opened is `StorageUnavailable` with what to do."""
    storage = SqlStorage(f"sqlite+aiosqlite:///{tmp_path / 'no' / 'app.db'}")
    with pytest.raises(StorageUnavailable, match="directory") as caught:
        await storage.start("app", partitions=1)
    assert storage.transient(caught.value)


async def test_weaker_settings_are_told(url: str) -> None:
    """`synchronous` below FULL is a warning at the start (G5)."""
    storage = SqlStorage(url, synchronous="NORMAL")
    warnings = await storage.start("app", partitions=1)
    await storage.stop()
    assert ["synchronous=NORMAL" in warning for warning in warnings] == [True]


async def test_the_defaults_are_durable(storage: SqlStorage) -> None:
    """Headrace's own connections have WAL, synchronous FULL, foreign keys, and a bounded wait (G5)."""
    transaction = storage.transaction()
    connection = connection_of(storage, transaction)
    found = {
        name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
        for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    }
    await transaction.rollback()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }


async def test_another_schema_version_is_refused(url: str, tmp_path: Path) -> None:
    """Tables of another version are left alone, and the error says found and expected."""
    storage = SqlStorage(url)
    await storage.create_schema()
    with sqlite3.connect(tmp_path / "app.db") as connection:
        connection.execute("UPDATE headrace_meta SET value = '99' WHERE name = 'schema'")
    connection.close()
    with pytest.raises(SchemaVersionError, match="99"):
        await storage.start("app", partitions=1)


async def test_starting_twice_is_refused(storage: SqlStorage) -> None:
    """One storage object serves one app at a time."""
    with pytest.raises(ConfigurationError, match="runs already"):
        await storage.start("other", partitions=4)


async def test_many_start_at_once(url: str) -> None:
    """Processes that start at the same moment on a new file all succeed."""
    storages = [SqlStorage(url, metadata=Base.metadata) for _ in range(4)]
    await asyncio.gather(*(one.start("app", partitions=4) for one in storages))
    for one in storages:
        await one.stop()


async def test_a_writer_of_another_process_is_waited_for_and_named(
    url: str, tmp_path: Path
) -> None:
    """A lock that another process keeps too long is `StorageBusy` with advice, from units and from Headrace's own work."""
    storage = SqlStorage(url, metadata=Base.metadata, busy_seconds=0.05)
    await storage.start("app", partitions=4)
    other = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    with pytest.raises(StorageBusy, match="busy_seconds") as caught:
        await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    assert storage.transient(caught.value)
    with pytest.raises(StorageBusy):
        await transaction.commit()
    with pytest.raises(StorageBusy):
        await storage.lease("outbox:app", "me", partitions=1, seconds=9)
    other.execute("ROLLBACK")
    other.close()
    assert (await storage.lease("outbox:app", "me", partitions=1, seconds=9)).held
    await storage.stop()


async def test_the_turn_is_bounded(url: str) -> None:
    """A unit that waits too long for another one of its process is `StorageBusy` (G4)."""
    storage = SqlStorage(url, metadata=Base.metadata, busy_seconds=0.05)
    await storage.start("app", partitions=4)
    first, second = storage.transaction(), storage.transaction()
    await session_of(storage, first).execute(text("INSERT INTO account VALUES ('ann', 0)"))
    with pytest.raises(StorageBusy, match="turn"):
        await session_of(storage, second).execute(text("SELECT 1"))
    await second.rollback()
    await first.commit()
    assert await names(storage) == ["ann"]
    await storage.stop()


async def test_a_full_disk_dooms(storage: SqlStorage) -> None:
    """After SQLITE_FULL nothing more is executed or committed, though the handler caught it; it is transient (G4, G9)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    pages = (await session.execute(text("PRAGMA page_count"))).scalar_one()
    await session.execute(text(f"PRAGMA max_page_count={pages}"))
    with pytest.raises(OperationalError, match="full") as caught:
        await session.execute(text("INSERT INTO account VALUES (zeroblob(10000000), 0)"))
    assert transaction.doomed is caught.value
    assert storage.transient(caught.value)
    with pytest.raises(OperationalError, match="full"):
        await session.execute(text("INSERT INTO account VALUES ('bob', 0)"))
    with pytest.raises(OperationalError, match="full") as again:
        await transaction.commit()
    assert again.value is caught.value
    assert await names(storage) == []


async def test_a_constraint_is_no_transient_error(storage: SqlStorage) -> None:
    """What a message's data does to a constraint is the message's fault (G9)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text("INSERT INTO account VALUES ('a', 0), ('a', 0)"))
    await transaction.rollback()
    assert not storage.transient(caught.value)


@pytest.mark.parametrize("recipe", [False, True])
async def test_a_users_engine_works_and_stays_theirs(url: str, recipe: bool) -> None:
    """With a user's engine, also one with its own BEGIN listener, all holds; its settings are told and not changed (G4, G5)."""
    engine = create_async_engine(url)
    if recipe:

        @event.listens_for(engine.sync_engine, "connect")
        def _(connection: object, record: object) -> None:
            connection.isolation_level = None  # type: ignore[attr-defined]

        @event.listens_for(engine.sync_engine, "begin")
        def _(connection: object) -> None:
            connection.exec_driver_sql("BEGIN")  # type: ignore[attr-defined]

    storage = SqlStorage(engine, metadata=Base.metadata)
    warnings = await storage.start("app", partitions=4)
    assert any("journal_mode" in warning for warning in warnings)
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    transaction.enqueue([message("1")])
    await transaction.commit()
    lease = await one_lease(storage)
    handling = storage.transaction()
    assert await handling.admit(lease, "g", [message()]) == [Verdict.NEW]
    handling.advance(lease, "3")
    await handling.commit()
    undone = storage.transaction()
    await session_of(storage, undone).execute(text("INSERT INTO account VALUES ('bob', 0)"))
    await undone.rollback()
    assert await names(storage) == ["ann"]
    assert await outbox_ids(storage) == ["1"]
    assert await storage.positions(lease.queue) == {0: "3"}
    await storage.stop()
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT name FROM account"))).scalars().all() == [
            "ann"
        ]
    await engine.dispose()


@pytest.mark.parametrize("own", [False, True])
async def test_a_cancelled_unit_leaves_no_lock(url: str, own: bool) -> None:
    """After a time limit has cut a unit and its rollback, others write at once, though somebody keeps the error (G4)."""
    slow = text(
        "INSERT INTO account WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 300000)"
        " SELECT 'a' || x, 0 FROM n"
    )
    engine = create_async_engine(url)
    storage = SqlStorage(engine if own else url, metadata=Base.metadata, busy_seconds=5.0)
    await storage.start("app", partitions=4)
    kept: list[BaseException] = []
    for _ in range(3):
        transaction = storage.transaction()
        try:
            async with asyncio.timeout(0.01):
                await session_of(storage, transaction).execute(slow)
        except TimeoutError as error:
            kept.append(error)
        await transaction.rollback()
        following = storage.transaction()
        following.enqueue([message()])
        await following.commit()
    assert len(kept) == 3
    assert len(await outbox_ids(storage)) == 3
    assert await names(storage) == []
    await storage.stop()
    await engine.dispose()


async def test_concurrent_queries_are_bounded_and_all_served(url: str) -> None:
    """More queries at once than connections wait for each other and are all answered (G11)."""
    storage = SqlStorage(url, metadata=Base.metadata, connections=2)
    await storage.start("app", partitions=4)
    assert await asyncio.gather(*(names(storage) for _ in range(20))) == [[]] * 20
    await storage.stop()
