"""Starting, stopping, what a server must be like, and lost connections."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis.asyncio import Redis

import engines
from engines.process import Command, Process
from headrace.assembly.urls import broker_from
from headrace.broker import Reading, Topic
from headrace.drivers.redis import RedisBroker, Tls
from headrace.drivers.redis.server import Server, _check
from headrace.errors import BrokerUnavailable, ConfigurationError
from headrace.testing.conformance.samples import message, numbered
from tests.unit.drivers_redis.place import Place, Proxy


async def warnings(place: Place, **settings: object) -> str:
    broker = place.broker(**settings)
    found = await broker.start(None)
    await broker.stop()
    return " ".join(found)


async def test_a_server_that_may_lose_messages_is_warned_of(place: Place) -> None:
    """`start` warns of a server without append-only file and of one that writes it once a second; not of a safe one (G5)."""
    assert await warnings(place) == ""
    async with place.client() as client:
        try:
            await client.config_set("appendfsync", "everysec")
            assert "appendfsync everysec" in await warnings(place)
            await client.config_set("appendonly", "no")
            assert "appendonly no" in await warnings(place)
            assert await warnings(place, durable=False) == ""
            broker = place.broker()
            await broker.start(None)
            assert not broker.guarantees.durable
        finally:
            await client.config_set("appendfsync", "always")
            await client.config_set("appendonly", "yes")
    assert place.broker().guarantees.durable


async def test_a_server_that_drops_keys_is_refused(place: Place) -> None:
    """A server whose maxmemory-policy drops any key when memory is full is refused: it would lose messages (G5)."""
    async with place.client() as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(ConfigurationError, match="allkeys-lru"):
                await place.broker().start(None)
        finally:
            await client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (Server("6.0.16", True, "always", "noeviction", 0, False, False), "version 6.0.16"),
        (Server("7.2.4", True, "always", "noeviction", 0, False, True), "cluster mode"),
    ],
)
async def test_a_server_that_cannot_be_used_is_refused(server: Server, reason: str) -> None:
    """A server that is too old, or a cluster, is refused with what is needed instead."""
    with pytest.raises(ConfigurationError, match=reason):
        _check(server, "the server")


async def test_a_replica_that_copies_later_is_warned_of() -> None:
    """A server with replicas may lose messages at a failover, unless `min_replicas` waits for them (G5)."""
    server = Server("7.2.4", True, "always", "noeviction", 2, False, False)
    assert "min_replicas" in server.warnings(durable=True, min_replicas=0)[0]
    assert server.warnings(durable=True, min_replicas=1) == []


async def test_a_password_is_never_shown(place: Place) -> None:
    """A wrong password is told without it, and no repr has it."""
    broker = place.broker(place.url.replace("redis://", "redis://joe:topsecret@"))
    with pytest.raises(BrokerUnavailable, match="user and password") as caught:
        await broker.start(None)
    shown: list[str] = [repr(broker)]
    error: BaseException | None = caught.value
    while error is not None:
        shown.append(repr(error))
        error = error.__cause__ or error.__context__
    assert "topsecret" not in " ".join(shown)


async def test_a_user_and_password_open_the_server(place: Place) -> None:
    """User and password of the URL, percent-encoded, and those given by name are used."""
    async with place.client() as client:
        await client.execute_command(
            "ACL", "SETUSER", place.prefix, "on", ">p@ss/word", "~*", "+@all"
        )
    try:
        address = place.url.replace("redis://", f"redis://{place.prefix}:p%40ss%2Fword@")
        await place.broker(address).start(None)
        await place.broker(user=place.prefix, password="p@ss/word").start(None)
    finally:
        async with place.client() as client:
            await client.acl_deluser(place.prefix)


async def test_the_permissions_in_the_docs_are_enough(place: Place) -> None:
    """A user with the permissions that docs/brokers/redis.md lists can do all that an app does."""
    page = (Path(__file__).parents[3] / "docs" / "brokers" / "redis.md").read_text("utf-8")
    line = next(line for line in page.splitlines() if line.startswith("- **Permissions**"))
    rights = line.split("`")[1].replace("~headrace:", f"~{place.prefix}:").split()
    async with place.client() as client:
        await client.execute_command("ACL", "SETUSER", place.prefix, "on", ">pass", *rights)
    try:
        broker = place.broker(user=place.prefix, password="pass", retention_seconds=0.0)
        assert list(await broker.start(None)) == []
        await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
        woken = asyncio.Event()
        broker.listen("g", "orders", woken.set)
        assert await broker.publish(numbered(2)) == []
        await asyncio.wait_for(woken.wait(), 5)
        found = await broker.read("g", "orders", {0: "1-0"}, limit=9)
        assert await broker.backlog("g", "orders", {0: None}) == 2
        await broker.settle("g", "orders", {0: found[-1].position})
        await broker.release("g", "orders", [0])
        await broker.forget_group("g", "orders")
        await broker.stop()
    finally:
        async with place.client() as client:
            await client.acl_deluser(place.prefix)


async def test_nothing_answers() -> None:
    """A server that cannot be reached is `BrokerUnavailable`, with where it was looked for."""
    with pytest.raises(BrokerUnavailable, match=r"redis://127\.0\.0\.1:1/0"):
        await RedisBroker("redis://127.0.0.1:1").start(None)


async def test_a_stop_leaves_nothing(place: Place) -> None:
    """After `stop`, called twice, no task, no connection and no socket is left (G10)."""
    before = asyncio.all_tasks()
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 2)], [Reading("g", "orders")])
    broker.listen("g", "orders", lambda: None)
    await asyncio.gather(*(broker.publish(numbered(5)) for _ in range(5)))
    assert await place.connections()
    await broker.stop()
    await broker.stop()
    assert asyncio.all_tasks() == before
    # The server sees a closed connection when it next looks, which is before it answers this many times.
    left = [await place.connections() for _ in range(20)]
    assert left[-1] == []
    gc.collect()


async def test_several_apps_share_an_object(place: Place) -> None:
    """An object that two apps started is closed when both have stopped it."""
    broker = place.broker()
    await asyncio.gather(broker.start(None), broker.start(None))
    await broker.stop()
    await broker.declare([Topic("orders", 1)])
    await broker.stop()
    with pytest.raises(BrokerUnavailable):
        await broker.partitions("orders")


async def test_after_a_lost_connection_all_goes_on(
    place: Place, redis_server: engines.Server
) -> None:
    """When connections are cut and refused for a while, publishing, reading and wake-ups go on by themselves after it."""
    async with Proxy("127.0.0.1", redis_server.port) as proxy:
        broker = place.broker(f"redis://127.0.0.1:{proxy.port}")
        await broker.start(None)
        await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
        woken = asyncio.Event()
        broker.listen("g", "orders", woken.set)
        await broker.publish([message(data=b"1")])
        await asyncio.wait_for(woken.wait(), 5)
        proxy.accepting = False
        proxy.cut()
        with pytest.raises(BrokerUnavailable):
            await broker.publish([message(data=b"2")])
        proxy.accepting = True
        woken.clear()
        async with place.client() as client:
            await client.xadd(f"{place.prefix}:{{orders}}:0", {"data": "3"})
        await asyncio.wait_for(woken.wait(), 10)
        found = await broker.read("g", "orders", {0: None}, limit=9)
        assert [each.message.data for each in found] == [b"1", b"3"]
        await broker.stop()


async def test_a_restarted_server_is_used_again(place: Place, redis_server: engines.Server) -> None:
    """After the server was killed and started again everything that was confirmed is read, and more is published (G5)."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
    await broker.publish(numbered(2))
    await asyncio.to_thread(redis_server.kill)
    with pytest.raises(BrokerUnavailable):
        await broker.read("g", "orders", {0: None}, limit=9)
    await asyncio.to_thread(redis_server.start)
    assert len(await broker.read("g", "orders", {0: None}, limit=9)) == 2
    await broker.publish(numbered(1))
    assert len(await broker.read("g", "orders", {0: None}, limit=9)) == 3


async def test_a_given_client_lends_its_settings(place: Place) -> None:
    """A client of redis-py can be given; its own connections are left alone, even if it decodes answers."""
    async with Redis.from_url(place.url, decode_responses=True, protocol=3) as client:
        broker = place.broker(client)
        await broker.start(None)
        await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
        woken = asyncio.Event()
        broker.listen("g", "orders", woken.set)
        await broker.publish([message(data=b"\xff")])
        await asyncio.wait_for(woken.wait(), 5)
        (found,) = await broker.read("g", "orders", {0: "5-0"}, limit=9)
        assert found.message.data == b"\xff"
        await broker.settle("g", "orders", {0: found.position})
        await broker.release("g", "orders", [0])
        await broker.stop()
        assert await client.ping()


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A server that speaks TLS alone and asks for a certificate; its port, and where the certificates are."""
    from engines.process import free_port
    from tests.unit.drivers_redis.place import server

    program = type(server()).program()
    folder = tmp_path_factory.mktemp("tls")
    _certificate(folder)
    port = free_port()
    files = [f"--tls-{n}-file" for n in ("cert", "key", "ca-cert")]
    argv = [str(program), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1"]
    for option, name in zip(files, ("cert.pem", "key.pem", "cert.pem"), strict=True):
        argv += [option, str(folder / name)]
    argv += ["--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    process = Process(Command(argv, folder, folder / "log"))
    yield port, folder
    process.stop()


def _certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


async def test_tls_is_checked(secure: tuple[int, Path]) -> None:
    """`rediss://` checks certificate and host, takes a client certificate, and can be told to check less."""
    port, folder = secure
    query = f"ca={folder}/cert.pem&cert={folder}/cert.pem&key={folder}/key.pem"
    fine = f"rediss://localhost:{port}?{query}"
    async with asyncio.timeout(20):
        while True:  # the server has only just been started
            broker = broker_from(fine)
            try:
                assert list(await broker.start(None)) == []
                break
            except BrokerUnavailable as error:
                if isinstance(error.__cause__, ssl.SSLError):
                    raise
                await asyncio.sleep(0.05)
    await broker.stop()
    broker = broker_from(f"rediss://127.0.0.1:{port}?{query}&check_hostname=false")
    assert list(await broker.start(None)) == []
    await broker.stop()
    with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await broker_from(f"rediss://127.0.0.1:{port}?{query}").start(None)
    with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await RedisBroker(f"rediss://localhost:{port}", tls=Tls()).start(None)
