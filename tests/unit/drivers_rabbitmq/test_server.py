"""A RabbitMQ of one's own that is restarted, killed, frozen, secured and told to take less."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import engines
from engines.kinds.rabbitmq import Rabbitmq
from engines.process import free_port
from headrace.broker import Reading, Received, Topic
from headrace.drivers.rabbitmq import RabbitBroker, Tls
from headrace.drivers.rabbitmq.broker import _judge
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicNotFound
from headrace.testing.conformance.samples import message, numbered
from tests.unit.drivers_rabbitmq.place import bodies, numbers, read

MOST_BYTES = 50_000


class _Own(Rabbitmq):
    """A server with TLS on a second port, and a small limit for messages."""

    def prepare(self) -> None:
        super().prepare()
        self.tls_port = free_port()
        for command in (
            "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=headrace-test-ca",
            "req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=localhost",
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out cert.pem -extfile names",
        ):
            (self.folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            subprocess.run(
                ["openssl", *command.split()], cwd=self.folder, check=True, capture_output=True
            )
        (self.folder / "key.pem").chmod(0o644)
        with (self.folder / "rabbitmq.conf").open("a") as settings:
            settings.write(
                f"listeners.ssl.local = 127.0.0.1:{self.tls_port}\n"
                f"ssl_options.cacertfile = {self.folder / 'ca.pem'}\n"
                f"ssl_options.certfile = {self.folder / 'cert.pem'}\n"
                f"ssl_options.keyfile = {self.folder / 'key.pem'}\n"
                "ssl_options.verify = verify_peer\n"
                "ssl_options.fail_if_no_peer_cert = true\n"
                f"max_message_size = {MOST_BYTES}\n"
                f"load_definitions = {self.folder / 'definitions.json'}\n"
            )
        users = {"guest": (".*", ".*"), "limited": (r"\.partitions$", "open$")}
        definitions = {
            "rabbit_version": "3.10.8",
            "vhosts": [{"name": "/"}],
            "users": [{"name": name, "password": name, "tags": ""} for name in users],
            "permissions": [
                {"user": name, "vhost": "/", "configure": make, "write": write, "read": ".*"}
                for name, (make, write) in users.items()
            ],
        }
        (self.folder / "definitions.json").write_text(json.dumps(definitions))


class _Full(Rabbitmq):
    """A server that always wants memory."""

    def prepare(self) -> None:
        super().prepare()
        with (self.folder / "rabbitmq.conf").open("a") as settings:
            settings.write("vm_memory_high_watermark.absolute = 1MB\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Own]:
    """Started once for this module."""
    if Rabbitmq.program() is None:
        pytest.skip("rabbitmq: its program is not on this machine, so none can be restarted")
    own = _Own(tmp_path_factory.mktemp("rabbitmq"))
    try:
        with own:
            yield own
    except engines.EngineMissing as missing:
        pytest.skip(f"rabbitmq: {missing}")


@asynccontextmanager
async def started(server: _Own, **settings: object) -> AsyncGenerator[RabbitBroker]:
    """A broker with a topic of one partition, which a group reads, named after the test's settings."""
    url = str(settings.pop("url", server.url))
    make: Callable[..., RabbitBroker] = RabbitBroker
    broker = make(url, **settings)
    await broker.start(None)
    try:
        await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
        yield broker
    finally:
        await broker.stop()


async def persistently(broker: RabbitBroker, number: int) -> None:
    """Publish until it is confirmed, as the relay does."""
    async with asyncio.timeout(50):
        while True:
            try:
                assert list(await broker.publish([message("k", str(number).encode())])) == []
            except BrokerUnavailable:
                await asyncio.sleep(0.1)
            else:
                return


@pytest.mark.timeout(120)
@pytest.mark.parametrize("queues", ["classic", "quorum"])
async def test_restarts_and_crashes_lose_nothing(server: _Own, queues: str) -> None:
    """Messages confirmed before a restart and before a crash of the server are read after it, in order (G5, G8)."""
    prefix = f"{queues}-restart-"
    async with started(server, queues=queues, prefix=prefix) as broker:
        seen: list[bytes] = []
        await publish(broker, range(20))
        # Published while the server goes and comes.
        await asyncio.gather(asyncio.to_thread(server.restart), publish(broker, range(20, 40)))
        seen += bodies(await in_time(broker, 40))
        await asyncio.to_thread(server.kill)
        await asyncio.gather(asyncio.to_thread(server.start), publish(broker, range(40, 60)))
        seen += bodies(await in_time(broker, 60))
        assert list(dict.fromkeys(seen)) == numbers(60)


async def publish(broker: RabbitBroker, some: range) -> None:
    """Publish numbers, one after another."""
    for number in some:
        await persistently(broker, number)


async def in_time(broker: RabbitBroker, count: int) -> list[Received]:
    """Read what is there when the server is back."""
    async with asyncio.timeout(50):
        while True:
            try:
                found = await read(broker, count)
            except BrokerUnavailable:
                await asyncio.sleep(0.1)
                continue
            if len(dict.fromkeys(bodies(found))) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_a_frozen_server_is_unavailable_in_time(server: _Own) -> None:
    """While the server's process is stopped every call ends within the time-out; then all goes on (G5)."""
    async with started(server, prefix="frozen-", timeout_seconds=1.0) as broker:
        await broker.publish(numbered(1))
        await read(broker, 1)
        server.pause()
        try:
            clock = asyncio.get_running_loop().time
            start = clock()
            for call in (
                broker.publish(numbered(2)),
                broker.backlog("g", "orders", {0: None}),
                broker.partitions("other"),
            ):
                with pytest.raises(BrokerUnavailable):
                    await call
            await broker.release("g", "orders", [0])
            assert clock() - start < 15
        finally:
            server.resume()
        await persistently(broker, 7)
        assert b"7" in bodies(await in_time(broker, 2))


async def test_tls_with_certificates_on_both_sides(server: _Own) -> None:
    """A server that shows a certificate and asks for one is reached with the right files, by URL and by object (G5)."""
    ca, cert, key = (str(server.folder / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    url = f"amqps://guest:guest@localhost:{server.tls_port}"
    tls = Tls(ca=ca, cert=cert, key=key)
    for broker in (
        RabbitBroker.from_url(f"{url}?ca={ca}&cert={cert}&key={key}&prefix=tls-"),
        RabbitBroker(url, tls=tls.context(), prefix="tls-"),
        RabbitBroker(url, tls=replace(tls, ca=None, verify=False), prefix="tls-"),
    ):
        await broker.start(None)
        await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
        assert list(await broker.publish(numbered(3))) == []
        found = await read(broker, 3)
        assert bodies(found) == numbers(3)
        await broker.settle("g", "orders", {0: found[-1].position})
        await broker.stop()


@pytest.mark.parametrize("given", ["", "?verify=false", "?ca={ca}"])
async def test_tls_refuses_what_it_cannot_trust(server: _Own, given: str) -> None:
    """Without the server's authority, or without a certificate of its own, there is no connection (G14)."""
    query = given.format(ca=server.folder / "ca.pem")
    broker = RabbitBroker.from_url(f"amqps://guest:guest@localhost:{server.tls_port}{query}")
    with pytest.raises(BrokerUnavailable, match="localhost"):
        await broker.start(None)


async def test_the_limit_of_the_server_is_learnt(server: _Own) -> None:
    """A body above the limit of the server, which nobody told us, becomes a final rejection, and the rest is stored (G6)."""
    async with started(server, prefix="limit-") as broker:
        sent = [message("a", b"1"), message("b", b"2" * (MOST_BYTES + 1)), message("c", b"3")]
        rejected = await broker.publish(sent)
        assert [(one.index, one.final) for one in rejected] == [(1, True)]
        found = await read(broker, 2)
        assert list(dict.fromkeys(bodies(found))) == [b"1", b"3"]


async def test_what_the_user_may_not_write_waits(server: _Own) -> None:
    """A topic that the user may not write is rejected for now, with the server's words; others are stored (G6)."""
    topics = [Topic("open", 1), Topic("shut", 1)]
    readings = [Reading("g", topic.name) for topic in topics]
    maker = RabbitBroker(server.url)
    await maker.start(None)
    await maker.declare(topics, readings)
    await maker.stop()
    url = server.url.replace("guest:guest", "limited:limited")
    broker = RabbitBroker(url, declare="check")
    await broker.start(None)
    try:
        await broker.declare(topics, readings)
        sent = [message(topic=topic, data=topic.encode()) for topic in ("open", "shut", "open")]
        rejected = await broker.publish(sent)
        assert [(one.index, one.final) for one in rejected] == [(1, False)]
        assert "refused for user 'limited'" in rejected[0].reason
        found = await read(broker, 2, topic="open")
        assert list(dict.fromkeys(one.message.envelope.id for one in found)) == [
            sent[0].envelope.id,
            sent[2].envelope.id,
        ]
    finally:
        await broker.stop()
    making = RabbitBroker(url)
    await making.start(None)
    try:
        with pytest.raises(TopicNotFound, match="permission"):
            await making.declare([Topic("third", 1)])
        with pytest.raises(TopicNotFound, match="permission"):
            await making.declare([], [Reading("other", "open")])
    finally:
        await making.stop()


async def test_an_alarm_stops_publishers_only(tmp_path: Path) -> None:
    """A server that wants memory is unavailable to publishers, who are told of alarms; declaring and reading go on (G9)."""
    if Rabbitmq.program() is None:
        pytest.skip("rabbitmq: its program is not on this machine")
    full = _Full(tmp_path)
    try:
        await asyncio.to_thread(full.start)
        broker = RabbitBroker(full.url, timeout_seconds=1.5)
        await broker.start(None)
        await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match="alarms"):
                await broker.publish(numbered(3))
            assert list(await broker.read("g", "orders", {0: None}, limit=1)) == []
        await broker.stop()
    finally:
        await asyncio.to_thread(full.close)


def test_servers_that_are_too_old_are_refused() -> None:
    """A server without single active consumers is refused; one that is no RabbitMQ is warned of (G5)."""
    with pytest.raises(ConfigurationError, match=r"RabbitMQ 3\.7\.28.*3\.8 is the oldest"):
        _judge({"product": "RabbitMQ", "version": "3.7.28"})
    assert _judge({"product": "RabbitMQ", "version": "4.1.0"}) == ()
    (warning,) = _judge({"product": "LavinMQ", "version": "2.0"})
    assert "LavinMQ" in warning
    assert warning.endswith(".")
