"""`SqlStorage`: a `Storage` on a database that SQLAlchemy reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, cast

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

from headrace.drivers.listeners import Listeners
from headrace.drivers.sql import inbox, setup
from headrace.drivers.sql.backends import dialect_of
from headrace.drivers.sql.database import Database
from headrace.drivers.sql.inspection import SqlInspection
from headrace.drivers.sql.leases import LeaseTable
from headrace.drivers.sql.notices import Notices
from headrace.drivers.sql.queues import Queues
from headrace.drivers.sql.session import Sessions
from headrace.drivers.sql.steps import Step
from headrace.drivers.sql.transaction import Place, SqlTransaction
from headrace.errors import (
    CommitOutcomeUnknown,
    ConfigurationError,
    LeaseLost,
    StorageBusy,
    StorageUnavailable,
)
from headrace.storage import (
    Backlog,
    Failure,
    Lease,
    LeaseGrant,
    Owner,
    State,
    Stored,
    Transaction,
)
from headrace.urls import hidden

if TYPE_CHECKING:
    from sqlalchemy import MetaData


class SqlStorage(SqlInspection):
    """Keeps outbox, inbox, leases and parked messages in tables beside the app's own, in the same transactions.

    Handlers and request-scoped dependencies may ask for `AsyncSession` and `AsyncConnection`: they work in the running
    unit of work, which commits them with its events or not at all (G4). An `AsyncEngine` given here stays yours: it is
    not disposed of, and its settings are not changed. For an engine made from a URL, Headrace opens the connections
    itself: one hop to the thread for a statement, WAL, foreign keys on.

    SQLite has one writer. Units of work take their turn in this process, first come, first served, and wait for other
    processes; after `busy_seconds` comes `StorageBusy`. Keep slow awaits out of units of work.

    Args:
        url_or_engine: such as "sqlite+aiosqlite:///app.db", an `AsyncEngine`, or an `async_sessionmaker` of one, whose
            class and options the sessions of units then have.
        metadata: tables of yours to create at the start too, for development; default None, for there migrations do it.
        busy_seconds: how long a writer waits for its turn, and again for another process; default 10, longer than any
            unit should take and shorter than a person waits.
        synchronous: PRAGMA synchronous of connections that Headrace opens on SQLite; default "FULL", with which a commit
            that was answered survives a power failure. "NORMAL" is faster and may lose the last commits then; `start`
            warns.
        connections: how many connections the engine made from a URL has at most; default 10. On a server two of them are
            left to Headrace's own short work, so that slow units do not let leases run out; on SQLite one is the writer's
            and the others are for queries at once.
        isolation: the isolation level of users' units on a database that has several: "READ COMMITTED",
            "REPEATABLE READ" or "SERIALIZABLE"; default None, the engine's or the server's own. Transactions of
            Headrace's own are READ COMMITTED in any case.
        create: make or upgrade the tables at the start; default True, for development. False where the app may not: the
            start compares their version and raises, and `create_schema` is a step of the deployment.

    Raises:
        ConfigurationError: the URL cannot be read, names a database that is not supported, or SQLite in memory.
        MissingExtra: the database's driver is not installed.
    """

    _records = True

    def __init__(
        self,
        url_or_engine: str | URL | AsyncEngine | async_sessionmaker[AsyncSession],
        *,
        metadata: MetaData | None = None,
        busy_seconds: float = 10.0,
        synchronous: Literal["FULL", "EXTRA", "NORMAL", "OFF"] = "FULL",
        connections: int = 10,
        isolation: str | None = None,
        create: bool = True,
    ) -> None:
        if busy_seconds <= 0 or connections < 2:
            raise ConfigurationError(
                f"SqlStorage(busy_seconds={busy_seconds}, connections={connections}): give a positive time, and 2"
                " connections or more (a writer and a reader)"
            )
        self._sessions = Sessions()
        given = url_or_engine
        if isinstance(given, async_sessionmaker):
            self._sessions = Sessions.of(given)
            given = _engine_of(given)
        self._url = _url(given)
        self._engine = given if isinstance(given, AsyncEngine) else None
        self._dialect = dialect_of(
            self._url.get_backend_name(),
            self._url.get_driver_name(),
            busy_seconds=busy_seconds,
            synchronous=synchronous,
            isolation=isolation,
        )
        self._dialect.check_url(self._url)
        self._metadata = metadata
        self._create = create
        self._busy_seconds = busy_seconds
        self._connections = connections
        self._running: _Running | None = None
        self.listeners: Listeners[str] = Listeners()
        """Of this process, by queue and topic, shared by every broker that lives here."""

    @property
    def metadata(self) -> MetaData | None:
        """The tables that were given to be created at the start too; a test's storage is made with the same."""
        return self._metadata

    @property
    def durable(self) -> bool:
        """True: a database outlives the process."""
        return True

    @property
    def provides(self) -> Mapping[type, Callable[[Transaction], object]]:
        """`AsyncSession` and `AsyncConnection` of the running unit of work."""
        return _PROVIDES

    def transient(self, error: BaseException) -> bool:
        """See `Storage.transient`."""
        ours = StorageUnavailable | StorageBusy | LeaseLost | CommitOutcomeUnknown
        if isinstance(error, ours):
            return True
        if isinstance(error, OSError):
            # A lost database is translated where it is noticed. A bare one is of what a handler uses besides: a mail server,
            # a file, its own time limit.
            return False
        running = self._running
        return running.database.transient(error) if running else self._dialect.transient(error)

    async def start(self, app: str, *, partitions: int) -> Sequence[str]:
        """See `Storage.start`.

        Raises:
            ConfigurationError: it runs already, for another app or on another event loop; or `partitions` is below 1.
        """
        if partitions < 1:
            raise ConfigurationError(
                f"app {app!r} asks for {partitions} partitions: give 1 or more"
            )
        if self._running is not None:
            raise ConfigurationError(
                f"this SqlStorage runs already, for app {self._running.place.app!r}: give each app a SqlStorage of its own"
                " on the same URL, or stop it first"
            )
        database = self._open(app)
        try:
            await database.learn()
            if self._create:
                await setup.create_schema(database, self._metadata)
            else:
                await setup.check_schema(database)
            await setup.fix_partitions(database, app, partitions, record=self._records)
            warnings = await setup.warnings(database)
        except BaseException as error:
            await database.close()
            raise database.fault(error) from error
        self._running = _Running(Place(database, app, partitions, self._sessions), self.listeners)
        return warnings

    async def stop(self) -> None:
        """See `Storage.stop`."""
        running, self._running = self._running, None
        if running is not None:
            await running.notices.close()
            await running.database.close()

    async def create_schema(self) -> None:
        """Create Headrace's tables (and those of `metadata`) that do not exist, and upgrade older ones: a step of a deployment.

        Raises:
            SchemaVersionError: the tables are of a newer version.
            StorageUnavailable: the database cannot be reached.
        """
        database = self._open()
        try:
            await database.learn()
            await setup.create_schema(database, self._metadata)
        except Exception as error:
            raise database.fault(error) from error
        finally:
            await database.close()

    @property
    def notices(self) -> Notices:
        """What processes tell each other.

        Raises:
            StorageUnavailable: the storage is not started.
        """
        return self._run().notices

    @property
    def database(self) -> Database:
        """The engine in use: for Headrace's own drivers that live in the same database.

        Raises:
            StorageUnavailable: the storage is not started.
        """
        return self._run().database

    def transaction(self, *, read_only: bool = False) -> SqlTransaction:
        """See `Storage.transaction`."""
        return SqlTransaction(self._run().place, read_only=read_only)

    async def lease(self, queue: str, owner: str, *, partitions: int, seconds: float) -> LeaseGrant:
        """See `Storage.lease`."""
        return await self._run().leases.lease(queue, owner, partitions=partitions, seconds=seconds)

    async def release(
        self, queue: str, owner: str, leases: Sequence[Lease], *, leaving: bool = False
    ) -> None:
        """See `Storage.release`."""
        await self._run().leases.release(queue, owner, leases, leaving=leaving)

    async def owners(self, queue: str) -> Mapping[int, Owner | None]:
        """See `Storage.owners`."""
        return await self._run().leases.owners(queue)

    async def ready(
        self,
        queue: str,
        partitions: Sequence[int],
        *,
        limit: int,
        paused_topics: Sequence[str] = (),
    ) -> Sequence[Stored]:
        """See `Storage.ready`."""
        return await self._run().queues.ready(
            queue, partitions, limit=limit, paused_topics=paused_topics
        )

    async def runnable(
        self, queue: str, partitions: Sequence[int], *, limit: int
    ) -> Sequence[Stored]:
        """See `Storage.runnable`."""
        return await self._run().queues.runnable(queue, partitions, limit=limit)

    async def due_in(self, queue: str, partitions: Sequence[int]) -> float | None:
        """See `Storage.due_in`."""
        return await self._run().queues.due_in(queue, partitions)

    async def delete(self, positions: Sequence[int]) -> None:
        """See `Storage.delete`."""
        await self._run().queues.delete(positions)

    async def attempt(self, lease: Lease, stored: Stored) -> bool:
        """See `Storage.attempt`."""
        return await self._run().queues.attempt(lease, stored)

    async def repark(
        self,
        lease: Lease,
        stored: Stored,
        *,
        state: State,
        delay_seconds: float = 0.0,
        failure: Failure | None = None,
        attempts: int | None = None,
    ) -> None:
        """See `Storage.repark`."""
        await self._run().queues.repark(
            lease,
            stored,
            state=state,
            delay_seconds=delay_seconds,
            failure=failure,
            attempts=attempts,
        )

    async def backlog(self, queue: str) -> Backlog:
        """See `Storage.backlog`."""
        return await self._run().queues.backlog(queue)

    async def positions(self, queue: str) -> Mapping[int, str]:
        """See `Storage.positions`."""
        return await self._run().leases.positions(queue)

    async def learn_types(self, group: str, types: Sequence[str]) -> frozenset[str]:
        """See `Storage.learn_types`."""
        known = Step(inbox.known, {"i_group": group})
        if types:
            rows = [{"i_group": group, "i_type": one} for one in sorted(set(types))]
            found = await self.database.write(Step(self._run().learn, rows), known)
        else:
            found = await self.database.read(known)
        return frozenset(cast("str", row[0]) for row in found[-1].rows)

    async def forget(self, *, inbox_older_than_seconds: float, limit: int = 1000) -> int:
        """See `Storage.forget`."""
        await self.forget_pulses()
        values = {"age_ms": round(inbox_older_than_seconds * 1000), "most": limit}
        if self.database.statements.reads_before_deleting:
            (old,) = await self.database.read(Step(inbox.old, values))
            rows = [{"r_number": row[0]} for row in old.rows]
            gone = await self.database.write(Step(inbox.delete_one, rows)) if rows else ()
            return sum(outcome.count for outcome in gone)
        (found,) = await self.database.write(Step(inbox.forget, values))
        return found.count

    def listen(self, queue: str, wake: Callable[[], None]) -> Callable[[], None]:
        """See `Storage.listen`. On PostgreSQL by LISTEN, on a connection of its own; elsewhere only within this process."""
        self._run().notices.hear()
        return self.listeners.add(queue, wake)

    def hint(self, queue: str) -> None:
        """See `Storage.hint`. On PostgreSQL by NOTIFY, at most every 20 ms for a queue; elsewhere nobody is told."""
        if self._running is not None:
            self._running.notices.tell(queue)

    def _open(self, app: str | None = None) -> Database:
        engine = self._engine
        owned = engine is None
        if engine is None:
            engine = self._dialect.create_engine(self._url, connections=self._connections, app=app)
        return Database(engine, self._dialect, owned=owned, busy_seconds=self._busy_seconds)

    def _run(self) -> _Running:
        if self._running is None:
            raise StorageUnavailable(
                f"the storage {self._url.render_as_string()} is not started, or was stopped: await"
                " start(app, partitions=...) first; an app does it when it starts"
            )
        return self._running


class _Running:
    """What exists between start and stop."""

    def __init__(self, place: Place, listeners: Listeners[str]) -> None:
        self.place = place
        self.notices = Notices(place.database, listeners)
        self.database = place.database
        self.leases = LeaseTable(place.database)
        self.queues = Queues(place.database)
        self.learn = inbox.learn(place.database.dialect)


def _session_of(transaction: Transaction) -> AsyncSession:
    return cast("SqlTransaction", transaction).session


def _connection_of(transaction: Transaction) -> AsyncConnection:
    return cast("SqlTransaction", transaction).connection


_PROVIDES: Final = MappingProxyType[type, Callable[[Transaction], object]](
    {AsyncSession: _session_of, AsyncConnection: _connection_of}
)


def _engine_of(factory: async_sessionmaker[AsyncSession]) -> AsyncEngine:
    bind: object = factory.kw.get("bind")
    if not isinstance(bind, AsyncEngine):
        raise ConfigurationError(
            f"the session factory is bound to {bind!r}: Headrace needs the engine, so give it as async_sessionmaker(engine)"
        )
    return bind


def _url(given: str | URL | AsyncEngine) -> URL:
    if isinstance(given, AsyncEngine):
        return given.url
    try:
        url = make_url(given)
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise ConfigurationError(
            f"storage URL {hidden(str(given))!r} cannot be used ({error}): write one such as sqlite+aiosqlite:///app.db"
        ) from error
    return url
