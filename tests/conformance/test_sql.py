"""The SQL drivers hold what every driver promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.broker import Broker
from headrace.drivers.sql import SqlBroker, SqlStorage
from headrace.storage import Storage
from headrace.testing.conformance import BrokerKit, StorageKit


class _OnFile:
    """One database file a clause."""

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.url = f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"


class TestSqlStorage(_OnFile, StorageKit):
    async def make(self) -> Storage:
        return SqlStorage(self.url)

    async def second(self, storage: Storage) -> Storage:
        return SqlStorage(self.url)

    async def reopen(self, storage: Storage) -> Storage:
        await storage.stop()
        return SqlStorage(self.url)


class TestSqlBroker(_OnFile, BrokerKit):
    in_storage = True

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
