"""What a database must say of itself so that one implementation of storage serves them all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import BigInteger
from sqlalchemy.sql.expression import FunctionElement

if TYPE_CHECKING:
    from sqlalchemy import Insert, Table
    from sqlalchemy.engine import URL, Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from headrace.drivers.sql.steps import Line
    from headrace.errors import HeadraceError


Hear = Callable[[object, str, Callable[[], None], Callable[[str], None]], Awaitable[None]]
"""See `Dialect.hear`."""


class now_ms(FunctionElement[int]):  # noqa: N801 - stands in statements as a function of SQL does
    """The database's clock at statement time: milliseconds since the epoch, in UTC.

    Each dialect's file compiles it. Every expiry is set and compared by it, so that the clocks of processes never matter.
    """

    type = BigInteger()
    inherit_cache = True


class Dialect(Protocol):
    """The differences between databases. All else is SQLAlchemy Core, which leaves out what a database does not know."""

    def check_url(self, url: URL) -> None:
        """Raise `ConfigurationError` for a URL that names something that keeps nothing."""
        ...

    @property
    def backend(self) -> str:
        """SQLAlchemy's name of the database."""
        ...

    def create_engine(self, url: URL, *, connections: int, app: str | None = None) -> AsyncEngine:
        """An engine for a URL given as text, tuned for Headrace."""
        ...

    def line(self, driver: object) -> Line | None:
        """A line for Headrace's own statements to the driver's connection, or None: then SQLAlchemy executes them."""
        ...

    @property
    def hear(self) -> Hear | None:
        """Hear notices on a channel until the connection is lost, which raises; None where there are none.

        Called with the driver's connection, the channel, what to call when it has begun to hear, and what to call with
        each notice.
        """
        ...

    @property
    def autocommit(self) -> bool:
        """True if SQLAlchemy is to leave transactions alone on the connections that a line is made for."""
        ...

    def learn(self, connection: Connection) -> None:
        """Read, when a storage starts, what the server's and the engine's settings are. Runs inside `run_sync`."""
        ...

    @property
    def isolation(self) -> str | None:
        """The isolation level of users' units, known after `learn`; None where there is but one."""
        ...

    def begin(self, *, read_only: bool, isolation: str | None) -> Sequence[str]:
        """The statements that begin a transaction.

        Args:
            read_only: it writes nothing.
            isolation: the level for a user's unit; None for a transaction of Headrace's own, READ COMMITTED where there
                is a choice.
        """
        ...

    def end(self, *, read_only: bool) -> Sequence[str]:
        """The statements to run after a transaction has ended, before the connection is used for another."""
        ...

    @property
    def one_writer(self) -> bool:
        """True if the database has one writer at a time, so that writers wait for their turn in the process."""
        ...

    @property
    def survives_cancelling(self) -> bool:
        """True if a connection can be rolled back and used again after a statement on it was cancelled."""
        ...

    @property
    def schema_lock(self) -> Sequence[str]:
        """Statements in a transaction after which no other process makes tables until it ends."""
        ...

    @property
    def schema_unlock(self) -> Sequence[str]:
        """What gives the lock back on the same connection, where the end of the transaction does not."""
        ...

    def is_open(self, connection: Connection) -> bool:
        """False if the database has no transaction open on this connection any more, as far as it is known here."""
        ...

    def insert_new(self, table: Table) -> Insert:
        """An INSERT that does nothing where a row with the same key exists, after waiting for one that is not committed."""
        ...

    def translate(self, error: BaseException) -> HeadraceError | None:
        """The error of Headrace that says what a driver's error means, or None to leave it as it is."""
        ...

    def dooms(self, error: BaseException, *, in_savepoint: bool) -> bool:
        """True if the database ended, or may have ended, the transaction in which the error arose."""
        ...

    def recoverable(self, error: BaseException) -> bool:
        """True if going back to a savepoint undoes all that came with this error."""
        ...

    def transient(self, error: BaseException) -> bool:
        """True if the error is the database's fault, so that the same work may succeed later."""
        ...

    def unknown_at_commit(self, error: BaseException) -> bool:
        """True if an error of COMMIT leaves open whether the transaction was committed."""
        ...

    def warnings(self, connection: Connection) -> Sequence[str]:
        """What is weaker than full durability with these settings, each a sentence. Runs inside `run_sync`."""
        ...
