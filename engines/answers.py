"""Ask a server at a URL whether it is ready, and which version it is.

Each function returns the version, and raises whatever its client raises when nobody answers, when the credentials are
wrong or when the server is not of use (NATS without JetStream). Clients are imported when asked for: a machine may lack some.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

T = TypeVar("T")
_SECONDS = 3.0


def hosts(url: str, port: int) -> list[tuple[str, int]]:
    """The hosts and ports of a URL, which may list several: `kafka://one:9092,two`."""
    found: list[tuple[str, int]] = []
    for part in urlsplit(url).netloc.rpartition("@")[2].split(","):
        host, colon, number = part.rpartition(":")
        found.append((host, int(number)) if colon and number.isdigit() else (part, port))
    return [(host.strip("[]") or "127.0.0.1", number) for host, number in found]


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a thread of its own: the caller may stand inside a running event loop."""
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(asyncio.run(work()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def postgresql(url: str) -> str:
    """The version of a PostgreSQL."""
    import psycopg

    with psycopg.connect(libpq(url), connect_timeout=int(_SECONDS)) as connection:
        (version,) = connection.execute("SHOW server_version").fetchone() or ("",)
    return str(version).partition(" ")[0]


def libpq(url: str, database: str | None = None) -> str:
    """An SQLAlchemy URL as libpq reads it, perhaps with another database."""
    parts = urlsplit(url)
    path = parts.path if database is None else f"/{database}"
    return parts._replace(scheme="postgresql", path=path, query="").geturl()


def mariadb(url: str) -> str:
    """The version of a MariaDB or MySQL."""
    ((version,),) = run(lambda: mysql_rows(url, "SELECT VERSION()"))
    return str(version)


async def mysql_rows(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on a MariaDB or MySQL, one by one; returns the rows of the last."""
    import asyncmy

    parts = urlsplit(url)
    # Its connection complains when it is thrown away unopened.
    socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 3306), _SECONDS).close()
    connection = await asyncmy.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        database=parts.path.strip("/") or None,
        connect_timeout=_SECONDS,
        autocommit=True,
    )
    try:
        rows: list[tuple[Any, ...]] = []
        async with connection.cursor() as cursor:
            for statement in statements:
                await asyncio.wait_for(cursor.execute(statement), 10 * _SECONDS)
                rows = list(await cursor.fetchall() or ())
        return rows
    finally:
        connection.close()


def redis(url: str) -> str:
    """The version of a Redis, or the name and version of a Valkey."""
    from redis import Redis

    with Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS) as client:
        info: dict[str, Any] = client.info("server")
    valkey = info.get("valkey_version")
    return f"Valkey {valkey}" if valkey else str(info["redis_version"])


def rabbitmq(url: str) -> str:
    """The version of a RabbitMQ."""
    (address, *_) = hosts(url, 5671 if url.startswith("amqps") else 5672)
    # Its client complains in the log of each connection that is refused.
    socket.create_connection(address, _SECONDS).close()

    async def ask() -> str:
        import aiormq

        connection = await asyncio.wait_for(aiormq.connect(url), _SECONDS)
        try:
            version = connection.server_properties.get("version", b"")
        finally:
            await connection.close()
        return version.decode() if isinstance(version, bytes) else str(version)

    return run(ask)


def nats(url: str) -> str:
    """The version of a NATS server with JetStream."""
    (address, *_) = hosts(url, 4222)
    with socket.create_connection(address, _SECONDS) as connection:
        lines = connection.makefile("rb")
        word, _, body = lines.readline().partition(b" ")
        lines.close()
    if word != b"INFO":
        raise ConnectionError(f"{address} does not speak the protocol of NATS")
    info = json.loads(body)
    if not info.get("jetstream"):
        raise ConnectionError(f"the NATS server at {address} runs without JetStream (-js)")
    return str(info["version"])


def kafka(url: str) -> str:
    """A broker that speaks Kafka's protocol: it does not tell its version.

    Source: https://kafka.apache.org/protocol: ApiVersions, key 18, version 0.
    """
    (address, *_) = hosts(url, 9092)
    with socket.create_connection(address, _SECONDS) as connection:
        body = struct.pack(">hhih", 18, 0, 7, -1)
        connection.sendall(struct.pack(">i", len(body)) + body)
        with connection.makefile("rb") as answer:
            head = answer.read(8)
    if len(head) < 8 or struct.unpack(">ii", head)[1] != 7:
        raise ConnectionError(f"{address} does not speak the protocol of Kafka")
    return "Kafka protocol"
