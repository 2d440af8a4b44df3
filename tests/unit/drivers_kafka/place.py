"""A corner of a server that speaks the Kafka protocol for one test: names of its own, and nothing left behind."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import functools
import os
import secrets
import shutil
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

import engines
from engines.kinds.kafka import Kafka
from engines.process import Command, free_port
from headrace.broker import Received
from headrace.drivers.kafka import KafkaBroker

REAL = os.environ.get("HEADRACE_KAFKA_URL")
"""A cluster of the user's own, which the suite runs on instead. Its connections cannot be cut."""


class Tansu(Kafka):
    """Tansu that tells clients to come through a port where a test listens in between."""

    def __init__(self, folder: Path, *, in_memory: bool = False) -> None:
        super().__init__(folder)
        self.outer_port = free_port()
        self.lasting = not in_memory

    def command(self) -> Command:
        made = super().command()
        argv = list(made.argv)
        argv[argv.index("--advertised-listener-url") + 1] = f"tcp://127.0.0.1:{self.outer_port}"
        return Command(argv, made.folder, made.log, made.environment)


@functools.cache
def server(*, in_memory: bool = False) -> Tansu:
    """A server that the tests of this process share; the test is skipped with the reason if there is none."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-kafka-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if Tansu.program() is None:
        pytest.skip(f"kafka: {Tansu.advice()}")
    made = Tansu(folder, in_memory=in_memory)
    try:
        made.start()
    except engines.EngineMissing as missing:
        pytest.skip(f"kafka: {missing}")
    atexit.register(made.close)
    return made


class Place:
    """Makes brokers that share a prefix, and removes its topics at the end.

    Args:
        servers: `host:port`, with commas between.
    """

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.prefix = f"test-{secrets.token_hex(6)}."
        self.made: list[KafkaBroker] = []
        self.proxy: Proxy | None = None

    def broker(self, servers: str | None = None, **settings: Any) -> KafkaBroker:
        """A broker on the same topics as all others of this place, not started."""
        settings.setdefault("prefix", self.prefix)
        config: Mapping[str, Any] = settings.pop("config", {})
        # Tansu looks for new messages only when half the wait is over.
        settings["config"] = {"fetch.wait.max.ms": 10, **config}
        self.made.append(KafkaBroker(servers or self.servers, **settings))
        return self.made[-1]

    async def produce(self, topic: str, *records: Mapping[str, Any], partition: int = 0) -> None:
        """Records of another producer: arguments of `Producer.produce`."""

        def work() -> int:
            producer = Producer({"bootstrap.servers": self.servers})
            for record in records:
                producer.produce(self.prefix + topic, partition=partition, **record)
            return producer.flush(10)

        # In a thread, because the proxy that it speaks through may run on this loop.
        assert await asyncio.to_thread(work) == 0

    async def produce_bytes(self, topic: str, header: bytes) -> None:
        """A record of a producer in another language, with a header of this name; Python's wants text for it."""

        def work() -> None:
            (path,) = (Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob(
                "librdkafka*"
            )
            library = ctypes.CDLL(str(path))
            for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
                getattr(library, name).restype = ctypes.c_void_p
            why = ctypes.create_string_buffer(512)
            conf = ctypes.c_void_p(library.rd_kafka_conf_new())
            library.rd_kafka_conf_set(conf, b"bootstrap.servers", self.servers.encode(), why, 512)
            producer = ctypes.c_void_p(library.rd_kafka_new(0, conf, why, 512))
            headers = ctypes.c_void_p(library.rd_kafka_headers_new(1))
            library.rd_kafka_header_add(
                headers, header, ctypes.c_ssize_t(len(header)), b"v", ctypes.c_ssize_t(1)
            )
            # Tags: 1 the topic, 3 the partition, 4 the value, 10 the headers, 0 the end.
            to = (self.prefix + topic).encode()
            body = (4, b"body", ctypes.c_size_t(4))
            assert not library.rd_kafka_producev(
                producer, 1, to, 3, ctypes.c_int32(0), *body, 10, headers, 0
            )
            assert not library.rd_kafka_flush(producer, 10_000)
            library.rd_kafka_destroy(producer)

        await asyncio.to_thread(work)

    async def close(self, *, remove: bool = True) -> None:
        """Stop what was made and remove the topics."""
        for broker in self.made:
            while broker._users.count:
                await broker.stop()
        if remove:
            await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        client = AdminClient({"bootstrap.servers": self.servers})
        names = [n for n in client.list_topics(timeout=5).topics if n.startswith(self.prefix)]
        if names:
            for future in client.delete_topics(names, request_timeout=5).values():
                future.result(10)


class Proxy:
    """Stands between clients and the server; cuts or holds back what passes when it is told to."""

    def __init__(self, port: int, to: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._to = to
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self._tls
        )
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
        to: asyncio.StreamWriter | None = None
        try:
            there, to = await asyncio.open_connection("127.0.0.1", self._to)
            self._writers.add(to)
            await asyncio.gather(self._pass(reader, to), self._pass(there, writer))
        except OSError:
            pass
        finally:
            self._writers -= {writer, to}
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


async def read(
    broker: KafkaBroker,
    count: int,
    after: Mapping[int, str | None] | None = None,
    *,
    group: str = "g",
    topic: str = "orders",
    partitions: int = 3,
    seconds: float = 20.0,
) -> list[Received]:
    """Read until so many messages stand behind the positions, also over outages."""
    positions = dict(after or dict[int, str | None].fromkeys(range(partitions)))
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(ConnectionError):
                found = await broker.read(group, topic, positions, limit=100_000)
                if len(found) >= count:
                    return list(found)
            await asyncio.sleep(0.01)
