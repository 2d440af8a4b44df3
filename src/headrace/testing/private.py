"""Storages and brokers of a test's own: nothing that it does is seen by another, and nothing stays."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headrace.assembly.urls import broker_from, storage_from
from headrace.broker import Broker
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.errors import BindingError, StorageUnavailable
from headrace.storage import Storage
from headrace.urls import hidden

if TYPE_CHECKING:
    from sqlalchemy import MetaData

Removal = Callable[[], Awaitable[None]]
"""Takes away what was made on a server."""

SERVER_SCHEMES = ("kafka", "kafkas", "amqp", "amqps", "nats", "natss", "redis", "rediss")
"""Brokers whose names are kept apart by a prefix."""


class Chosen:
    """The servers that harnesses run on if they are not told otherwise. The pytest plugin sets them from its options."""

    __slots__ = ("broker", "storage")

    def __init__(self) -> None:
        self.storage: str | None = None
        self.broker: str | None = None


chosen: Final = Chosen()
"""Of this process: options of pytest hold for all its tests, also for those in threads and on event loops of their own."""


def private_name() -> str:
    """A name that no other test has: short, of letters and digits, as every server takes it."""
    return f"hr{secrets.token_hex(5)}"


def is_sql(driver: object) -> bool:
    """Told by the names of its classes, so that apps without SQLAlchemy can be tested without it."""
    return any(kind.__module__.startswith("headrace.drivers.sql") for kind in type(driver).__mro__)


def check_replaceable(app: str, storage: Storage | None) -> None:
    """Raise unless a private storage of the same kind can be made.

    Raises:
        BindingError: it is of a kind that Headrace does not know.
    """
    if storage is not None and not isinstance(storage, MemoryStorage) and not is_sql(storage):
        raise BindingError(
            f"the app {app!r} has the storage {type(storage).__qualname__}, of which the harness cannot make a "
            f"private one: it knows SqlStorage and MemoryStorage. Make the app with one of these for the test, or run the "
            f"app itself on a storage of the test's own."
        )


async def private_storage(
    storage: Storage, url: str | None, folder: Path
) -> tuple[Storage, Removal | None]:
    """A fresh storage in the place of the app's.

    Args:
        storage: the app's.
        url: of the database to take; its server gets a database more, which is removed afterwards. None: memory for
            memory, a file of SQLite for any database.
        folder: where files may be made.
    """
    if url is None and not is_sql(storage):
        return MemoryStorage(), None
    if url is not None and url.partition(":")[0] == "memory":
        return storage_from(url), None
    return await _database(storage, url, folder)


async def _database(
    storage: Storage, url: str | None, folder: Path
) -> tuple[Storage, Removal | None]:
    from sqlalchemy.engine import make_url

    from headrace.drivers.sql import SqlStorage

    metadata: MetaData | None = storage.metadata if isinstance(storage, SqlStorage) else None
    if url is None or url.startswith("sqlite"):

        class Quick(SqlStorage):
            """Nothing in a test survives a power failure, and nobody is to be warned of that."""

            async def start(self, app: str, *, partitions: int) -> tuple[str, ...]:
                await super().start(app, partitions=partitions)
                return ()

        file = folder / "harness.db"
        return Quick(f"sqlite+aiosqlite:///{file}", metadata=metadata, synchronous="OFF"), None
    storage_from(url)  # says what is wrong with it, and which extra is missing
    name = private_name()
    private = make_url(url).set(database=name)
    made = SqlStorage(private, metadata=metadata)
    await _execute(url, f"CREATE DATABASE {name}")

    async def remove() -> None:
        force = " WITH (FORCE)" if url.startswith("postgresql") else ""
        await _execute(url, f"DROP DATABASE IF EXISTS {name}{force}")

    return made, remove


async def _execute(url: str, statement: str) -> None:
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    from headrace.drivers.sql.sqlstate import text_of

    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.exec_driver_sql(statement)
    except (OSError, SQLAlchemyError) as error:
        # Without the traceback of the driver, which would bury the reason under a test.
        raise StorageUnavailable(
            f"the harness cannot {statement!r} on {hidden(url)}: {text_of(error)}. Does the server run, does the URL name a "
            "database that is there already, and may its user make databases?"
        ) from None
    finally:
        await engine.dispose()


def private_broker(broker: Broker, url: str | None) -> tuple[Broker, str | None]:
    """A broker in the place of the app's, and the URL by which what it makes on a server can be removed.

    Args:
        broker: the app's.
        url: of the broker to take, whose names then begin with one that no other test has. None: topics in the storage
            for those that are in the storage, memory for all others.
    """
    if url is None:
        if is_sql(broker):
            from headrace.drivers.sql import SqlBroker

            return SqlBroker(), None
        return MemoryBroker(), None
    if url.partition(":")[0] not in SERVER_SCHEMES:
        return broker_from(url), None
    address, _, query = url.partition("?")
    settings = [one for one in query.split("&") if one and not one.startswith("prefix=")]
    given = next((one[7:] for one in query.split("&") if one.startswith("prefix=")), "")
    prefix = f"{given}{private_name()}-"
    private = f"{address}?{'&'.join([*settings, f'prefix={prefix}'])}"
    return broker_from(private), private
