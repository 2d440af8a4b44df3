"""The SQL drivers hold what every driver promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from headrace.broker import Broker
from headrace.drivers.sql import SqlBroker, SqlStorage
from headrace.storage import Storage
from headrace.testing.conformance import BrokerKit, StorageKit
from tests.conformance import postgres


class _OnFile:
    """One database file a clause."""

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.url = f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"


class _OnPostgres:
    """One database a class, emptied before each clause."""

    driver: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def name(cls) -> Iterator[str]:
        name = asyncio.run(postgres.create())
        yield name
        asyncio.run(postgres.drop(name))

    @pytest.fixture(autouse=True)
    async def _empty(self, name: str) -> None:
        await postgres.empty(name)
        self.url = postgres.url(self.driver, name)


class _Storage(StorageKit):
    url: str

    async def make(self) -> Storage:
        return SqlStorage(self.url)

    async def second(self, storage: Storage) -> Storage:
        return SqlStorage(self.url)

    async def reopen(self, storage: Storage) -> Storage:
        await storage.stop()
        return SqlStorage(self.url)


class _Broker(BrokerKit):
    in_storage = True
    serves_several = False
    remembers = False
    url: str

    async def make(self) -> Broker:
        return SqlBroker()

    async def storage(self) -> Storage | None:
        storage = SqlStorage(self.url)
        await storage.start("app", partitions=4)
        return storage

    async def second(self, broker: Broker) -> Broker:
        return SqlBroker()

    async def reopen(self, broker: Broker) -> Broker:
        await broker.stop()
        return SqlBroker()


class TestSqlStorage(_OnFile, _Storage):
    pass


class TestSqlBroker(_OnFile, _Broker):
    pass


class TestAsyncpgStorage(_OnPostgres, _Storage):
    driver = "asyncpg"


class TestAsyncpgBroker(_OnPostgres, _Broker):
    driver = "asyncpg"


class TestPsycopgStorage(_OnPostgres, _Storage):
    driver = "psycopg"


class TestPsycopgBroker(_OnPostgres, _Broker):
    driver = "psycopg"
