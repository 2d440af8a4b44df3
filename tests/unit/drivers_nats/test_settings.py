"""Settings, as objects and in a URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.assembly.urls import broker_from
from headrace.drivers.nats import Auth, NatsBroker, Streams, Tls
from headrace.drivers.nats.settings import from_url
from headrace.errors import ConfigurationError


def test_a_url_says_all() -> None:
    """Servers, user, TLS, streams and settings stand in one URL; what is not said has its default."""
    servers, arguments = from_url(
        "natss://us%40er:p%3Aw@h1,h2:5222?prefix=x-&replicas=3&ca=/ca.pem&verify=false"
        "&timeout_seconds=2.5&retention_seconds=60&declare=check&synced=true"
    )
    assert servers == ["h1:4222", "h2:5222"]
    assert arguments == {
        "prefix": "x-",
        "declare": "check",
        "timeout_seconds": 2.5,
        "synced": True,
        "auth": Auth(user="us@er", password="p:w"),
        "tls": Tls(ca="/ca.pem", verify=False),
        "streams": Streams(replicas=3, retention_seconds=60.0),
    }
    assert from_url("nats://") == (["127.0.0.1:4222"], {})
    assert from_url("nats://t0ken@h")[1] == {"auth": Auth(token="t0ken")}
    assert from_url("nats://[::1]:4333")[0] == ["[::1]:4333"]


def test_the_schemes_make_this_broker() -> None:
    """An app's broker= takes nats:// and natss://."""
    assert isinstance(broker_from("nats://h1,h2:4223?prefix=a"), NatsBroker)
    assert isinstance(broker_from("natss://h1"), NatsBroker)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nats://h?retension=1", "retension.*retention_seconds"),
        ("nats://h?replicas=many", "replicas='many': write a whole number"),
        ("nats://h?synced=perhaps", "true or false"),
        ("nats://h/path", "servers and nothing else"),
        ("nats://h?declare=maybe", "make.*check"),
        ("nats://h?prefix=a.b", "prefix"),
        ("nats://h?timeout_seconds=0", "above 0"),
        ("nats://h?replicas=0", "1 replica"),
        ("nats://u:p@h?token=t", "one of"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, says: str) -> None:
    """A setting that is not known, or cannot be, is an error that helps."""
    with pytest.raises(ConfigurationError, match=f"(?s){says}"):
        broker_from(url)


def test_servers_are_addresses() -> None:
    """Servers come as text or as a list; secrets do not belong there, nor do other schemes."""
    assert repr(NatsBroker("h1,nats://h2:1")) == "NatsBroker(h1:4222,h2:1)"
    assert repr(NatsBroker(["h1", "h2"])) == "NatsBroker(h1:4222,h2:4222)"
    for wrong, says in [("nats://u:p@h", "Auth"), ("http://h", "scheme"), ("", "no address")]:
        with pytest.raises(ConfigurationError, match=says):
            NatsBroker(wrong)
    with pytest.raises(ConfigurationError, match="at least one"):
        NatsBroker([])


def test_secrets_are_not_shown() -> None:
    """No password or token is in what is printed of settings or a broker."""
    auth = Auth(user="u", password="hush"), Auth(token="hush")
    broker = NatsBroker.from_url("nats://u:hush@h")
    assert "hush" not in f"{auth!r} {broker!r} {broker} {vars(broker)}"


def test_auth_is_one_way() -> None:
    """A user without a password, or two ways at once, are refused."""
    with pytest.raises(ConfigurationError, match="together"):
        Auth(user="u")
    with pytest.raises(ConfigurationError, match="one of"):
        Auth(token="t", nkey_file="f")


def test_certificates_are_read(tmp_path: Path) -> None:
    """A file that is no certificate is an error that names it."""
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        Tls(ca=file).context()
