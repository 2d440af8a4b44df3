"""A corner of a real NATS server for one test: names of its own, and nothing left behind."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

import engines
from engines.kinds.nats import Nats
from headrace.broker import Reading, Received, Topic
from headrace.drivers.nats import NatsBroker

KINDS = ("wheel", "debian")
"""The server of the wheel, which is new, and Debian's, which is the oldest that Headrace takes."""


class DebianNats(Nats):
    """The server of Debian's package."""

    @classmethod
    def program(cls) -> Path | None:
        found = shutil.which(
            "nats-server", path="/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin"
        )
        return Path(found) if found else None

    def prepare(self) -> None:
        # Version 2.9 does not know sync_interval.
        (self.folder / "nats.conf").write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.folder / "data"}" }}\n'
        )


def new_server(kind: str = "wheel") -> engines.Server:
    """A server for one test, not started; the test is skipped with the reason if there is none."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-nats-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        made = DebianNats(folder) if kind == "debian" else engines.private("nats", folder)
        atexit.register(made.close)
        return made.start()
    except engines.EngineMissing as missing:
        pytest.skip(f"NATS ({kind}): {missing}")


@functools.cache
def server(kind: str = "wheel") -> engines.Server:
    """A server that the tests of this process share."""
    return new_server(kind)


class Place:
    """Makes brokers that share a prefix, and removes its streams at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = f"test-{secrets.token_hex(6)}-"
        self.made: list[NatsBroker] = []

    def broker(self, url: str | None = None, **settings: Any) -> NatsBroker:
        """A broker on the same streams as all others of this place, not started."""
        settings.setdefault("prefix", self.prefix)
        self.made.append(NatsBroker(url or self.url, **settings))
        return self.made[-1]

    @contextlib.asynccontextmanager
    async def client(self) -> Any:
        """A client of the test's own."""
        client: Client = await nats.connect(self.url)
        try:
            yield client
        finally:
            await client.close()

    async def close(self) -> None:
        """Stop what was made and remove the streams."""
        for broker in self.made:
            while broker._users.count:
                await broker.stop()
        async with self.client() as client:
            for info in await client.jsm().streams_info():
                if self.prefix in info.config.name:
                    await client.jsm().delete_stream(info.config.name)


async def ready(broker: NatsBroker, topic: str = "orders", partitions: int = 3) -> NatsBroker:
    """Start the broker, with a topic that the group `g` reads."""
    await broker.start(None)
    await broker.declare([Topic(topic, partitions)], [Reading("g", topic)])
    return broker


async def read(
    broker: NatsBroker,
    count: int,
    after: dict[int, str | None] | None = None,
    *,
    group: str = "g",
    topic: str = "orders",
    seconds: float = 20.0,
) -> list[Received]:
    """Read until so many messages stand behind the positions, also over outages."""
    positions = after or dict[int, str | None].fromkeys(range(3))
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(ConnectionError):
                found = await broker.read(group, topic, positions, limit=100_000)
                if len(found) >= count:
                    return list(found)
            await asyncio.sleep(0.01)


class Proxy:
    """Stands between a broker and its server; cuts, drops or holds back what passes when it is told to."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.accepting = True
        self.cut_after_bytes: int | None = None
        """Cut the connection when the client has sent so many bytes more."""
        self.url = ""

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self._open.set()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection, in the middle of whatever passes."""
        for writer in list(self._writers):
            writer.transport.abort()

    def hold(self) -> None:
        """Let nothing pass until `let`: like a server that hangs."""
        self._open.clear()

    def let(self) -> None:
        """Let pass again."""
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if not self.accepting:
                return
            there, to = await asyncio.open_connection("127.0.0.1", self._to)
            self._writers.add(to)
            await asyncio.gather(self._pass(reader, to, counted=True), self._pass(there, writer))
            self._writers.discard(to)
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                if counted and self.cut_after_bytes is not None:
                    data = data[: self.cut_after_bytes]
                    self.cut_after_bytes -= len(data)
                writer.write(data)
                await writer.drain()
                if counted and self.cut_after_bytes == 0:
                    self.cut_after_bytes = None
                    self.cut()
                    break
        writer.transport.abort()
