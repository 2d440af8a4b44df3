"""Settings of `KafkaBroker`: by URL, by object, and those that cannot be."""

from __future__ import annotations

import pytest

from headrace.assembly.urls import broker_from
from headrace.drivers.kafka import KafkaBroker, Sasl, Tls
from headrace.drivers.kafka.names import server_name
from headrace.errors import ConfigurationError


def test_a_url_sets_everything() -> None:
    """Servers, login, TLS, settings and settings of the client library all go into a URL."""
    broker = broker_from(
        "kafkas://me:p%40ss@h1:9093,h2?mechanism=SCRAM-SHA-512&ca=/ca.pem&verify=false&client_name=shop&prefix=test."
        "&replication=3&publish_seconds=2.5&idempotence=false&declare=check&config.linger.ms=3"
    )
    assert isinstance(broker, KafkaBroker)
    settings = broker._settings
    assert settings.servers == ("h1:9093", "h2:9092")
    assert settings.sasl == Sasl("me", "p@ss", "SCRAM-SHA-512")
    assert settings.tls == Tls(ca="/ca.pem", verify=False)
    assert (settings.prefix, settings.replication, settings.declare) == ("test.", 3, "check")
    assert (settings.publish_seconds, settings.idempotence) == (2.5, False)
    told = settings.producer()
    assert told["security.protocol"] == "SASL_SSL"
    assert told["sasl.password"] == "p@ss"
    assert told["linger.ms"] == "3"
    assert "enable.idempotence" not in told


def test_plain_servers_need_nothing_else() -> None:
    """A host alone is enough: the usual port, no TLS, nobody logs in."""
    settings = KafkaBroker("kafka1")._settings
    assert settings.servers == ("kafka1:9092",)
    assert "security.protocol" not in settings.client()


def test_the_guarantees_are_in_what_the_client_is_told() -> None:
    """Producers are idempotent, gapless and never give up; consumers see committed records and commit nothing by themselves."""
    settings = KafkaBroker("h")._settings
    producer, consumer = settings.producer(), settings.consumer("g")
    assert (producer["acks"], producer["message.timeout.ms"]) == ("all", 0)
    assert producer["enable.idempotence"] is True
    assert producer["enable.gapless.guarantee"] is True
    assert consumer["isolation.level"] == "read_committed"
    assert consumer["enable.auto.commit"] is False


def test_passwords_are_not_shown() -> None:
    """No representation and no error has a password in it."""
    broker = KafkaBroker(
        "h",
        sasl=Sasl("me", "secret"),
        tls=Tls(key_password="secret"),
        config={"sasl.jaas": "secret"},
    )
    assert "secret" not in repr(broker) + repr(broker._settings)
    with pytest.raises(ConfigurationError) as caught:
        broker_from("kafka://me:secret@h?nonsense=1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kafka://h?publish_second=1", "Did you mean 'publish_seconds'"),
        ("kafka://h?publish_seconds=soon", "publish_seconds='soon': write a number"),
        ("kafka://h?idempotence=maybe", "write true or false"),
        ("kafka://h?ca=/ca.pem", "write kafkas://"),
        ("kafka://h?mechanism=PLAIN", "nobody to log in"),
        ("kafka://h/topic", "write servers and nothing else"),
        ("kafka://", "write servers and nothing else"),
        ("kafka://h?replication=0", "give 1 or more"),
        ("kafka://h?timeout_seconds=0", "give more than 0"),
        ("kafka://h?declare=no", "'make'"),
        ("kafka://h?config.acks=1", "stored as durably"),
        ("kafka://h?config.group.id=x", "named by subscriptions"),
    ],
)
def test_a_wrong_url_says_what_to_write(url: str, words: str) -> None:
    """What a URL has wrong is named, with what to write instead."""
    with pytest.raises(ConfigurationError, match=words):
        broker_from(url)


async def test_a_setting_that_the_client_does_not_know_is_refused_at_start() -> None:
    """A name of `config` that librdkafka has no setting for is an error that names it."""
    broker = KafkaBroker("127.0.0.1:1", config={"no.such.thing": "1"})
    with pytest.raises(ConfigurationError, match=r"no\.such\.thing"):
        await broker.start(None)
    await broker.stop()


def test_names_that_kafka_forbids_are_escaped() -> None:
    """Topics of any name have a legal name on the servers, and two topics never have the same one."""
    assert server_name("orders", "shop.") == "shop.orders"
    assert server_name("bestellungen-ü", "") == "headrace.escaped.bestellungen-_C3_BC"
    names = ["a b", "a_20b", "headrace.escaped.a_20b", "ä", "..", "a/b", "a.b", "a_b"]
    assert len({server_name(name, "") for name in names}) == len(names)
    with pytest.raises(ConfigurationError, match="shorter"):
        server_name("x" * 250, "")
