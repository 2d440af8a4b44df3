"""Where a run takes place: which storage and which broker, and the names that it has there for itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from sqlalchemy import event as sql_event
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from headrace.assembly.urls import broker_from
from headrace.broker import Broker, Reading, Topic
from headrace.drivers.sql import SqlStorage
from tests.faults.plan import KEYS

T = TypeVar("T")

OBSERVER = "observer"
"""A group that handles nothing: the checker reads the topics in its name when all is over."""


@dataclass(frozen=True, slots=True)
class World:
    """The engines of one run.

    Args:
        storage: a SQLAlchemy URL.
        broker: a URL of a broker.
        run: what the run's topics and group names end with, so that runs may share a broker.
    """

    storage: str
    broker: str
    run: str = ""

    @classmethod
    def on_file(cls, folder: Path) -> World:
        """SQLite, and topics in the same file."""
        return cls(f"sqlite+aiosqlite:///{folder / 'app.db'}", "sql://")

    @classmethod
    def of(cls, folder: Path) -> World:
        """The world of a run's processes."""
        return msgspec.json.decode((folder / "world.json").read_bytes(), type=cls)

    def name(self, plain: str) -> str:
        """The name of a topic or group in this run."""
        return plain + self.run

    @property
    def topics(self) -> tuple[str, str]:
        """The topics of the app."""
        return (self.name("announced"), self.name("confirmed"))

    def settle_down(self, folder: Path) -> None:
        """Make the app's tables and topics and tell the processes where they are."""
        (folder / "world.json").write_bytes(msgspec.json.encode(asdict(self)))
        os.environ["HEADRACE_FAULTS_RUN"] = self.run
        asyncio.run(self._prepare())

    async def _prepare(self) -> None:
        from tests.faults.tables import Base, Lane

        engine = self.engine()
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.execute(insert(Lane), [{"key": key, "number": 0} for key in KEYS])
        await engine.dispose()
        await self.with_broker(self._declare)

    async def _declare(self, broker: Broker) -> None:
        await broker.declare(
            [Topic(topic) for topic in self.topics],
            [Reading(self.name(OBSERVER), topic) for topic in self.topics],
        )

    def engine(self) -> AsyncEngine:
        """An engine of plain SQLAlchemy on the storage's database."""
        engine = create_async_engine(self.storage)
        if engine.dialect.name == "sqlite":
            sql_event.listen(engine.sync_engine, "connect", _patient)
        return engine

    async def with_broker(self, work: Callable[[Broker], Awaitable[T]]) -> T:
        """Do something with the broker, started beside the app."""
        storage = SqlStorage(self.storage)
        await storage.start("observer", partitions=1)
        broker = broker_from(self.broker)
        await broker.start(storage)
        try:
            return await work(broker)
        finally:
            await broker.stop()
            await storage.stop()


def _patient(connection: object, record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()
