"""engines: every engine that can be had answers, and what it confirmed survives a crash."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aio_pika
import nats
import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from redis import Redis

import engines
from engines import answers
from tests.servers import engine


def private(name: str, folder: Path) -> engines.Server:
    try:
        return engines.private(name, folder)
    except engines.EngineMissing as missing:
        pytest.skip(f"{name}: {missing}")


@pytest.mark.parametrize("name", engines.NAMES)
def test_a_shared_engine_answers(name: str) -> None:
    """Each is found or started, tells its version, and is the same one when asked again."""
    found = engine(name)
    assert found.name == name
    assert found.version
    assert engine(name) is found


@pytest.mark.parametrize("name", engines.STORAGES)
async def test_a_fresh_database_is_empty_and_goes_by_force(name: str) -> None:
    """It can be used at once, and dropped while somebody is still inside."""
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    url, drop = engine(name).fresh_database()
    pool = create_async_engine(url, poolclass=NullPool)
    connection = await pool.connect()
    await connection.execute(text("CREATE TABLE facts (id INTEGER PRIMARY KEY)"))
    await connection.commit()
    await connection.execute(text("INSERT INTO facts VALUES (1)"))
    await asyncio.to_thread(drop)
    await connection.invalidate()
    await connection.close()
    with pytest.raises(Exception, match=r"(?i)does not exist|unknown database"):
        getattr(answers, name)(url)
    drop()


def in_postgresql(url: str) -> tuple[Callable[[], None], Callable[[], object]]:
    def write() -> None:
        with psycopg.connect(answers.libpq(url), autocommit=True) as connection:
            connection.execute("CREATE TABLE facts AS SELECT 42 AS fact")

    def read() -> object:
        with psycopg.connect(answers.libpq(url)) as connection:
            return connection.execute("SELECT fact FROM facts").fetchall() == [(42,)]

    return write, read


def in_mariadb(url: str) -> tuple[Callable[[], None], Callable[[], object]]:
    def ask(*statements: str) -> object:
        return answers.run(lambda: answers.mysql_rows(url, *statements))

    return (
        lambda: ask("CREATE TABLE facts (fact INT)", "INSERT INTO facts VALUES (42)") and None,
        lambda: ask("SELECT fact FROM facts") == [(42,)],
    )


def in_redis(url: str) -> tuple[Callable[[], None], Callable[[], object]]:
    def write() -> None:
        with Redis.from_url(url) as client:
            client.set("fact", 42)

    def read() -> object:
        with Redis.from_url(url) as client:
            return client.get("fact") == b"42"

    return write, read


def in_rabbitmq(url: str) -> tuple[Callable[[], None], Callable[[], object]]:
    async def write() -> None:
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            await channel.declare_queue("facts", durable=True)
            message = aio_pika.Message(b"42", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, "facts")
        # Mnesia, where the server keeps what was declared, writes its log every two seconds. Killed before that, it knows of no
        # queue, whatever it has confirmed (1 of 4 kills at once, 0 of 3 after three seconds).
        await asyncio.sleep(3.0)

    async def read() -> bool:
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("facts", durable=True)
            message = await queue.get(fail=False)
            return message is not None and message.body == b"42"

    return lambda: answers.run(write), lambda: answers.run(read)


def in_nats(url: str) -> tuple[Callable[[], None], Callable[[], object]]:
    async def write() -> None:
        client = await nats.connect(url)
        await client.jetstream().add_stream(name="facts", subjects=["facts"])
        await client.jetstream().publish("facts", b"42")
        await client.close()

    async def read() -> bool:
        client = await nats.connect(url)
        message = await client.jetstream().get_msg("facts", 1)
        await client.close()
        return message.data == b"42"

    return lambda: answers.run(write), lambda: answers.run(read)


def in_kafka(url: str) -> tuple[Callable[[], None], Callable[[], object]]:
    ((host, port), *_) = answers.hosts(url, 9092)
    servers = {"bootstrap.servers": f"{host}:{port}", "log_level": 0}

    def write() -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient(servers)
        admin.create_topics([NewTopic("facts", 1, 1)])["facts"].result(10)
        producer = Producer(servers)
        producer.produce("facts", b"42")
        assert producer.flush(10) == 0

    def read() -> object:
        from confluent_kafka import TopicPartition

        consumer = Consumer({**servers, "group.id": "readers"})
        consumer.assign([TopicPartition("facts", 0, 0)])
        message = consumer.poll(10)
        consumer.close()
        return message is not None and message.value() == b"42"

    return write, read


FACTS = {
    "postgresql": in_postgresql,
    "mariadb": in_mariadb,
    "redis": in_redis,
    "rabbitmq": in_rabbitmq,
    "nats": in_nats,
    "kafka": in_kafka,
}


@pytest.mark.parametrize("name", engines.NAMES)
def test_what_a_private_server_confirmed_survives_a_crash(name: str, tmp_path: Path) -> None:
    """After a kill and a restart the same URL has the same data; after close nothing runs."""
    with private(name, tmp_path / name) as server:
        write, read = FACTS[name](server.url)
        write()
        server.kill()
        assert not server.running
        server.start()
        server.restart()
        assert read()
        server.pause()
        server.resume()
        assert type(server).ask(server.url)
    assert not server.running


USER = (
    "import sys; from pathlib import Path; from engines import sharing\n"
    "print(sharing.join('nats', Path(sys.argv[1]))[0], flush=True); sys.stdin.read()"
)


def test_a_shared_server_ends_with_its_last_user(tmp_path: Path) -> None:
    """Two that start at once share one server; it stays when one is killed, and ends when the last has gone."""
    private("nats", tmp_path / "unused")
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent.parent,
        )
        for _ in range(2)
    ]
    urls = {user.stdout.readline().decode().strip() for user in users if user.stdout is not None}
    assert len(urls) == 1
    (url,) = urls
    users[0].kill()
    users[0].communicate()
    assert answers.nats(url)
    users[1].communicate()
    deadline = time.monotonic() + 30
    while (tmp_path / "nats" / "data").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(OSError):
        answers.nats(url)
