"""Storages and brokers by URL: unknown schemes, missing extras and settings that would be dropped are errors."""

import subprocess
import sys
from typing import Any

import pytest

from headrace.assembly.urls import broker_from, storage_from
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.errors import ConfigurationError, MissingExtra


def test_urls_make_drivers() -> None:
    """Section 2: memory:// and sql:// name brokers, memory:// and a SQLAlchemy URL name storages."""
    from headrace.drivers.sql import SqlBroker, SqlStorage

    assert isinstance(storage_from("memory://"), MemoryStorage)
    assert isinstance(storage_from("sqlite+aiosqlite:///app.db"), SqlStorage)
    assert isinstance(broker_from("memory://"), MemoryBroker)
    assert isinstance(broker_from("sql://"), SqlBroker)


def test_objects_are_taken_as_they_are() -> None:
    """Section 2: an object of a driver is used itself."""
    storage, broker = MemoryStorage(), MemoryBroker()
    assert storage_from(storage) is storage
    assert broker_from(broker) is broker


@pytest.mark.parametrize(
    ("make", "url", "match"),
    [
        (storage_from, "sqlite:///app.db", r"Did you mean 'sqlite\+aiosqlite://'"),
        (storage_from, "oracle+oracledb://u:secret@h/db", r"\*\*\*@h/db.*no storage has"),
        (storage_from, "memory://somewhere", "takes no host"),
        (storage_from, "memory://?size=3", "takes no host"),
        (broker_from, "kafak://host:9092", "no broker has the scheme 'kafak'"),
        (storage_from, "mysql://u:secret@h/db", r"Did you mean 'mysql\+asyncmy://'"),
        (broker_from, "rabbitmq://u:secret@h", "Did you mean 'amqp://'"),
        (broker_from, "memroy://", "Did you mean 'memory://'"),
        (broker_from, "sql://host", "takes no host"),
        (broker_from, "memory:///path", "takes no host"),
        (broker_from, "memory://?wrong=1", "has no such setting"),
        (broker_from, "memory://?max_messages=many", "is not a number"),
        (broker_from, "memory://?max_messages=", "is not a number"),
        (broker_from, "memory://?max_messages", "is not a number"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(make: Any, url: str, match: str) -> None:
    """G13: a URL that cannot be used as it is is refused with the value and the remedy; no part of it is dropped."""
    with pytest.raises(ConfigurationError, match=match) as raised:
        make(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("make", [storage_from, broker_from])
def test_an_object_of_another_kind_is_refused(make: Any) -> None:
    """G13: an object that lacks the methods of the protocol is refused with their names."""
    with pytest.raises(ConfigurationError, match="it lacks"):
        make(42)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 2: when a driver's package is not installed, the error names the extra to install."""
    for name in [n for n in sys.modules if n.startswith("headrace.drivers.sql")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiosqlite", None)
    with pytest.raises(MissingExtra, match=r"pip install 'headrace\[sqlite\]'"):
        storage_from("sqlite+aiosqlite:///app.db")


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("sqlite+aiosqlite:///app.db", "aiosqlite", "sqlite"),
        ("postgresql+asyncpg://h/db", "asyncpg", "postgresql"),
        ("postgresql+psycopg://h/db", "psycopg", "psycopg"),
        ("mysql+asyncmy://h/db", "asyncmy", "mysql"),
    ],
)
def test_a_storage_made_by_hand_names_the_extra_of_its_driver(
    monkeypatch: pytest.MonkeyPatch, url: str, package: str, extra: str
) -> None:
    """Section 2: SqlStorage(url) says so when it is made, not when the app starts."""
    from headrace.drivers.sql import SqlStorage

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"'{package}'.*pip install 'headrace\[{extra}\]'"):
        SqlStorage(url)


def test_a_storage_url_that_cannot_be_read_is_told_without_its_password() -> None:
    """G13: the value is told, and nothing of it that is secret."""
    from headrace.drivers.sql import SqlStorage

    with pytest.raises(ConfigurationError, match=r"\*\*\*@h/db") as raised:
        SqlStorage("postgres://u:secret@h/db")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("driver", "package", "extra"),
    [
        ("sql", "sqlalchemy", "sqlite"),
        ("kafka", "confluent_kafka", "kafka"),
        ("rabbitmq", "aiormq", "rabbitmq"),
        ("nats", "nats", "nats"),
        ("redis", "redis", "redis"),
    ],
)
def test_a_driver_that_is_imported_names_its_extra(driver: str, package: str, extra: str) -> None:
    """Section 2: `from headrace.drivers.sql import SqlStorage` says what to install."""
    program = f"import sys; sys.modules[{package!r}] = None; import headrace.drivers.{driver}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"headrace.errors.MissingExtra: [HR005] headrace.drivers.{driver} needs")
    assert last.endswith(f"pip install 'headrace[{extra}]'")
