"""Storages and brokers by URL. Drivers are imported here by name, only when an app asks for one."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import cast

from msgspec import Struct

from headrace.broker import Broker
from headrace.errors import ConfigurationError, MissingExtra
from headrace.storage import Storage
from headrace.urls import ServerUrl, hidden, read_url


class _Driver(Struct, frozen=True):
    """Where a driver lives: its module, its class, the extra that installs what it needs, and the packages needed."""

    module: str
    name: str
    extra: str = ""
    needs: tuple[str, ...] = ()


_STORAGES: Mapping[str, _Driver] = {
    "memory": _Driver("headrace.drivers.memory", "MemoryStorage"),
    "sqlite+aiosqlite": _Driver(
        "headrace.drivers.sql", "SqlStorage", "sqlite", ("sqlalchemy", "aiosqlite")
    ),
    "postgresql+asyncpg": _Driver(
        "headrace.drivers.sql", "SqlStorage", "postgresql", ("sqlalchemy", "asyncpg")
    ),
    "postgresql+psycopg": _Driver(
        "headrace.drivers.sql", "SqlStorage", "psycopg", ("sqlalchemy", "psycopg")
    ),
    "mysql+asyncmy": _Driver(
        "headrace.drivers.sql", "SqlStorage", "mysql", ("sqlalchemy", "asyncmy")
    ),
    "mariadb+asyncmy": _Driver(
        "headrace.drivers.sql", "SqlStorage", "mysql", ("sqlalchemy", "asyncmy")
    ),
}
_BROKERS: Mapping[str, _Driver] = {
    "memory": _Driver("headrace.drivers.memory", "MemoryBroker"),
    "sql": _Driver("headrace.drivers.sql", "SqlBroker", "sqlite", ("sqlalchemy",)),
    "kafka": _Driver("headrace.drivers.kafka", "KafkaBroker", "kafka", ("confluent_kafka",)),
    "kafkas": _Driver("headrace.drivers.kafka", "KafkaBroker", "kafka", ("confluent_kafka",)),
    "nats": _Driver("headrace.drivers.nats", "NatsBroker", "nats", ("nats",)),
    "natss": _Driver("headrace.drivers.nats", "NatsBroker", "nats", ("nats",)),
    "redis": _Driver("headrace.drivers.redis", "RedisBroker", "redis", ("redis", "hiredis")),
    "rediss": _Driver("headrace.drivers.redis", "RedisBroker", "redis", ("redis", "hiredis")),
    "amqp": _Driver("headrace.drivers.rabbitmq", "RabbitBroker", "rabbitmq", ("aiormq",)),
    "amqps": _Driver("headrace.drivers.rabbitmq", "RabbitBroker", "rabbitmq", ("aiormq",)),
}
_HINTS: Mapping[str, str] = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+psycopg2": "postgresql+psycopg",
    "mysql": "mysql+asyncmy",
    "mysql+aiomysql": "mysql+asyncmy",
    "mysql+pymysql": "mysql+asyncmy",
    "mariadb": "mariadb+asyncmy",
    "rabbitmq": "amqp",
    "rabbit": "amqp",
    "valkey": "redis",
    "valkeys": "rediss",
    "jetstream": "nats",
}


def storage_from(given: str | Storage) -> Storage:
    """The storage for a URL such as `sqlite+aiosqlite:///app.db` or `memory://`, or the given object itself.

    Raises:
        ConfigurationError: the scheme is unknown, or the object is no storage.
        MissingExtra: the driver's packages are not installed.
    """
    if not isinstance(given, str):
        _check_object(given, "storage", ("transaction", "lease", "ready", "runnable"))
        return given
    scheme = given.partition(":")[0]
    driver = _driver(_STORAGES, scheme, given, "storage")
    make = _load(driver, scheme)
    if scheme != "memory":
        return cast(Storage, make(given))
    if given.partition(":")[2].strip("/"):
        raise ConfigurationError(
            f"storage={given!r}: memory:// takes no host, path or settings, it lives in the process. Write 'memory://'."
        )
    return cast(Storage, make())


def broker_from(given: str | Broker) -> Broker:
    """The broker for a URL such as `sql://` or `memory://`, or the given object itself. A query sets keyword arguments.

    Raises:
        ConfigurationError: the scheme is unknown, a setting cannot be used, or the object is no broker.
        MissingExtra: the driver's packages are not installed.
    """
    if not isinstance(given, str):
        _check_object(given, "broker", ("publish", "read", "declare", "guarantees"))
        return given
    scheme = given.partition(":")[0]
    driver = _driver(_BROKERS, scheme, given, "broker")
    make = _load(driver, scheme)
    # A driver with a server of its own knows what its URL may say.
    from_url = cast("Callable[[str], Broker] | None", getattr(make, "from_url", None))
    if from_url is not None:
        return from_url(given)
    url = read_url(given)
    if url.login is not None or url.hosts or url.path.strip("/"):
        raise ConfigurationError(
            f"broker={str(url)!r}: {scheme}:// takes no host or path, it lives "
            f"{'in the process' if scheme == 'memory' else 'in the database of the storage'}. Write {scheme + '://'!r}."
        )
    settings = {name: _number(url, name, value) for name, value in url.settings.items()}
    try:
        return cast(Broker, make(**settings))
    except TypeError as error:
        raise ConfigurationError(
            f"broker={hidden(given)!r}: {driver.name} has no such setting ({error})."
        ) from error


def _driver(known: Mapping[str, _Driver], scheme: str, given: str, what: str) -> _Driver:
    if scheme in known:
        return known[scheme]
    near = _HINTS.get(scheme) or next(iter(difflib.get_close_matches(scheme, known, n=1)), None)
    hint = f" Did you mean {near + '://'!r}?" if near else ""
    raise ConfigurationError(
        f"{what}={hidden(given)!r}: no {what} has the scheme {scheme!r}. There are "
        f"{', '.join(repr(s + '://') for s in known)}.{hint}"
    )


def _load(driver: _Driver, scheme: str) -> type:
    try:
        # One module may speak several databases: it imports their packages only when it opens one.
        for package in driver.needs:
            importlib.import_module(package)
        return cast(type, getattr(importlib.import_module(driver.module), driver.name))
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in driver.needs:
            raise
        raise MissingExtra.of(f"{scheme}://", driver.extra, missing) from error


def _number(url: ServerUrl, name: str, value: str) -> int | float:
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        raise ConfigurationError(
            f"broker={str(url)!r}: {name}={value!r} is not a number."
        ) from None


def _check_object(given: object, what: str, needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if not hasattr(given, name)]
    if missing:
        raise ConfigurationError(
            f"{what}={given!r} is neither a URL nor a {what}: it lacks {', '.join(missing)}. Pass a URL as a string, or an "
            f"object of a driver such as SqlStorage or MemoryBroker."
        )
