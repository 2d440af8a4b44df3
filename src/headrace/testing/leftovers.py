"""Taking away from a broker's server what a test has made there, by the prefix of its names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from headrace.broker import Reading
from headrace.urls import read_url


async def remove(url: str, partitions: Mapping[str, int], readings: Sequence[Reading]) -> None:
    """Delete all that a broker of this URL has made.

    Args:
        url: as the broker was given it, with its prefix.
        partitions: the topics, each with its number of partitions.
        readings: which groups read them.
    """
    scheme = url.partition(":")[0].rstrip("s")
    prefix = read_url(url).settings["prefix"]
    if scheme == "kafka":
        await asyncio.to_thread(_kafka, url, prefix)
    elif scheme == "amqp":
        await _rabbitmq(url, prefix, partitions, readings)
    elif scheme == "nat":
        await _nats(url, prefix)
    elif scheme == "redi":
        await _redis(url, prefix)


def _kafka(url: str, prefix: str) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    from headrace.drivers.kafka.settings import Settings, servers_of
    from headrace.drivers.kafka.url import from_url

    servers, found = from_url(url)
    known: dict[str, Any] = {**found, "servers": servers_of(servers)}
    config: Any = Settings(**known).client()
    client: Any = AdminClient(config)
    topics = [name for name in client.list_topics(timeout=10).topics if name.startswith(prefix)]
    groups = [
        one.group_id
        for one in client.list_consumer_groups(request_timeout=10).result().valid
        if one.group_id.startswith(prefix)
    ]
    deleted = list(client.delete_topics(topics).values()) if topics else []
    deleted += list(client.delete_consumer_groups(groups).values()) if groups else []
    for future in deleted:
        with suppress(KafkaException):
            future.result(10)


async def _rabbitmq(
    url: str, prefix: str, partitions: Mapping[str, int], readings: Sequence[Reading]
) -> None:
    import aiormq

    from headrace.drivers.rabbitmq.names import Names

    names = Names(prefix)
    connection = await aiormq.connect(url.partition("?")[0])
    try:
        channel = await connection.channel()
        for topic in partitions:
            await channel.exchange_delete(names.exchange(topic))
            await channel.queue_delete(names.record(topic))
        for reading in readings:
            for partition in range(partitions.get(reading.topic, 0)):
                await channel.queue_delete(names.queue(reading.group, reading.topic, partition))
    finally:
        await connection.close()


async def _nats(url: str, prefix: str) -> None:
    import nats
    from nats.js.errors import NotFoundError

    client = await cast(Any, nats).connect(
        url.partition("?")[0].replace("natss://", "tls://"), allow_reconnect=False
    )
    try:
        manager = client.jsm()
        for stream in await manager.streams_info():
            name = str(stream.config.name)
            if name.startswith((prefix, f"KV_{prefix}")):
                with suppress(NotFoundError):
                    await manager.delete_stream(name)
    finally:
        await client.close()


async def _redis(url: str, prefix: str) -> None:
    from redis.asyncio import Redis

    async with cast(Any, Redis).from_url(url.partition("?")[0]) as client:
        keys = [key async for key in client.scan_iter(f"{prefix}:*", count=1000)]
        if keys:
            await client.delete(*keys)
