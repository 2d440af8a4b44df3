"""Redis Streams: redis-py by hand, a pipeline for a batch, XRANGE from the position of each partition."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from redis.asyncio import Redis

from benchmarks.brokers.by_hand import Opened, headers_of, quietly
from benchmarks.storage.by_hand import BATCH, Row
from benchmarks.storage.consumers import PARTITIONS, Taken
from headrace.broker import stable_hash
from headrace.drivers.redis import RedisBroker


class Hand:
    def __init__(self, client: Redis, topic: str) -> None:
        self._client = client
        self._topic = topic
        self._after = {f"{topic}:{p}": "0-0" for p in range(PARTITIONS)}

    async def publish(self, rows: Sequence[Row]) -> None:
        async with self._client.pipeline(transaction=True) as pipe:
            for _, _, key, packed, body in rows:
                fields: dict[Any, Any] = {**headers_of(packed), "data": body}
                pipe.xadd(f"{self._topic}:{stable_hash(key) % PARTITIONS}", fields)
            await pipe.execute()

    async def resume(self) -> None:
        pass

    async def read(self) -> Sequence[Taken]:
        taken: list[Taken] = []
        while not taken:
            async with self._client.pipeline(transaction=False) as pipe:
                for stream, position in self._after.items():
                    pipe.xrange(stream, f"({position}", "+", count=BATCH // PARTITIONS)
                pages = await pipe.execute()
            for partition, (stream, page) in enumerate(zip(self._after, pages, strict=True)):
                for entry, found in page:
                    attributes = {k.decode(): v.decode() for k, v in found.items() if k != b"data"}
                    taken.append(Taken(partition, attributes["ce_id"], found[b"data"]))
                    self._after[stream] = entry.decode()
            if not taken:
                await asyncio.sleep(0.001)
        return taken

    async def settle(self) -> None:
        await self._client.hset(f"{self._topic}:settled", mapping=dict(self._after))  # type: ignore[misc]

    async def pause(self) -> None:
        pass


@asynccontextmanager
async def opened(url: str, topic: str) -> AsyncGenerator[Opened]:
    """Driver and client by hand on the server at `url`."""
    prefix = f"bench-{secrets.token_hex(4)}"
    async with Redis.from_url(url) as client:
        try:
            yield Opened(
                RedisBroker(url, prefix=prefix, durable=False),
                Hand(client, f"{prefix}:hand"),
                "ce_",
                f"redis-py {version('redis')}",
            )
        finally:
            keys = [key async for key in client.scan_iter(f"{prefix}:*")]
            if keys:
                await quietly(lambda: client.unlink(*keys))
