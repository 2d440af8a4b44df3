"""The RabbitMQ driver holds what every broker promises."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from headrace.broker import Broker
from headrace.drivers.rabbitmq import RabbitBroker
from headrace.testing.conformance import BrokerKit
from tests.unit.drivers_rabbitmq.place import Place


class _OnServer(BrokerKit):
    ordered_batch = False
    retains = False
    max_body_bytes = 1024 * 1024 + 1
    interruptible = True

    @pytest.fixture(autouse=True)
    async def _place(self) -> AsyncGenerator[None]:
        self.place = Place()
        yield
        await self.place.close()

    async def second(self, broker: Broker) -> Broker:
        return await self.make()

    async def reopen(self, broker: Broker) -> Broker:
        await broker.stop()
        return await self.make()

    async def interrupt(self, broker: Broker) -> None:
        assert isinstance(broker, RabbitBroker)
        parts = broker._parts
        assert parts is not None
        parts.to_read.cut()
        parts.to_publish.cut()


class TestClassicQueues(_OnServer):
    async def make(self) -> Broker:
        return self.place.broker(max_body_bytes=self.max_body_bytes)


class TestQuorumQueues(_OnServer):
    async def make(self) -> Broker:
        return self.place.broker(max_body_bytes=self.max_body_bytes, queues="quorum")
