"""What every broker clause stands on: the hooks of a broker kit, and steps in the words of the contract."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import ClassVar

from headrace.broker import Broker, Reading, Received, Topic, partition_of
from headrace.envelope import Message
from headrace.storage import Storage
from headrace.testing.conformance.kit import Kit, holds

PARTITIONS = 3
ORDERS = Topic("orders", PARTITIONS)
INVOICES = Topic("invoices", 2)
GROUP = "readers"
"""The group that reads in most clauses."""

OTHERS = ("slow", "fast")
"""Groups that read beside it."""


def readings(*topics: str) -> tuple[Reading, ...]:
    """Every group's reading of these topics."""
    return tuple(Reading(group, topic) for topic in topics for group in (GROUP, *OTHERS))


class BrokerSteps(Kit):
    """The hooks of `BrokerKit`, and steps that clauses share."""

    durable: ClassVar[bool] = True
    ordered_batch: ClassVar[bool] = True
    retains: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
    max_body_bytes: ClassVar[int | None] = None
    in_storage: ClassVar[bool] = False
    shareable: ClassVar[bool] = True
    serves_several: ClassVar[bool] = True
    interruptible: ClassVar[bool] = False

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

    async def interrupt(self, broker: Broker) -> None:
        """Cut every connection that the broker has to its server, which stays up (`interruptible`)."""
        raise TypeError(f"{type(self).__qualname__} is interruptible and has no interrupt()")

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
            await broker.declare([ORDERS, INVOICES], readings("orders", "invoices"))
            yield broker
        finally:
            await broker.stop()
            if storage is not None:
                await storage.stop()

    async def everything(
        self, broker: Broker, count: int, topic: Topic = ORDERS, *, group: str = GROUP
    ) -> list[Received]:
        """All `count` messages that stand in the topic for the group, when they have come; fails on more or fewer."""
        return await self.rest(broker, from_start(topic), count, topic, group=group)

    async def rest(
        self,
        broker: Broker,
        after: Mapping[int, str | None],
        count: int,
        topic: Topic = ORDERS,
        *,
        group: str = GROUP,
    ) -> list[Received]:
        """The `count` messages behind these positions, when they have come; fails on more or fewer."""
        clock = asyncio.get_running_loop().time
        found: Sequence[Received] = ()
        until = clock() + self.hang_seconds
        while clock() < until and len(found) < count:
            found = await broker.read(group, topic.name, after, limit=100_000)
            if len(found) < count:
                await asyncio.sleep(0.005)
        if count == 0:
            await asyncio.sleep(self.patience_seconds)
            found = await broker.read(group, topic.name, after, limit=100_000)
        holds(
            len(found) == count,
            f"group {group!r} reads {len(found)} messages of {topic.name!r} behind {dict(after)}, not {count}",
        )
        return list(found)


def from_start(topic: Topic = ORDERS) -> dict[int, str | None]:
    """The positions of a new group: the start of each partition."""
    return dict[int, str | None].fromkeys(range(topic.partitions or 0))


def behind(received: Iterable[Received], topic: Topic = ORDERS) -> dict[int, str | None]:
    """The positions of a group that has handled all that it received."""
    return from_start(topic) | {each.partition: each.position for each in received}


def finished(received: Iterable[Received]) -> dict[int, str]:
    """The positions to settle for a group that has handled all that it received."""
    return {each.partition: each.position for each in received}


def by_partition(messages: Sequence[Message], topic: Topic = ORDERS) -> dict[int, list[Message]]:
    """The messages as they must stand in each partition."""
    count = topic.partitions or 0
    return {
        partition: [each for each in messages if partition_of(each, count) == partition]
        for partition in range(count)
    }


def logs(received: Sequence[Received], topic: Topic = ORDERS) -> dict[int, list[Message]]:
    """The messages as they were read from each partition."""
    return {
        partition: [each.message for each in received if each.partition == partition]
        for partition in range(topic.partitions or 0)
    }


def placed(received: Sequence[Received]) -> list[Received]:
    """What was read, partition after partition: between partitions there is no order to compare."""
    return sorted(received, key=lambda each: each.partition)
