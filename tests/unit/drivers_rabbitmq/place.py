"""A corner of a real RabbitMQ for one test: names of its own, and nothing left behind."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import aiormq
from pamqp.commands import Basic

from headrace.broker import Reading, Received, Topic
from headrace.drivers.rabbitmq import RabbitBroker
from headrace.drivers.rabbitmq.names import Names
from tests.servers import engine


class Place:
    """Makes brokers that share a prefix, remembers what they declared, and deletes it at the end."""

    def __init__(self, url: str | None = None) -> None:
        self.url = url or engine("rabbitmq").url
        self.prefix = f"headrace-test-{uuid.uuid4().hex[:10]}-"
        self.names = Names(self.prefix)
        self.topics: set[str] = set()
        self.readings: set[tuple[str, str]] = set()
        self.made: list[RabbitBroker] = []

    def broker(self, **settings: Any) -> RabbitBroker:
        place = self

        class Remembered(RabbitBroker):
            async def declare(
                self, topics: Sequence[Topic], readings: Sequence[Reading] = ()
            ) -> None:
                place.topics |= {topic.name for topic in topics}
                place.readings |= {(reading.group, reading.topic) for reading in readings}
                await super().declare(topics, readings)

        url = settings.pop("url", self.url)
        self.made.append(Remembered(url, prefix=self.prefix, **settings))
        return self.made[-1]

    async def close(self) -> None:
        for broker in self.made:
            for _ in range(broker._users.count):
                await broker.stop()
        async with aiormq.connect(self.url) as connection:
            channel = await connection.channel(publisher_confirms=False)
            for group, topic in self.readings:
                for partition in range(16):
                    await channel.queue_delete(self.names.queue(group, topic, partition))
            for topic in self.topics:
                await channel.queue_delete(self.names.record(topic))
                await channel.exchange_delete(self.names.exchange(topic))

    async def length(self, group: str, topic: str, partition: int) -> int:
        """Messages of a queue that nobody holds."""
        async with aiormq.connect(self.url) as connection:
            channel = await connection.channel(publisher_confirms=False)
            queue = self.names.queue(group, topic, partition)
            return (await channel.queue_declare(queue, passive=True)).message_count or 0

    async def raw(
        self, topic: str, partition: int, body: bytes, properties: Basic.Properties
    ) -> None:
        """Publish as another producer would."""
        async with aiormq.connect(self.url) as connection:
            channel = await connection.channel()
            await channel.basic_publish(
                body,
                exchange=self.names.exchange(topic),
                routing_key=str(partition),
                properties=properties,
            )


async def read(
    broker: RabbitBroker,
    count: int,
    after: Mapping[int, str | None] | None = None,
    *,
    group: str = "g",
    topic: str = "orders",
) -> list[Received]:
    """Read from one partition, or those of `after`, until `count` messages are there at once."""
    async with asyncio.timeout(20):
        while True:
            found = await broker.read(group, topic, after or {0: None}, limit=100_000)
            if len(found) >= count:
                return list(found)
            await asyncio.sleep(0.01)


def bodies(found: Iterable[Received]) -> list[bytes]:
    """What was read, in order."""
    return [one.message.data for one in found]


def numbers(*of: int) -> list[bytes]:
    """The bodies of `numbered` messages from the first number up to below the last."""
    return [str(number).encode() for number in range(*of)]
