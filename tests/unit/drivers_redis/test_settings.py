"""URLs and settings, without a server."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from headrace.assembly.urls import broker_from
from headrace.drivers.redis import RedisBroker, Tls
from headrace.errors import ConfigurationError


def test_a_url_has_settings() -> None:
    """The query of a URL sets what the keyword arguments set, and the repr shows neither user nor password."""
    broker = broker_from(
        "rediss://joe:secret@host:7000/3?prefix=shop&max_body_bytes=1000&durable=no&check_hostname=false"
    )
    assert isinstance(broker, RedisBroker)
    assert broker.guarantees.max_body_bytes == 1000
    assert not broker.guarantees.durable
    assert repr(broker) == "RedisBroker('rediss://host:7000/3')"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://h?retention=3", "retention_seconds"),
        ("redis://h?max_connections=many", "whole number"),
        ("redis://h?durable=maybe", "write true or false"),
        ("redis://h?declare=guess", "'make' or 'check'"),
        ("redis://h?timeout_seconds=0", "more than 0"),
        ("redis://h?verify=true", "rediss://"),
        ("rediss://h?verify=maybe", "write true or false"),
        ("redis://h/name", "number of a database"),
        ("redis://u:p@h:port", "is no host"),
        ("redis://h1,h2", "Sentinel"),
        ("redis://h?client_name=two%20words", "without spaces"),
    ],
)
def test_a_url_that_cannot_be_used(url: str, reason: str) -> None:
    """What is wrong with a URL is said, with what there is instead."""
    with pytest.raises(ConfigurationError, match=reason):
        broker_from(url)


def test_a_wrong_url_does_not_show_the_password() -> None:
    """An error about a URL has nothing of its password."""
    for url in ("redis://u:topsecret@h:port", "redis://u:topsecret@h?x=1", "amqp://u:topsecret@h"):
        with pytest.raises(ConfigurationError) as caught:
            RedisBroker.from_url(url)
        assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: RedisBroker("redis://h?prefix=x"), "from_url"),
        (lambda: RedisBroker(Redis(), password="x"), "the client's"),
        (lambda: Tls(key="k"), "has no cert"),
        (lambda: RedisBroker(prefix=""), "prefix"),
        (lambda: RedisBroker(retention_seconds=-1), "0 or more"),
    ],
)
def test_settings_that_cannot_be_used(make: Any, reason: str) -> None:
    """What is wrong with a keyword argument is said."""
    with pytest.raises(ConfigurationError, match=reason):
        make()
