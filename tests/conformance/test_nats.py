"""The NATS driver holds what every broker promises, on a new server and on the oldest one that it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headrace.broker import Broker
from headrace.testing.conformance import BrokerKit
from tests.unit.drivers_nats.place import Place, Proxy, server


class TestNatsBroker(BrokerKit):
    ordered_batch = False
    max_body_bytes = 1024 * 1024 - 16 * 1024
    interruptible = True
    kind = "wheel"

    @pytest.fixture(autouse=True)
    async def _place(self) -> AsyncIterator[None]:
        self.place = Place(server(self.kind).url)
        async with Proxy(server(self.kind).port) as self.proxy:
            yield
            await self.place.close()

    async def make(self) -> Broker:
        return self.place.broker(self.proxy.url)

    async def second(self, broker: Broker) -> Broker:
        return self.place.broker(self.proxy.url)

    async def reopen(self, broker: Broker) -> Broker:
        await broker.stop()
        server(self.kind).kill()
        server(self.kind).start()
        return self.place.broker(self.proxy.url)

    async def interrupt(self, broker: Broker) -> None:
        self.proxy.cut()


class TestOldestNats(TestNatsBroker):
    kind = "debian"
