"""The session and the connection that a unit of work offers to handlers. They work in its transaction and cannot end it.

Both take the database's connection at their first statement. What would end the transaction raises `UnitOfWorkError` with
what to write instead; `begin_nested` is theirs to use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
)

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util.concurrency import await_, greenlet_spawn

from headrace.errors import UnitOfWorkError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import async_sessionmaker
    from sqlalchemy.orm import SessionTransaction

P = ParamSpec("P")
T = TypeVar("T")


class Owner(Protocol):
    """The unit of work behind a session or connection."""

    async def connect(self) -> Connection:
        """The connection, taken now if it was not; raises the doom, or `UnitOfWorkClosed`."""
        ...

    @property
    def taken(self) -> Connection | None:
        """The connection, if one was taken."""
        ...

    def check(self) -> None:
        """Raise the doom, or `UnitOfWorkClosed` after the end."""
        ...

    def flush_failed(self, error: BaseException) -> None:
        """A flush outside any savepoint failed, which makes the session roll back everything."""
        ...

    def flushing(self, running: bool) -> None:
        """A flush begins or ends: a ROLLBACK meanwhile is the session's own."""
        ...


def refuse(call: str) -> NoReturn:
    """Say what to write instead of ending the unit's transaction by hand."""
    raise UnitOfWorkError(
        f"{call} inside a unit of work: the transaction belongs to the unit, which commits when the handler has returned"
        " and rolls back when it raised. Leave the call out; for a part that may fail alone write"
        " `async with session.begin_nested():` (or `connection.begin_nested()`)"
    )


class UnitSession(Session):
    """The synchronous session inside; here, because `run_sync` hands it to the user too."""

    def __init__(self, *, owner: Owner, **options: Any) -> None:
        super().__init__(**options, expire_on_commit=False, join_transaction_mode="rollback_only")
        self._owner = owner

    def get_bind(self, *args: object, **options: object) -> Connection:
        """The unit's connection, for whatever is asked."""
        return _connected(self._owner)

    def begin(self, nested: bool = False) -> SessionTransaction:
        """Only savepoints begin here."""
        if not nested:
            refuse("session.begin()")
        return super().begin(nested=True)

    def commit(self) -> None:
        """Refused."""
        refuse("session.commit()")

    def rollback(self) -> None:
        """Refused."""
        refuse("session.rollback()")

    def close(self) -> None:
        """Refused."""
        refuse("session.close() (or leaving `async with session:`)")

    def reset(self) -> None:
        """Refused."""
        refuse("session.reset()")

    def invalidate(self) -> None:
        """Refused."""
        refuse("session.invalidate()")

    def flush(self, objects: Sequence[object] | None = None) -> None:
        """Flush; a failure outside a savepoint dooms the unit, for the session rolls all back."""
        nested = self.in_nested_transaction()
        self._owner.flushing(True)
        try:
            super().flush(objects)
        except BaseException as error:
            if not nested:
                self._owner.flush_failed(error)
            raise
        finally:
            self._owner.flushing(False)

    def add(self, instance: object, *, _warn: bool = True) -> None:
        """Add, unless the unit has ended: then nothing would ever be written."""
        self._owner.check()
        super().add(instance, _warn=_warn)

    def expunge_all(self) -> None:
        """Remove all objects; at once if there is none, as in a session that only executed statements."""
        if not_empty(self):
            super().expunge_all()

    def finish(self) -> None:
        """End the session after its transaction has ended: objects stay loaded and are detached."""
        super().close()


def not_empty(session: Session) -> bool:
    """True if the session has an object: a new, a loaded, a changed or a deleted one."""
    return next(iter(session), None) is not None


def _connected(owner: Owner) -> Connection:
    """The connection inside a greenlet; a switch to the loop only if it has to be taken first."""
    taken = owner.taken
    if taken is None:
        return await_(owner.connect())
    owner.check()
    return taken


@dataclass(frozen=True, slots=True)
class Sessions:
    """How a user's session factory makes sessions.

    Args:
        kind: the class.
        options: of the factory, without what a unit decides: the connection, and that objects stay usable after the commit.
    """

    kind: type[AsyncSession] = AsyncSession
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @staticmethod
    def of(factory: async_sessionmaker[AsyncSession]) -> Sessions:
        """Those of a factory."""
        options = {name: value for name, value in factory.kw.items() if name not in _UNITS_OWN}
        return Sessions(factory.class_, options)


_UNITS_OWN: Final = frozenset(
    {"bind", "binds", "sync_session_class", "expire_on_commit", "join_transaction_mode"}
)


def make_session(owner: Owner, sessions: Sessions) -> AsyncSession:
    """The `AsyncSession` of a unit."""
    return sessions.kind(sync_session_class=UnitSession, owner=owner, **sessions.options)


_ENDS: Final = frozenset(
    {"begin", "commit", "rollback", "close", "invalidate", "detach", "begin_twophase"}
)
_BEFORE_USE: Final = {
    "in_transaction": False,
    "in_nested_transaction": False,
    "get_transaction": None,
    "get_nested_transaction": None,
}


class UnitConnection(AsyncConnection):
    """The `AsyncConnection` of a unit: SQLAlchemy's own methods, on a connection that is taken at the first statement."""

    __slots__ = ("_late", "_owner")

    def __init__(self, engine: AsyncEngine, owner: Owner) -> None:
        self._owner = owner
        self._late = _LateConnection(owner, engine)
        super().__init__(engine)

    @property
    def _proxied(self) -> Connection:
        return cast("Connection", self._late)

    async def start(self, is_ctxmanager: bool = False) -> AsyncConnection:
        """Does nothing: the first statement starts it."""
        return self

    async def execution_options(self, **opt: object) -> AsyncConnection:
        """Set options on the unit's connection."""
        (await self._owner.connect()).execution_options(**opt)
        return self

    async def run_sync(
        self, fn: Callable[Concatenate[Connection, P], T], *arg: P.args, **kw: P.kwargs
    ) -> T:
        """Run a synchronous function with SQLAlchemy's connection."""
        connection = await self._owner.connect()
        return await greenlet_spawn(lambda: fn(connection, *arg, **kw))


class _LateConnection:
    """Stands for the synchronous connection and finds the real one at each call, inside the greenlet of the call."""

    closed = False
    invalidated = False

    def __init__(self, owner: Owner, engine: AsyncEngine) -> None:
        self._owner = owner
        self.dialect = engine.dialect
        self.default_isolation_level = engine.dialect.default_isolation_level

    @property
    def info(self) -> dict[object, object]:
        """What SQLAlchemy keeps with the connection; empty before the first statement."""
        taken = self._owner.taken
        return {} if taken is None else cast("dict[object, object]", taken.info)

    @property
    def connection(self) -> object:
        """The pool's connection."""
        return _connected(self._owner).connection

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name in _ENDS:
            return lambda *_, **__: refuse(f"connection.{name}()")
        if name in _BEFORE_USE:
            taken = self._owner.taken
            if taken is None:
                return lambda: _BEFORE_USE[name]
            return cast("Callable[..., object]", getattr(taken, name))

        def call(*args: object, **options: object) -> object:
            connection = _connected(self._owner)
            return cast("Callable[..., object]", getattr(connection, name))(*args, **options)

        return call
