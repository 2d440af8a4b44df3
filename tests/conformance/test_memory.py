"""The memory drivers hold what every driver promises."""

from __future__ import annotations

from headrace.broker import Broker
from headrace.drivers.memory import MemoryBroker, MemoryDatabase, MemoryStorage
from headrace.storage import Storage
from headrace.testing.conformance import BrokerKit, StorageKit


class TestMemoryStorage(StorageKit):
    durable = False

    now = 1_700_000_000.0

    async def make(self) -> Storage:
        return MemoryStorage(MemoryDatabase(clock=lambda: self.now))

    async def second(self, storage: Storage) -> Storage:
        assert isinstance(storage, MemoryStorage)
        return MemoryStorage(storage.database)

    async def pass_seconds(self, seconds: float) -> None:
        self.now += seconds


class TestMemoryBroker(BrokerKit):
    durable = False

    async def make(self) -> Broker:
        return MemoryBroker()
