"""The Kafka driver holds what every broker promises, on a server whose connections are cut and which is killed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from headrace.broker import Broker
from headrace.testing.conformance import BrokerKit
from tests.unit.drivers_kafka.place import REAL, Place, Proxy, server


class TestKafkaBroker(BrokerKit):
    max_body_bytes = 2_000_000
    interruptible = REAL is None

    @pytest.fixture(autouse=True)
    async def _place(self) -> AsyncIterator[None]:
        if REAL is not None:
            self.place = Place(REAL.partition("://")[2])
            yield
            await self.place.close()
            return
        self.place = Place(f"127.0.0.1:{server().outer_port}")
        async with Proxy(server().outer_port, server().port) as self.proxy:
            yield
            await self.place.close()

    async def make(self) -> Broker:
        return self.place.broker(max_body_bytes=self.max_body_bytes)

    async def second(self, broker: Broker) -> Broker:
        return await self.make()

    async def reopen(self, broker: Broker) -> Broker:
        await broker.stop()
        if REAL is None:
            server().kill()
            server().start()
        return await self.make()

    async def interrupt(self, broker: Broker) -> None:
        self.proxy.cut()
