"""Settings by URL and by keyword: what they mean, what is refused, and that no password is ever shown."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from headrace.assembly.urls import broker_from
from headrace.drivers.rabbitmq import RabbitBroker, Tls
from headrace.drivers.rabbitmq.settings import servers_of
from headrace.errors import BrokerUnavailable, ConfigurationError
from tests.unit.drivers_rabbitmq.place import Place


def urls(*given: str, **settings: Any) -> list[str]:
    defaults: dict[str, Any] = {"user": None, "password": None, "auth": "plain", "client_name": "c"}
    found = servers_of(list(given), **(defaults | {"heartbeat_seconds": 7} | settings))
    return [str(one.url.with_query(None)) for one in found]


def test_a_cluster_has_several_hosts() -> None:
    """Hosts of one URL and of several are all tried, each with its port, or the scheme's (G5)."""
    assert urls("amqp://u:p@a:1,b,[::1]:3/shop", "amqps://c") == [
        "amqp://u:p@a:1/shop",
        "amqp://u:p@b:5672/shop",
        "amqp://u:p@[::1]:3/shop",
        "amqps://guest:guest@c:5671/",
    ]


def test_special_letters_in_credentials_and_vhosts() -> None:
    """User, password and virtual host may have any letters, percent-encoded in a URL, as they are in keywords."""
    (server,) = servers_of(
        "amqp://ü%40:p%2F%3A%23@h/a%2Fb",
        user=None,
        password=None,
        auth="plain",
        client_name="c",
        heartbeat_seconds=7,
    )
    assert (server.url.user, server.url.password) == ("ü@", "p/:#")
    connection_path = server.url.path[1:].replace("%2F", "/")
    assert connection_path == "a/b"
    assert urls("amqp://h/", user="x y", password="@:/")[0].startswith("amqp://x%20y:%40%3A%2F@h")


def test_a_url_sets_everything() -> None:
    """The query of a URL sets the keyword arguments of the class, TLS included."""
    broker = broker_from(
        "amqp://u:secret@h1,h2:99/v?prefetch=20&queues=classic&declare=check&timeout_seconds=2.5&max_body_bytes=77"
        "&heartbeat_seconds=4&client_name=shop&prefix=x-&auth=plain"
    )
    assert isinstance(broker, RabbitBroker)
    assert repr(broker) == "RabbitBroker(amqp://h1:5672/v, amqp://h2:99/v)"
    assert broker.guarantees.max_body_bytes == 77


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://u:secret@h/?prefetchh=1", "Did you mean 'prefetch'"),
        ("amqp://u:secret@h/?color=1", "There are auth, ca, cert"),
        ("amqp://u:secret@h/?prefetch=many", "whole number"),
        ("amqp://u:secret@h/?prefetch=0", "above zero"),
        ("amqp://u:secret@h/?prefetch=70000", "65535"),
        ("amqp://u:secret@h/?queues=fast", "'classic', 'quorum'"),
        ("amqp://u:secret@h/?declare=maybe", "'make', 'check'"),
        ("amqp://u:secret@h/?timeout_seconds=soon", "write a number"),
        ("amqp://u:secret@h/?timeout_seconds=nan", "above zero"),
        ("amqps://u:secret@h/?verify=perhaps", "true or false"),
        ("amqps://u:secret@h/?ca=/no/such/file", "No such file"),
        ("amqp://u:secret@h/?ca=/no/such/file", "amqps://"),
        ("amqp://u:secret@h:port/", "no host, or its port is no number"),
        ("amqp://u:secret@/", "no host"),
        ("amqp://u:secret@h,/", "no host"),
    ],
)
def test_what_cannot_be_used_is_refused(url: str, says: str) -> None:
    """A setting that is unknown or impossible is an error that says what to write, without the password (G12)."""
    with pytest.raises(ConfigurationError) as caught:
        broker_from(url)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_keywords_are_refused_in_the_url_of_the_class() -> None:
    """The constructor takes settings as keyword arguments only, so that none is set twice (G12)."""
    with pytest.raises(ConfigurationError, match="from_url"):
        RabbitBroker("amqp://h/?prefetch=1")
    with pytest.raises(ConfigurationError, match="no URL of RabbitMQ"):
        RabbitBroker("kafka://u:secret@h")
    with pytest.raises(ConfigurationError, match="one URL or more"):
        RabbitBroker([])


def test_tls_settings_make_a_context(tmp_path: Path) -> None:
    """`Tls` verifies unless told otherwise, and a file without a certificate is an error (G12)."""
    assert Tls().context().verify_mode is ssl.CERT_REQUIRED
    lax = Tls(verify=False).context()
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(ConfigurationError, match=r"empty\.pem"):
        Tls(cert=str(tmp_path / "empty.pem")).context()


async def test_a_wrong_password_is_not_shown(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that refuses the password leads to an error that names user and server, not the password (G13)."""
    broker = place.broker(user="guest", password="hush-hush", timeout_seconds=5.0)
    with pytest.raises(BrokerUnavailable) as caught:
        await broker.start(None)
    shown = f"{caught.value} {caught.value.__cause__!r} {broker!r} {caplog.text}"
    assert "Login was refused" in shown
    assert "hush-hush" not in shown


async def test_the_next_host_is_tried(place: Place) -> None:
    """When one host of a cluster is away the next one is used (G5)."""
    broker = place.broker(url=["amqp://guest:guest@127.0.0.1:1", place.url])
    await broker.start(None)
    assert place.url.split("@")[1].strip("/") in repr(broker)


async def test_a_server_that_is_away_is_named(place: Place) -> None:
    """When no host answers the error names each and why (G13)."""
    broker = place.broker(url="amqp://u:hush@127.0.0.1:1,localhost:2/v", timeout_seconds=2.0)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1/v: .*localhost:2/v: ") as caught:
        await broker.start(None)
    assert "hush" not in str(caught.value)
