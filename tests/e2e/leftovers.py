"""Takes a topic, and what groups had for it, away from a broker's server: at the end of a test, or under an app."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import aiormq
import nats
from confluent_kafka.admin import AdminClient
from nats.js.errors import NotFoundError
from redis.asyncio import Redis

from headrace.broker import PARTITIONS
from headrace.drivers.nats.names import Names as NatsNames
from headrace.drivers.rabbitmq.names import Names as RabbitNames


async def remove(broker: str, url: str, topic: str, groups: Sequence[str]) -> None:
    """Delete what a driver without a prefix made for a topic of the usual number of partitions.

    Args:
        broker: "kafka", "rabbitmq", "nats" or "redis"; of others nothing stays on a server.
        url: of the server.
        topic: its name.
        groups: those that read it.
    """
    if broker == "kafka":
        await asyncio.to_thread(_kafka, url, topic)
    elif broker == "rabbitmq":
        await _rabbitmq(url, topic, groups)
    elif broker == "nats":
        await _nats(url, topic, groups)
    elif broker == "redis":
        async with Redis.from_url(url) as client:
            await client.delete(*[key async for key in client.scan_iter(f"headrace:{{{topic}}}*")])


def _kafka(url: str, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": url.partition("://")[2]})
    for future in client.delete_topics([topic], request_timeout=5).values():
        future.result(10)


async def _rabbitmq(url: str, topic: str, groups: Sequence[str]) -> None:
    names = RabbitNames()
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        await channel.exchange_delete(names.exchange(topic))
        await channel.queue_delete(names.record(topic))
        for group in groups:
            for partition in range(PARTITIONS):
                await channel.queue_delete(names.queue(group, topic, partition))


async def _nats(url: str, topic: str, groups: Sequence[str]) -> None:
    names = NatsNames("")
    client = await nats.connect(url)
    try:
        with suppress(NotFoundError):
            await client.jsm().delete_stream(names.stream(topic))
        for group in groups:
            for partition in range(PARTITIONS):
                subject = names.position_subject(group, topic, partition)
                await client.jsm().purge_stream(f"KV_{names.bucket}", subject=subject)
    finally:
        await client.close()
