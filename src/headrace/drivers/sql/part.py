"""`Part`: what one unit of work does in a transaction that several may share, and the session that it has for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from sqlalchemy.util.concurrency import greenlet_spawn

from headrace.drivers.sql.session import (
    Owner,
    Sessions,
    UnitConnection,
    UnitSession,
    make_session,
    not_empty,
)
from headrace.errors import UnitOfWorkClosed

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession


class _Whole(Owner, Protocol):
    @property
    def app(self) -> str: ...


class Part:
    """The session and connection that the handlers of one unit get. What outlives the unit finds them closed.

    Args:
        whole: the transaction.
        engine: the storage's.
        sessions: how sessions are made.
    """

    def __init__(self, whole: _Whole, engine: AsyncEngine, sessions: Sessions) -> None:
        self._whole = whole
        self._engine = engine
        self._sessions = sessions
        self._session: AsyncSession | None = None
        self._connection: UnitConnection | None = None
        self._closed = False

    @property
    def session(self) -> AsyncSession:
        """The session that handlers get."""
        if self._session is None:
            self.check()
            self._session = make_session(self, self._sessions)
        return self._session

    @property
    def connection(self) -> UnitConnection:
        """The connection that handlers get."""
        if self._connection is None:
            self.check()
            self._connection = UnitConnection(self._engine, self)
        return self._connection

    @property
    def used(self) -> bool:
        """True if a handler got the session or the connection."""
        return self._session is not None or self._connection is not None

    @property
    def unflushed(self) -> bool:
        """True if the session holds changes that no statement was made of."""
        if self._session is None:
            return False
        sync = self._session.sync_session
        # First whether it has objects at all: many only execute statements, and to make these three sets takes longer.
        return not_empty(sync) and bool(sync.new or sync.deleted or sync.dirty)

    async def flush(self) -> None:
        """Write what the session holds."""
        if self._session is not None and self.unflushed:
            await self._session.flush()

    async def end(self) -> None:
        """Write what the session holds and close it, while the transaction goes on."""
        await self.flush()
        taken = self.taken
        while taken is not None and (nested := taken.get_nested_transaction()) is not None:
            # Closing the session would undo what a COMMIT keeps: a nested transaction that was left open.
            await greenlet_spawn(nested.commit)
        self.close()

    def close(self) -> None:
        """Close the session; its objects stay loaded and are detached."""
        self._closed = True
        # Let go of both, which know this part: without the circle they vanish with the handler, not by a garbage collection.
        session, self._session, self._connection = self._session, None, None
        if session is not None:
            cast("UnitSession", session.sync_session).finish()

    async def connect(self) -> Connection:
        """See `Owner`."""
        self.check()
        return await self._whole.connect()

    @property
    def taken(self) -> Connection | None:
        """See `Owner`."""
        return self._whole.taken

    def check(self) -> None:
        """See `Owner`."""
        self._whole.check()
        if self._closed:
            raise UnitOfWorkClosed(
                f"a session or connection of app {self._whole.app!r} was used after the unit of work that it belonged to had"
                " ended: what outlives its unit (a task, a kept session) must send a request of its own, or open a session"
                " of its own"
            )

    def flush_failed(self, error: BaseException) -> None:
        """See `Owner`."""
        self._whole.flush_failed(error)

    def flushing(self, running: bool) -> None:
        """See `Owner`."""
        self._whole.flushing(running)
