"""What every broker clause stands on: the hooks of a broker kit, and steps in the words of the contract."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar

from headrace.broker import Broker, Received, Topic, partition_of
from headrace.envelope import Message
from headrace.storage import Storage
from headrace.testing.conformance.kit import Kit

PARTITIONS = 3
ORDERS = Topic("orders", PARTITIONS)
INVOICES = Topic("invoices", 2)


class BrokerSteps(Kit):
    """The hooks of `BrokerKit`, and steps that clauses share."""

    durable: ClassVar[bool] = True
    atomic_batch: ClassVar[bool] = True
    max_body_bytes: ClassVar[int | None] = None
    in_storage: ClassVar[bool] = False
    shareable: ClassVar[bool] = True

    async def make(self) -> Broker:
        """A new broker without topics, not started. The one hook that every kit writes."""
        raise TypeError(
            f"{type(self).__qualname__} has no make(): return a new broker from it, not started"
        )

    async def second(self, broker: Broker) -> Broker:
        """A broker on the same data, not started, as another app would have it (`shareable`); default: the same object."""
        return broker

    async def reopen(self, broker: Broker) -> Broker:
        """Stop the broker and give one on the same data, not started; default: the same object."""
        await broker.stop()
        return broker

    async def storage(self) -> Storage | None:
        """The storage to start the broker with, itself started, for brokers that live in one; default None."""
        return None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Broker]:
        """A new broker, started, with the topics `orders` and `invoices`; stopped at the end."""
        storage = await self.storage()
        broker = await self.make()
        await broker.start(storage)
        try:
            await broker.declare([ORDERS, INVOICES])
            yield broker
        finally:
            await broker.stop()
            if storage is not None:
                await storage.stop()

    async def everything(self, broker: Broker, topic: Topic = ORDERS) -> list[Received]:
        """All that the topic retains."""
        return list(await broker.read(topic.name, from_start(topic), limit=100_000))


def from_start(topic: Topic = ORDERS) -> dict[int, str | None]:
    """The positions of a new group: the start of each partition."""
    return dict[int, str | None].fromkeys(range(topic.partitions))


def behind(received: Sequence[Received], topic: Topic = ORDERS) -> dict[int, str | None]:
    """The positions of a group that has handled all that it received."""
    return from_start(topic) | {each.partition: each.position for each in received}


def by_partition(messages: Sequence[Message], topic: Topic = ORDERS) -> dict[int, list[Message]]:
    """The messages as they must stand in each partition."""
    return {
        partition: [each for each in messages if partition_of(each, topic.partitions) == partition]
        for partition in range(topic.partitions)
    }


def logs(received: Sequence[Received], topic: Topic = ORDERS) -> dict[int, list[Message]]:
    """The messages as they were read from each partition."""
    return {
        partition: [each.message for each in received if each.partition == partition]
        for partition in range(topic.partitions)
    }


def placed(received: Sequence[Received]) -> list[Received]:
    """What was read, partition after partition: between partitions there is no order to compare."""
    return sorted(received, key=lambda each: each.partition)
