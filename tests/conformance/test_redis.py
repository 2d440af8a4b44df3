"""The Redis driver holds what every broker promises, on Redis and on Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headrace.broker import Broker
from headrace.testing.conformance import BrokerKit
from tests.unit.drivers_redis.place import Place, server


class TestRedisBroker(BrokerKit):
    max_body_bytes = 16 * 1024 * 1024
    interruptible = True
    kind = "redis"

    @pytest.fixture(autouse=True)
    async def _place(self) -> AsyncIterator[None]:
        self.place = Place(server(self.kind).url)
        yield
        await self.place.close()

    async def make(self) -> Broker:
        return self.place.broker()

    async def second(self, broker: Broker) -> Broker:
        return self.place.broker()

    async def reopen(self, broker: Broker) -> Broker:
        await broker.stop()
        server(self.kind).kill()
        server(self.kind).start()
        return self.place.broker()

    async def interrupt(self, broker: Broker) -> None:
        await self.place.cut()


class TestValkey(TestRedisBroker):
    kind = "valkey"
