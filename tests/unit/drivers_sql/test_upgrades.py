"""Tables of every earlier version become those of this one, and keep what is in them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from headrace.drivers.sql import SqlStorage
from headrace.drivers.sql.schema import VERSION
from headrace.drivers.sql.setup import UPGRADES
from headrace.errors import SchemaVersionError

OLD = Path(__file__).with_name("schema_1.sql")
"""The tables of version 1, as that release made them."""


def shape(file: Path) -> set[tuple[str, str]]:
    """Tables with their columns, and indexes with what they are on."""
    with closing(sqlite3.connect(file)) as db:
        found = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {(name, " ".join(sql.replace("BLOB", "").split())) for name, sql in found}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of version 1 with a message in it."""
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as db:
        db.executescript(OLD.read_text(encoding="utf-8"))
        db.execute("INSERT INTO headrace_meta VALUES ('', 'schema', '1')")
        db.execute("INSERT INTO headrace_meta VALUES ('app', 'partitions', '4')")
        db.execute(
            "INSERT INTO headrace_queue (queue, partition, topic, key, envelope, body, state, head, attempts, created_at_ms)"
            " VALUES ('outbox:app', 1, 'orders', 'a',"
            ' \'{"specversion":"1.0","id":"1","source":"app","type":"t.v1"}\', \'{}\', 0, 0, 0, 0)'
        )
        db.commit()
    return file


async def test_tables_of_version_1_are_upgraded(old: Path, tmp_path: Path) -> None:
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


async def test_without_create_old_tables_are_refused(old: Path) -> None:
    """A process that may not change tables says which version they have, and how they are upgraded."""
    storage = SqlStorage(f"sqlite+aiosqlite:///{old}", create=False)
    with pytest.raises(SchemaVersionError, match=r"have version 1.*create_schema"):
        await storage.start("app", partitions=4)


def test_every_version_has_a_way_to_the_next() -> None:
    """From each earlier version there are steps to this one."""
    assert sorted(UPGRADES) == list(range(1, VERSION))
