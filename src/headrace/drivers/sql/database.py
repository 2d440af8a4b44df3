"""The engine, its connections and the turn to write: what every part of the storage reaches the database through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool
from sqlalchemy.util.concurrency import greenlet_spawn

from headrace.drivers.sql.link import Link
from headrace.drivers.sql.mysql.statements import MysqlStatements
from headrace.drivers.sql.postgresql.statements import PostgresStatements
from headrace.drivers.sql.sqlstate import refused, text_of
from headrace.drivers.sql.statements import Statements
from headrace.drivers.sql.steps import CommitFailed, Compiled, Outcome, Step
from headrace.drivers.sql.turn import Turn
from headrace.errors import HeadraceError, StorageBusy, StorageUnavailable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine

    from headrace.drivers.sql.dialect import Dialect


_STATEMENTS: Mapping[str, type[Statements]] = {
    "postgresql": PostgresStatements,
    "mysql": MysqlStatements,
    "mariadb": MysqlStatements,
}
"""The databases that do better than the plain statements."""


class Unit(Protocol):
    """A unit of work that owns a connection and hears what happens on it."""

    def failed(self, error: BaseException, *, ended: bool) -> None:
        """A statement failed; `ended` if it was cut or the connection is lost, and the transaction with it."""
        ...

    def ending(self, what: str) -> None:
        """Somebody is about to COMMIT or ROLLBACK the connection; an error raised here prevents it."""
        ...


class Closes(Protocol):
    """A driver's connection."""

    async def close(self) -> None:
        """Close it."""
        ...


class Database:
    """An engine in use, from the start of a storage to its stop.

    Args:
        engine: the async engine.
        dialect: the database's differences.
        owned: Headrace made the engine, and disposes of it.
        busy_seconds: how long a writer waits for its turn in this process.
    """

    def __init__(
        self, engine: AsyncEngine, dialect: Dialect, *, owned: bool, busy_seconds: float
    ) -> None:
        self.engine = engine
        self.dialect = dialect
        self._owned = owned
        self.statements = _STATEMENTS.get(dialect.backend, Statements)(dialect)
        """The statements of Headrace's own, as this database does them best."""
        self._compiled = Compiled(engine.dialect, self.statements.replaced)
        self._turn = Turn(busy_seconds) if dialect.one_writer else None
        self._busy_seconds = busy_seconds
        self._places = _places(engine) if owned and not dialect.one_writer else None
        self._units: dict[Connection, Unit] = {}
        self._idle_writers: list[Link] = []
        self._idle_readers: list[Link] = []
        self._closed = False
        for name, listener in self._listeners:
            event.listen(engine.sync_engine, name, listener, retval=name == "handle_error")

    @property
    def _listeners(self) -> Sequence[tuple[str, Callable[..., object]]]:
        return (
            ("handle_error", self._on_error),
            ("commit", self._on_commit),
            ("rollback", self._on_rollback),
        )

    async def close(self) -> None:
        """Stop listening, and close the connections of an engine that Headrace made."""
        for name, listener in self._listeners:
            event.remove(self.engine.sync_engine, name, listener)
        self._closed = True
        for link in (*self._idle_writers, *self._idle_readers):
            await greenlet_spawn(link.connection.close)
        self._idle_writers.clear()
        self._idle_readers.clear()
        if self._owned:
            await self.engine.dispose()

    async def take(self, *, read_only: bool = False, unit: Unit | None = None) -> Link:
        """A connection with a transaction begun, after the turn to write if it is to write. Give it back with `give`.

        Raises:
            StorageBusy: the turn, a lock or a connection could not be had in time.
            StorageUnavailable: the database cannot be reached.
        """
        turn = None if read_only else self._turn
        if turn is not None:
            await turn.take()
        place = self._places if unit is not None else None
        if place is not None:
            await self._wait_for(place)
        try:
            isolation = self.dialect.isolation if unit is not None else None
            link = await self._begin(read_only, isolation)
        except BaseException as error:
            if turn is not None:
                turn.give()
            if place is not None:
                place.release()
            raise self.fault(error) from error
        if unit is not None:
            self._units[link.connection] = unit
        return link

    async def _wait_for(self, place: asyncio.Semaphore) -> None:
        if not place.locked():
            await place.acquire()
            return
        try:
            async with asyncio.timeout(self._busy_seconds):
                await place.acquire()
        except TimeoutError:
            raise StorageBusy(
                f"no connection came free within {self._busy_seconds:g} seconds: more units and queries run at once than"
                " there are connections for. Raise SqlStorage(connections=...), or lower the concurrency of subscriptions"
            ) from None

    async def learn(self) -> None:
        """Let the dialect read the settings of server and engine; once, before the first transaction."""
        async with self.engine.connect() as connection:
            await connection.run_sync(self.dialect.learn)

    async def _begin(self, read_only: bool, isolation: str | None) -> Link:
        idle = self._idle_readers if read_only else self._idle_writers
        link = idle.pop() if idle else None
        if link is not None and not link.reusable:
            # The server closed it while nobody used it.
            await greenlet_spawn(link.connection.invalidate)
            await greenlet_spawn(link.connection.close)
            link = None
        if link is None:
            connection = await greenlet_spawn(self.connect)
            link = Link(connection, self.dialect, self._compiled, read_only=read_only)
        try:
            await link.begin(isolation)
        except BaseException:
            await _to_the_end(greenlet_spawn(link.connection.close))
            raise
        return link

    def connect(self) -> Connection:
        """A connection of the pool, as lines need it. Runs inside `greenlet_spawn`."""
        connection = self.engine.sync_engine.connect()
        if self.dialect.autocommit and not self._owned:
            try:
                # Of this checkout only: the pool gives the engine's own level back to the next user.
                connection.execution_options(isolation_level="AUTOCOMMIT")
            except BaseException:
                # A statement to the server on MariaDB: who is cancelled meanwhile would leave the connection to nobody.
                connection.invalidate()
                connection.close()
                raise
        return connection

    async def give(self, link: Link) -> None:
        """Roll back what is not committed and give the connection back. Never raises for a connection that is gone."""
        unit = self._units.pop(link.connection, None)
        try:
            if link.ended and self._owned:
                await self._give(link)
            else:
                # A rollback that is cut would leave its locks to the garbage collector, and a user's pool that is cut while
                # it resets a connection, as on MariaDB, never counts it as given back.
                await _to_the_end(self._give(link))
        finally:
            if unit is not None and self._places is not None:
                self._places.release()

    async def _give(self, link: Link) -> None:
        idle = self._idle_readers if link.read_only else self._idle_writers
        keep = False
        try:
            await link.end()
            # One of each kind stays taken: with one writer it is always the same, and readers are quick.
            keep = self._owned and link.reusable and not idle and not self._closed
        except Exception as error:
            # Whatever it was, the database undoes what is not committed when the connection closes.
            await greenlet_spawn(link.connection.invalidate, error)
        except BaseException:
            await greenlet_spawn(link.connection.invalidate)
            raise
        finally:
            if keep:
                idle.append(link)
            if self._turn is not None and not link.read_only:
                self._turn.give()
            if not keep:
                await greenlet_spawn(link.connection.close)

    async def close_taken(self, connection: Connection, driver: Closes) -> None:
        """Close a connection that was detached from the pool, whatever cancels the caller."""

        async def close() -> None:
            try:
                # Given up first: SQLAlchemy would roll back on it, and log an error where it is lost.
                await greenlet_spawn(connection.invalidate)
                await greenlet_spawn(connection.close)
            finally:
                # SQLAlchemy leaves the driver's connection open when it was detached.
                await driver.close()

        await _to_the_end(close())

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[Link]:
        """A short transaction of Headrace's own: `link.run(steps, commit=True)` ends it, anything else undoes it."""
        link = await self.take()
        try:
            yield link
        except Exception as error:
            raise self.fault(error) from error
        finally:
            await self.give(link)

    async def write(self, *steps: Step) -> Sequence[Outcome]:
        """Run and commit the steps in a transaction of their own."""
        async with self.writing() as link:
            return await link.run(steps, commit=True)

    async def tell(self, step: Step) -> None:
        """Run and commit a step that changes no row. Takes no turn, nor the connection of the next who writes."""
        link = await self.take(read_only=True)
        try:
            await link.run((step,), commit=True)
        except Exception as error:
            raise self.fault(error) from error
        finally:
            await self.give(link)

    async def read(self, *steps: Step) -> Sequence[Outcome]:
        """Run the steps, which only read; on one snapshot where that costs nothing. Takes no turn."""
        link = await self.take(read_only=True)
        try:
            return await link.read(steps)
        except Exception as error:
            raise self.fault(error) from error
        finally:
            await self.give(link)

    def fault(self, error: BaseException) -> BaseException:
        """What to raise for an error of a driver or of SQLAlchemy: the error of Headrace that says what it means, or itself."""
        if isinstance(error, HeadraceError):
            return error
        if isinstance(error, CommitFailed) and error.__cause__ is not None:
            # Headrace's COMMIT goes past SQLAlchemy, which would have called a deferred constraint by its own name.
            return refused(self.fault(error.__cause__))
        if isinstance(error, PoolTimeout):
            return StorageBusy(
                f"no connection came free in time ({error}): more units and queries run at once than the pool has"
                " connections. Raise SqlStorage(connections=...), or the pool_size of your engine"
            )
        if isinstance(error, OSError):
            return StorageUnavailable(f"the database cannot be reached: {error}")
        return self.dialect.translate(error) or error

    def transient(self, error: BaseException) -> bool:
        """True for what is the database's fault."""
        return isinstance(error, PoolTimeout) or self.dialect.transient(error)

    def _on_error(self, context: ExceptionContext) -> BaseException | None:
        if context.is_pre_ping:
            # The pool asks whether a connection lives, and takes another if not.
            return None
        original = context.original_exception
        cut = not isinstance(original, Exception)
        translated = self.dialect.translate(original)
        if context.connection is None and not cut and not self.dialect.one_writer:
            # There is no connection yet. Whatever it is, it is no fault of a statement, and of no message.
            translated = translated or StorageUnavailable(
                f"the database lets nobody in: {text_of(original)}. Look whether the server runs, whether user, password and"
                " database of the storage's URL are right, and whether the database was made"
            )
        unit = self._units.get(context.connection) if context.connection is not None else None
        if unit is not None:
            shown = translated or context.sqlalchemy_exception or original
            unit.failed(shown, ended=cut or context.is_disconnect)
        if cut and self.dialect.survives_cancelling:
            context.is_disconnect = False
        elif isinstance(translated, StorageUnavailable) and not self.dialect.one_writer:
            # A server tells that it ends the connection before it does, so SQLAlchemy may not see it yet.
            context.is_disconnect = True
        return translated

    def _on_commit(self, connection: Connection) -> None:
        unit = self._units.get(connection)
        if unit is not None:
            unit.ending("COMMIT")

    def _on_rollback(self, connection: Connection) -> None:
        unit = self._units.get(connection)
        if unit is not None:
            unit.ending("ROLLBACK")


def _places(engine: AsyncEngine) -> asyncio.Semaphore | None:
    """How many units may have a connection at once: two are left for signs of life and other short work of Headrace's own.

    Else handlers that are slow would let the leases run out under which they work.
    """
    pool = engine.pool
    return asyncio.Semaphore(max(1, pool.size() - 2)) if isinstance(pool, QueuePool) else None


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await to the end whatever cancels the caller, then let the cancellation go on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:
            break
    task.result()
    if cancelled is not None:
        raise cancelled
