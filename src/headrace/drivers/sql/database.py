"""The engine, its connections and the turn to write: what every part of the storage reaches the database through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.util.concurrency import greenlet_spawn

from headrace.drivers.sql.link import Link
from headrace.drivers.sql.steps import CommitFailed, Compiled, Outcome, Step
from headrace.drivers.sql.turn import Turn
from headrace.errors import HeadraceError, StorageBusy, StorageUnavailable

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine

    from headrace.drivers.sql.dialects import Dialect


class Unit(Protocol):
    """A unit of work that owns a connection and hears what happens on it."""

    def failed(self, error: BaseException, *, ended: bool) -> None:
        """A statement failed; `ended` if it was cut or the connection is lost, and the transaction with it."""
        ...

    def ending(self, what: str) -> None:
        """Somebody is about to COMMIT or ROLLBACK the connection; an error raised here prevents it."""
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
        self._compiled = Compiled(engine.dialect)
        self._turn = Turn(busy_seconds) if dialect.one_writer else None
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
        try:
            link = await self._begin(read_only)
        except BaseException as error:
            if turn is not None:
                turn.give()
            raise self.fault(error) from error
        if unit is not None:
            self._units[link.connection] = unit
        return link

    async def _begin(self, read_only: bool) -> Link:
        idle = self._idle_readers if read_only else self._idle_writers
        if idle:
            link = idle.pop()
        else:
            connection = await greenlet_spawn(self.engine.sync_engine.connect)
            link = Link(connection, self.dialect, self._compiled, read_only=read_only)
        try:
            await link.begin()
        except BaseException:
            await _to_the_end(greenlet_spawn(link.connection.close))
            raise
        return link

    async def give(self, link: Link) -> None:
        """Roll back what is not committed and give the connection back. Never raises for a connection that is gone."""
        self._units.pop(link.connection, None)
        if link.ended:
            await self._give(link)
        else:
            # A rollback that is cut would leave its locks to the garbage collector.
            await _to_the_end(self._give(link))

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

    async def read(self, *steps: Step) -> Sequence[Outcome]:
        """Run the steps, which only read, on one snapshot. Takes no turn."""
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
            return self.fault(error.__cause__)
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
        original = context.original_exception
        cut = not isinstance(original, Exception)
        translated = self.dialect.translate(original)
        unit = self._units.get(context.connection) if context.connection is not None else None
        if unit is not None:
            shown = translated or context.sqlalchemy_exception or original
            unit.failed(shown, ended=cut or context.is_disconnect)
        if cut and self.dialect.survives_cancelling:
            context.is_disconnect = False
        return translated

    def _on_commit(self, connection: Connection) -> None:
        unit = self._units.get(connection)
        if unit is not None:
            unit.ending("COMMIT")

    def _on_rollback(self, connection: Connection) -> None:
        unit = self._units.get(connection)
        if unit is not None:
            unit.ending("ROLLBACK")


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
