"""Starting, declaring and stopping the Kafka driver; TLS; servers that are not there."""

from __future__ import annotations

import asyncio
import ctypes
import datetime as dt
import ipaddress
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engines import MockKafka
from engines.kafka_mock import INIT_PRODUCER_ID
from engines.process import free_port
from headrace.broker import Reading, Topic
from headrace.drivers.kafka import KafkaBroker, Sasl
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicMismatch, TopicNotFound
from headrace.testing.conformance.samples import message, numbered
from tests.unit.drivers_kafka.place import REAL, Place, Proxy, read, server


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("headrace kafka")]


async def test_stop_leaves_no_thread(place: Place) -> None:
    """After `stop`, which may be called again, no thread of the driver is left (G10)."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
    await broker.publish(numbered(1))
    await read(broker, 1, {0: None})
    assert threads()
    await broker.stop()
    await broker.stop()
    assert not threads()


async def test_a_start_that_fails_leaves_no_thread() -> None:
    """Where no server answers, `start` says so within its time-out and leaves nothing running (G10)."""
    broker = KafkaBroker(f"127.0.0.1:{free_port()}", timeout_seconds=1.0)
    async with asyncio.timeout(10):
        with pytest.raises(BrokerUnavailable, match=r"no Kafka server answered at 127\.0\.0\.1"):
            await broker.start(None)
    assert not threads()


async def test_a_start_that_is_cancelled_leaves_no_thread() -> None:
    """A cancelled `start` ends what it had begun (G10)."""
    broker = KafkaBroker(f"127.0.0.1:{free_port()}", timeout_seconds=1.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await broker.start(None)
    assert not threads()


async def test_stopping_while_the_servers_are_away_ends() -> None:
    """`stop` ends in a bounded time though nothing can be told to the servers any more (G10)."""
    with MockKafka() as cluster:
        place = Place(cluster.servers)
        cluster.topic(f"{place.prefix}orders", partitions=1)
        broker = place.broker(timeout_seconds=1.0, publish_seconds=1.0)
        await broker.start(None)
        await broker.declare([Topic("orders", 1)])
        await broker.publish(numbered(2))
        found = await read(broker, 2, {0: None})
        cluster.down()
        await broker.settle("g", "orders", {0: found[0].position})
        publishing = asyncio.create_task(broker.publish(numbered(2)))
        async with asyncio.timeout(10):
            await broker.stop()
            with pytest.raises(BrokerUnavailable):
                await publishing
        assert not threads()


async def test_one_server_is_a_warning(place: Place) -> None:
    """A cluster of one server is told at start: what it confirmed goes with its disk (G5)."""
    warnings = await place.broker().start(None)
    assert all(each.endswith(".") for each in warnings)
    with MockKafka(3) as cluster:
        other = Place(cluster.servers)
        assert not await other.broker().start(None)
        await other.close(remove=False)


async def test_checking_names_all_that_is_missing(place: Place) -> None:
    """With declare="check" nothing is made, and the error has the command for each missing topic."""
    maker, checker = place.broker(), place.broker(declare="check")
    await maker.start(None)
    await checker.start(None)
    await maker.declare([Topic("orders", 2)])
    with pytest.raises(TopicNotFound) as caught:
        await checker.declare([Topic("orders", 2), Topic("a", 4), Topic("b")])
    assert f"--create --topic {place.prefix}a --partitions 4" in str(caught.value)
    assert f"--create --topic {place.prefix}b --partitions 8" in str(caught.value)
    with pytest.raises(TopicMismatch, match="has 2 partitions"):
        await checker.declare([Topic("orders", 3)])
    with pytest.raises(TopicNotFound):
        await maker.partitions("a")
    await checker.declare([Topic("orders")], [Reading("g", "orders")])
    assert await checker.partitions("orders") == 2


async def test_two_apps_declare_at_once(place: Place) -> None:
    """Two apps that start at the same time make the topic once (G6)."""
    brokers = [place.broker() for _ in range(3)]
    for broker in brokers:
        await broker.start(None)
    await asyncio.gather(*(broker.declare([Topic("orders", 3)]) for broker in brokers))
    assert [await broker.partitions("orders") for broker in brokers] == [3, 3, 3]


async def test_asking_makes_nothing(place: Place) -> None:
    """Asking for a topic, or publishing to one, that was not declared never makes it (G13)."""
    broker = place.broker()
    await broker.start(None)
    for _ in range(2):
        with pytest.raises(TopicNotFound):
            await broker.partitions("never-made")
    with pytest.raises(TopicNotFound, match="never-made"):
        await broker.publish([message(topic="never-made")])


async def test_servers_that_are_too_old_are_refused() -> None:
    """Servers that know no idempotent producers are refused, with the version that is needed (G5, G6)."""
    with MockKafka() as cluster:
        cluster._library.rd_kafka_mock_set_apiversion(
            ctypes.c_void_p(cluster._cluster), INIT_PRODUCER_ID, -1, -1
        )
        cluster.topic("orders", partitions=1)
        broker = KafkaBroker(cluster.servers)
        await broker.start(None)
        with pytest.raises(ConfigurationError, match=r"too old.*0\.11"):
            await broker.publish(numbered(1))
        await broker.stop()


def certificate(folder: Path) -> ssl.SSLContext:
    """A certificate for both sides, in `cert.pem` and `key.pem`, and a context that asks clients for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    today = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
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
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "cert.pem")
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_tls_on_both_sides(tmp_path: Path) -> None:
    """kafkas:// checks the server's certificate and shows its own; without either it does not connect."""
    if REAL is not None:
        pytest.skip("HEADRACE_KAFKA_URL names the server: its TLS is not this test's")
    tansu = server(in_memory=True)
    context = certificate(tmp_path)
    ca, own = f"ca={tmp_path}/cert.pem", f"cert={tmp_path}/cert.pem&key={tmp_path}/key.pem"
    url = f"kafkas://127.0.0.1:{tansu.outer_port}?timeout_seconds=1&prefix=test-tls."
    async with Proxy(tansu.outer_port, tansu.port, tls=context):
        untrusting = KafkaBroker.from_url(f"{url}&{own}")
        with pytest.raises(BrokerUnavailable, match="certificate could not be verified"):
            await untrusting.start(None)
        stranger = KafkaBroker.from_url(f"{url}&{ca}")
        with pytest.raises(BrokerUnavailable):
            await stranger.start(None)
        broker = KafkaBroker.from_url(f"{url}&{ca}&{own}")
        await broker.start(None)
        await broker.declare([Topic("orders", 1)])
        assert not await broker.publish(numbered(2))
        assert len(await read(broker, 2, {0: None})) == 2
        await broker.stop()


async def test_a_login_that_is_refused_says_why(place: Place) -> None:
    """Where a login is refused, `start` tells what the servers said, without the password."""
    broker = KafkaBroker(place.servers, sasl=Sasl("me", "pass-word"), timeout_seconds=1.0)
    with pytest.raises(BrokerUnavailable, match="SASL") as caught:
        await broker.start(None)
    assert "pass-word" not in str(caught.value)
