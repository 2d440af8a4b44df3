"""The SQL drivers hold on MariaDB what every driver promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engines import answers
from headrace.broker import Broker
from headrace.drivers.sql import SqlBroker, SqlStorage
from headrace.storage import Storage
from headrace.testing.conformance import BrokerKit, StorageKit
from tests.servers import engine


class _OnMariadb:
    """One database a class, emptied before each clause."""

    url: str

    @pytest.fixture(scope="class")
    @classmethod
    def database(cls) -> Iterator[str]:
        url, drop = engine("mariadb").fresh_database()
        yield url
        drop()

    @pytest.fixture(autouse=True)
    def _empty(self, database: str) -> None:
        self.url = database
        answers.run(lambda: _empty(database))


async def _empty(url: str) -> None:
    found = await answers.mysql_rows(url, "SHOW TABLES LIKE 'headrace_%'")
    tables = sorted((str(row[0]) for row in found), key=lambda name: name == "headrace_topic")
    keep = {"headrace_meta": " WHERE app <> ''"}
    await answers.mysql_rows(url, *(f"DELETE FROM {one}{keep.get(one, '')}" for one in tables))


class TestMariadbStorage(_OnMariadb, StorageKit):
    async def make(self) -> Storage:
        return SqlStorage(self.url)

    async def second(self, storage: Storage) -> Storage:
        return SqlStorage(self.url)

    async def reopen(self, storage: Storage) -> Storage:
        await storage.stop()
        return SqlStorage(self.url)


class TestMariadbBroker(_OnMariadb, BrokerKit):
    serves_several = False
    remembers = False
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
