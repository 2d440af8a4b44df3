"""An app opened from outside: its storage and broker are connected, nothing runs, and nothing is made."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace

from headrace.app import Headrace
from headrace.assembly import Settings
from headrace.assembly.parts import OUTBOX_PARTITIONS
from headrace.broker import Broker
from headrace.cli.ending import Code, Fault
from headrace.errors import HeadraceError, SchemaVersionError
from headrace.limits import Limits
from headrace.storage import Storage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Opened:
    """An app whose stored state can be read and repaired while its processes run elsewhere, or none runs.

    Args:
        app: a twin of the app that was loaded, not started. Its `status`, `dead_letters`, `storage`, `describe` and `codec` work.
        storage: its storage, connected.
        limits: those of the app.
        broker: its broker, connected; None if it has none, if none was asked for, or if it cannot be reached.
        broker_error: why the broker cannot be reached, for people; None if it can, or was not asked for.
    """

    app: Headrace
    storage: Storage
    limits: Limits
    broker: Broker | None = None
    broker_error: str | None = None


def with_opened(
    app: Headrace, work: Callable[[Opened], Awaitable[T]], *, broker: bool = False
) -> T:
    """Open an app, do some work with it, and close it: the whole of most commands.

    Args:
        app: as loaded.
        work: what to do with it.
        broker: connect the broker too. If it is away that is told in `Opened.broker_error`, and the work is done.

    Raises:
        Fault: there is nothing to be seen from outside; says what to do.
    """
    keep_quiet()

    async def run() -> T:
        async with opened(app, broker=broker) as found:
            return await work(found)

    return asyncio.run(run())


def keep_quiet() -> None:
    """Let libraries not write warnings between the lines of an answer, unless the app's module has set up logging.

    Python writes them to the error stream where nobody has. What matters of them the command tells itself.
    """
    logging.lastResort = logging.NullHandler()


@asynccontextmanager
async def opened(app: Headrace, *, broker: bool = False) -> AsyncGenerator[Opened]:
    """See `with_opened`."""
    storage = existing(app)
    limits: list[Limits] = []

    def change(settings: Settings) -> Settings:
        limits.append(settings.limits)
        return replace(settings, storage=storage)

    twin = app.variant(change)
    async with AsyncExitStack() as stack:
        try:
            await storage.start(app.name, partitions=OUTBOX_PARTITIONS)
        except SchemaVersionError as error:
            raise Fault(await _other_tables(app.name, storage, error), Code.FAULT) from error
        stack.push_async_callback(storage.stop)
        connected: Broker | None = None
        problem: str | None = None
        if broker and twin.broker is not None:
            try:
                await twin.broker.start(storage)
            except (HeadraceError, OSError) as error:
                problem = str(error)
            else:
                connected = twin.broker
                stack.push_async_callback(connected.stop)
        yield Opened(twin, storage, limits[0], connected, problem)


def existing(app: Headrace) -> Storage:
    """The app's storage, so that its start makes nothing: an `ExistingStorage`, if it is a database. Not started.

    Raises:
        Fault: it has none, or one that ends with its process.
    """
    storage = app.storage
    if storage is None:
        raise Fault(
            f"the app {app.name!r} has no storage, so nothing of it can be seen from another process. Pass storage=... to "
            "Headrace, or ask app.status() in the process itself.",
            Code.FAULT,
        )
    if not storage.durable:
        raise Fault(
            f"the app {app.name!r} keeps everything in memory, so nothing of it can be seen from another process. Pass "
            "storage=... with a database to Headrace, or ask app.status() in the process itself.",
            Code.FAULT,
        )
    # An app with such a storage has imported the driver, and with it SQLAlchemy.
    if "headrace.drivers.sql.storage" in sys.modules:
        from headrace.drivers.sql import SqlStorage
        from headrace.drivers.sql.existing import ExistingStorage

        if isinstance(storage, SqlStorage):
            return ExistingStorage(storage)
    return storage


async def _other_tables(name: str, storage: Storage, error: SchemaVersionError) -> str:
    """What to do about tables that are missing or of another version."""
    from headrace.drivers.sql.existing import ExistingStorage

    if not isinstance(storage, ExistingStorage):
        return f"the app {name!r}: {error}"
    found, wanted = await storage.version(), storage.wanted_version
    if found is None:
        return (
            f"the database of the app {name!r} has no tables of Headrace yet. Start a process of the app, or run "
            "`headrace migrate` for it, which makes them."
        )
    if found > wanted:
        return (
            f"the tables of Headrace in the database of the app {name!r} have version {found}, and this Headrace knows "
            f"{wanted}: it is older than the one that made them. Install that one here too."
        )
    return (
        f"the tables of Headrace in the database of the app {name!r} have version {found}, and this Headrace needs {wanted}. "
        "Run `headrace migrate` for the app, or start a process of it, which upgrades them."
    )
