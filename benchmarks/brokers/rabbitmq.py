"""RabbitMQ: aio-pika by hand, all confirms of a batch awaited together, a channel for each queue, 100 acknowledged at once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage, AbstractQueue

from benchmarks.brokers.by_hand import GROUP, Opened, headers_of, quietly
from benchmarks.storage.app import NAME
from benchmarks.storage.by_hand import Row
from benchmarks.storage.consumers import PARTITIONS, Taken
from headrace.broker import stable_hash
from headrace.drivers.rabbitmq import RabbitBroker
from headrace.drivers.rabbitmq.names import Names

PREFETCH: Final = 100
"""Of driver and client alike: what is pushed before the clock begins is a small part of a sample."""


class Hand:
    def __init__(self, exchange: AbstractExchange) -> None:
        self._exchange = exchange
        self._taken: list[Taken] = []
        self._last: dict[int, AbstractIncomingMessage] = {}
        self._reading: dict[int, AbstractIncomingMessage] = {}
        self._woken = asyncio.Event()
        self._queues: list[AbstractQueue] = []
        self._tags: list[str] = []

    async def listen(self, channel: AbstractChannel, name: str, partition: int) -> None:
        """Take what a queue pushes, on a channel of its own."""
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.declare_queue(name, durable=True)
        await queue.bind(self._exchange.name, str(partition))
        self._queues.append(queue)

    async def resume(self) -> None:
        if not self._tags:
            for partition, queue in enumerate(self._queues):
                self._tags.append(await queue.consume(self._taker(partition)))

    async def pause(self) -> None:
        for queue, tag in zip(self._queues, self._tags, strict=True):
            await queue.cancel(tag)
        self._tags.clear()

    def _taker(self, partition: int) -> Callable[[AbstractIncomingMessage], Awaitable[None]]:
        async def take(message: AbstractIncomingMessage) -> None:
            self._taken.append(
                Taken(partition, str(message.headers["cloudEvents:id"]), message.body)
            )
            self._last[partition] = message
            self._woken.set()

        return take

    async def publish(self, rows: Sequence[Row]) -> None:
        await asyncio.gather(*map(self._one, rows))

    async def _one(self, row: Row) -> None:
        headers = headers_of(row[3])
        await self._exchange.publish(
            aio_pika.Message(
                row[4],
                content_type=headers.pop("cloudEvents:datacontenttype"),
                delivery_mode=2,
                message_id=headers["cloudEvents:id"],
                headers=dict(headers),
            ),
            routing_key=str(stable_hash(row[2]) % PARTITIONS),
        )

    async def read(self) -> Sequence[Taken]:
        while not self._taken:
            self._woken.clear()
            await self._woken.wait()
        taken, self._taken = self._taken, []
        self._reading, self._last = self._last, {}
        return taken

    async def settle(self) -> None:
        for message in self._reading.values():
            await message.ack(multiple=True)


@asynccontextmanager
async def opened(url: str, topic: str) -> AsyncGenerator[Opened]:
    """Driver and client by hand on the server at `url`."""
    prefix = f"bench-{secrets.token_hex(4)}-"
    names = Names(prefix)
    queues = [names.queue(GROUP, GROUP, partition) for partition in range(PARTITIONS)]
    try:
        async with await aio_pika.connect(url) as connection:
            exchange = await (await connection.channel()).declare_exchange(
                names.exchange(GROUP), durable=True
            )
            hand = Hand(exchange)
            for partition, name in enumerate(queues):
                await hand.listen(await connection.channel(), name, partition)
            broker = RabbitBroker(url, prefix=prefix, prefetch=PREFETCH)
            yield Opened(broker, hand, "cloudEvents:", f"aio-pika {version('aio-pika')}")
    finally:
        # On a connection that consumes nothing: the server would tell it of each queue that goes.
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            queues += [names.queue(NAME, topic, partition) for partition in range(PARTITIONS)]
            for name in (*queues, names.record(topic)):
                await quietly(lambda name=name: channel.queue_delete(name))  # type: ignore[misc]
            for name in (names.exchange(GROUP), names.exchange(topic)):
                await quietly(lambda name=name: channel.exchange_delete(name))  # type: ignore[misc]
