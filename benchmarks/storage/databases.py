"""Databases to measure on: each fresh, with Headrace's tables, those of the app, and an outbox as one writes it by hand."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    cast,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.mysql import LONGBLOB
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.sql.elements import ColumnElement

import engines
from benchmarks.storage.app import BODY, NAME, PARTITIONS, TOPIC, metadata
from headrace.drivers.sql import SqlStorage
from headrace.drivers.sql.schema import queue
from headrace.envelope import Envelope, attributes, new_id, now, pack
from headrace.storage import outbox_queue

DATABASES: Final = ("postgresql", "mariadb", "sqlite")
NAMES: Final = {"postgresql": "PostgreSQL", "mariadb": "MariaDB", "sqlite": "SQLite"}
KEYS: Final = 200
CHUNK: Final = 10_000

_own = MetaData()
_number = BigInteger().with_variant(Integer(), "sqlite")
_bytes = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")
hand_outbox = Table(
    "hand_outbox",
    _own,
    Column("id", _number, primary_key=True, autoincrement=True),
    Column("topic", String(100)),
    Column("key", String(100)),
    Column("headers", _bytes),
    Column("body", _bytes),
)
hand_inbox = Table("hand_inbox", _own, Column("id", String(100), primary_key=True))
_hand_log = Table(
    "hand_log",
    _own,
    Column("id", _number, primary_key=True, autoincrement=True),
    Column("partition", Integer),
    Column("key", String(100)),
    Column("headers", _bytes),
    Column("body", _bytes),
)
hand_position = Table(
    "hand_position",
    _own,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("position", String(100)),
)
_numbers = Table(
    "numbers",
    _own,
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("n_text", String(10)),
    Column("key", String(10)),
)


def template() -> Envelope:
    """What the envelopes of a run have; `@n@` and `@k@` stand for number and key."""
    return Envelope(
        id=f"{secrets.token_hex(8)}-@n@",
        source=NAME,
        type="bench.was-put.v1",
        time=now(),
        subject="@k@",
        datacontenttype="application/json",
        partitionkey="@k@",
        correlationid=new_id(),
        causationid=new_id(),
    )


@dataclass(frozen=True, slots=True)
class Bench:
    """A database to measure on.

    Args:
        kind: one of `DATABASES`.
        url: as `SqlStorage` takes it.
        version: of the server.
        engine: of the benchmark's own statements.
    """

    kind: str
    url: str
    version: str
    engine: AsyncEngine

    def storage(self) -> SqlStorage:
        """A storage on it, with the app's tables."""
        return SqlStorage(self.url, metadata=metadata)

    async def fill(self, count: int) -> None:
        """Commit so many messages of 1 KiB to the app's outbox, 10 000 at once, in the order of their numbers."""
        made = pack(template()).decode()
        columns = {
            "queue": literal(outbox_queue(NAME)),
            "partition": _numbers.c.n % PARTITIONS,
            "topic": literal(TOPIC),
            "key": _numbers.c.key,
            "body": literal(BODY, _bytes),
            "state": literal(0),
            "head": literal(0),
            "attempts": literal(0),
            "created_at_ms": literal(int(time.time() * 1000), BigInteger),
        }
        await self._fill(queue, "envelope", made, columns, count)

    async def fill_by_hand(self, count: int, topic: str, prefix: str = "ce_") -> None:
        """The same messages in the outbox by hand, whose headers stand ready as JSON.

        Args:
            count: how many.
            topic: as the broker by hand knows it.
            prefix: of the attributes' names in this broker's headers.
        """
        made = "{" + ",".join(f'"{prefix}{k}":"{v}"' for k, v in attributes(template()).items())
        columns = {
            "topic": literal(topic),
            "key": _numbers.c.key,
            "body": literal(BODY, _bytes),
        }
        await self._fill(hand_outbox, "headers", made + "}", columns, count)

    async def _fill(
        self,
        table: Table,
        name: str,
        made: str,
        columns: dict[str, ColumnElement[Any]],
        count: int,
    ) -> None:
        for start in range(0, count, CHUNK):
            chunk = made.replace("@n@", f"{start // CHUNK}-@n@")
            replaced = func.replace(
                func.replace(literal(chunk, String), "@n@", _numbers.c.n_text),
                "@k@",
                _numbers.c.key,
            )
            every = {name: self._as_bytes(replaced), **columns}
            rows = (
                select(*every.values())
                .where(_numbers.c.n < min(CHUNK, count - start))
                .order_by(_numbers.c.n)
            )
            async with self.engine.begin() as connection:
                await connection.execute(insert(table).from_select(list(every), rows))

    def _as_bytes(self, value: ColumnElement[Any]) -> ColumnElement[Any]:
        if self.kind == "postgresql":
            return func.convert_to(value, "UTF8")
        return cast(value, LargeBinary) if self.kind == "sqlite" else value

    async def waiting(self) -> int:
        """How many messages the app's outbox has."""
        async with self.engine.begin() as connection:
            return (await connection.execute(select(func.count()).select_from(queue))).scalar_one()

    async def settle(self) -> None:
        """On PostgreSQL, do what the server owes for what was filled and deleted, so that no figure pays for it.

        The index entries of deleted rows, which reads pass over until a VACUUM; the first look at each row, which writes
        that its transaction was committed; the checkpoint that so much writing brings about.
        """
        if self.kind == "postgresql":
            async with self.engine.connect() as connection:
                plain = await connection.execution_options(isolation_level="AUTOCOMMIT")
                for statement in (f"VACUUM (ANALYZE) {queue.name}", "CHECKPOINT"):
                    await plain.execute(text(statement))

    async def empty(self) -> None:
        """Delete what was measured, so that the next figure begins with nothing."""
        for table in (queue.name, hand_outbox.name, hand_inbox.name, "headrace_inbox", "effect"):
            async with self.engine.begin() as connection:
                await connection.execute(text(f"DELETE FROM {table}"))


@asynccontextmanager
async def fresh(kind: str, folder: Path) -> AsyncGenerator[Bench]:
    """A database of its own, removed at the end.

    Raises:
        EngineMissing: there is no such server here.
    """
    drop = None
    if kind == "sqlite":
        url = f"sqlite+aiosqlite:///{folder / (secrets.token_hex(4) + '.db')}"
        version = sqlite3.sqlite_version
    else:
        server = await asyncio.to_thread(engines.shared, kind)
        version = server.version
        url, drop = await asyncio.to_thread(server.fresh_database)
    engine = create_async_engine(url)
    try:
        await SqlStorage(url, metadata=metadata).create_schema()
        async with engine.begin() as connection:
            await connection.run_sync(_own.create_all)
            await connection.execute(
                insert(_numbers),
                [{"n": n, "n_text": str(n), "key": f"k{n % KEYS}"} for n in range(CHUNK)],
            )
            await connection.execute(
                insert(hand_position), [{"partition": n} for n in range(PARTITIONS)]
            )
        yield Bench(kind, url, version, engine)
    finally:
        await engine.dispose()
        if drop is not None:
            await asyncio.to_thread(drop)
