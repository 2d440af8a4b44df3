"""Lines to connections of servers: Headrace's own statements without SQLAlchemy's adapter in between."""

from __future__ import annotations

import asyncio
import select
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, cast

from headrace.drivers.sql.postgresql.kept import PREPARE, Kept
from headrace.drivers.sql.sqlstate import Meaning, meaning_of, sqlstate
from headrace.drivers.sql.steps import (
    END_SECONDS,
    Call,
    CommitFailed,
    InDoubt,
    NothingCommitted,
    Outcome,
    Values,
)

if TYPE_CHECKING:
    import psycopg


_PID: Final = Call("SELECT pg_backend_pid()", (), returns=True)

_NOT_KEPT: Final = "26000"
"""SQLSTATE: there is no prepared statement of this name."""


class ServerLine(ABC):
    """See `Line`. A group of statements costs a round trip each; one alone needs no BEGIN and no COMMIT.

    Args:
        alone: a statement outside a transaction is READ COMMITTED, so one may be executed so.
        kept: what is known of the connection, which outlives this line; None for one that keeps nothing ready.
    """

    def __init__(self, *, alone: bool, kept: Kept | None = None) -> None:
        self._alone = alone
        self._kept = kept
        self._first: tuple[str, ...] = ()
        self._open = False
        self._cut = False

    @property
    @abstractmethod
    def _closed(self) -> bool:
        """True if the connection is known to be lost."""

    @property
    @abstractmethod
    def _told_pid(self) -> int:
        """The number of the server's process, as it was told when the connection was made."""

    @abstractmethod
    async def _script(self, text: str) -> tuple[str, int]:
        """Run statements without parameters in one round trip: the last one's command, and its number of rows."""

    @abstractmethod
    async def _call(self, call: Call) -> Outcome:
        """Run one call."""

    @property
    def is_open(self) -> bool:
        """See `Line`."""
        return self._open

    @property
    def begun(self) -> bool:
        """See `Line`."""
        return not self._first

    @property
    def whole(self) -> bool:
        """See `Line`."""
        return not self._cut and not self._closed

    def open_with(self, statements: Sequence[str]) -> None:
        """See `Line`."""
        self._first = tuple(statements)
        self._open = True

    async def begin(self) -> None:
        """See `Line`."""
        await self._begin_with(())

    async def perform(
        self, calls: Sequence[Call], *, commit: bool, then: Sequence[str] = ()
    ) -> tuple[Sequence[Outcome], int | None]:
        """See `Line`. Of `then` only the ROLLBACK is meant: a transaction on a server leaves nothing else behind."""
        try:
            if self._first and self._alone and _alone(calls, commit=commit, reads=bool(then)):
                return await self._run_alone(calls, commit=commit), None
            last = _last(calls) if commit else 0
            found, bad = await self._run(calls[: len(calls) - last])
            if bad is None and commit:
                scripts = [self._short(call) for call in calls[len(calls) - last :]]
                await self._commit(scripts)
                found = [*found, *(Outcome((), -1) for _ in scripts)]
            return found, bad
        except BaseException as error:
            self._doubt(error)
            raise

    def _doubt(self, error: BaseException) -> None:
        """Never use the connection again after an error that ends it, though the driver may not have closed it yet."""
        cause = error.__cause__ if isinstance(error, CommitFailed) else error
        if not isinstance(cause, Exception) or meaning_of(cause) is Meaning.LOST:
            self._cut = True

    async def _run_alone(self, calls: Sequence[Call], *, commit: bool) -> Sequence[Outcome]:
        # What was not begun need not be ended, whatever happens now.
        self._first, self._open = (), False
        try:
            return [await self._call(call) for call in calls]
        except Exception as error:
            if commit:
                raise CommitFailed from error
            raise

    async def _run(self, calls: Sequence[Call]) -> tuple[Sequence[Outcome], int | None]:
        found: list[Outcome] = []
        if self._first:
            script = calls[0].script if calls else None
            count = await self._begin_with(() if script is None else (script,))
            if script is not None:
                found.append(Outcome((), count))
                if calls[0].unmet(found[0]):
                    return found, 0
        for number in range(len(found), len(calls)):
            outcome = await self._call(calls[number])
            found.append(outcome)
            if calls[number].unmet(outcome):
                return found, number
        return found, None

    async def _begin_with(self, more: Sequence[str]) -> int:
        try:
            if self._kept is not None and self._kept.wanted and self._kept.ready is None:
                await self._keep(self._kept)
            _, count = await self._script("; ".join((*self._first, *more)))
        except BaseException as error:
            self._doubt(error)
            raise
        finally:
            # Also after an error: BEGIN itself may have succeeded.
            self._first = ()
        return count

    async def _keep(self, kept: Kept) -> None:
        """Before BEGIN, so that an error ends no transaction: keep ready what was enqueued here before."""
        kept.ready = False
        try:
            # Behind a pooler the next transaction may meet another process, which keeps nothing.
            pid = (await self._call(_PID)).rows[0][0]
            if pid == self._told_pid:
                await self._script(PREPARE)
                kept.ready = True
        except Exception as error:
            self._doubt(error)
            if self._cut:
                raise

    def _short(self, call: Call) -> str:
        kept = self._kept
        if kept is None or call.kept is None:
            return call.script or ""
        kept.wanted = True
        return call.kept if kept.ready else call.script or ""

    async def _commit(self, scripts: Sequence[str]) -> None:
        try:
            command, _ = await self._script("; ".join((*scripts, "COMMIT")))
            if command != "COMMIT":
                raise NothingCommitted(f"COMMIT was answered with {command}")
        except Exception as error:
            if self._kept is not None and sqlstate(error) == _NOT_KEPT:
                # Somebody has taken it away, with DEALLOCATE or DISCARD.
                self._kept.ready = False
            raise CommitFailed from error
        self._open = False

    async def end(self, statements: Sequence[str] = ()) -> None:
        """See `Line`."""
        begun, was_open = not self._first, self._open
        self._first, self._open = (), False
        if not self.whole:
            raise InDoubt
        if was_open and begun:
            async with asyncio.timeout(END_SECONDS):
                await self._script("ROLLBACK")


class AsyncpgConnection(Protocol):
    """What is used of asyncpg's connection, which comes without types."""

    def get_server_pid(self) -> int:
        """The server's process, as it was told when the connection was made."""
        ...

    def is_closed(self) -> bool:
        """True if it was closed, by whomever."""
        ...

    async def execute(self, query: str, *args: object) -> str:
        """Without arguments a script; answers the status of the last statement."""
        ...

    async def executemany(self, command: str, args: Iterable[Sequence[object]]) -> None:
        """Execute for each."""
        ...

    async def fetch(self, query: str, *args: object) -> Sequence[Iterable[object]]:
        """Execute and fetch all rows."""
        ...

    def add_termination_listener(self, callback: Callable[[object], None]) -> None:
        """Call back when the connection is closed, by whomever."""
        ...

    async def add_listener(
        self, channel: str, callback: Callable[[object, int, str, str], None]
    ) -> None:
        """LISTEN, and call back with each notice."""
        ...


async def hear_on_asyncpg(
    connection: AsyncpgConnection,
    channel: str,
    began: Callable[[], None],
    heard: Callable[[str], None],
) -> None:
    """LISTEN on a channel until the connection is lost, which raises."""
    lost = asyncio.Event()

    def said(_connection: object, _pid: int, _channel: str, payload: str) -> None:
        heard(payload)

    connection.add_termination_listener(lambda _: lost.set())
    await connection.add_listener(channel, said)
    began()
    await lost.wait()
    raise ConnectionError("the connection that heard notices was lost")


class AsyncpgLine(ServerLine):
    """A line to an asyncpg connection.

    Args:
        connection: asyncpg's.
        alone: see `ServerLine`.
        kept: see `ServerLine`.
    """

    def __init__(
        self, connection: AsyncpgConnection, *, alone: bool, kept: Kept | None = None
    ) -> None:
        super().__init__(alone=alone, kept=kept)
        self._raw = connection

    @property
    def _closed(self) -> bool:
        return self._raw.is_closed()

    @property
    def _told_pid(self) -> int:
        return self._raw.get_server_pid()

    async def _script(self, text: str) -> tuple[str, int]:
        return _tag(await self._raw.execute(text))

    async def _call(self, call: Call) -> Outcome:
        if call.many:
            rows = cast("Iterable[Sequence[object]]", call.parameters)
            await self._raw.executemany(call.text, rows)
            # asyncpg does not tell how many rows were changed.
            return Outcome((), -1)
        parameters = cast("Sequence[object]", call.parameters)
        if call.returns:
            found = [tuple(row) for row in await self._raw.fetch(call.text, *parameters)]
            return Outcome(found, len(found))
        return Outcome((), _tag(await self._raw.execute(call.text, *parameters))[1])


class PsycopgLine(ServerLine):
    """A line to a psycopg connection in autocommit mode.

    Args:
        connection: psycopg's.
        alone: see `ServerLine`.
        kept: see `ServerLine`.
    """

    def __init__(
        self,
        connection: psycopg.AsyncConnection[tuple[object, ...]],
        *,
        alone: bool,
        kept: Kept | None = None,
    ) -> None:
        super().__init__(alone=alone, kept=kept)
        self._raw = connection

    @property
    def whole(self) -> bool:
        """See `Line`. psycopg does not watch the socket: an idle one that has something to read has been closed."""
        return super().whole and not _readable(self._raw.fileno())

    @property
    def _closed(self) -> bool:
        return self._raw.closed

    @property
    def _told_pid(self) -> int:
        return self._raw.info.backend_pid

    async def _script(self, text: str) -> tuple[str, int]:
        cursor = await self._raw.execute(text.encode())
        while cursor.nextset():
            pass
        return _tag(cursor.statusmessage or "")

    async def _call(self, call: Call) -> Outcome:
        cursor = self._raw.cursor()
        text = call.text.encode()
        if call.many:
            await cursor.executemany(text, cast("Sequence[Values]", call.parameters))
        else:
            await cursor.execute(text, cast("Values", call.parameters))
        rows = await cursor.fetchall() if call.returns and not call.many else ()
        return Outcome(rows, cursor.rowcount)


def _readable(descriptor: int) -> bool:
    """True if there is something to read, the end of the connection included; does not wait."""
    # `select` takes no descriptor from 1024 on; Windows has nothing else, and numbers them otherwise.
    if not hasattr(select, "poll"):
        return bool(select.select((descriptor,), (), (), 0)[0])
    watch = select.poll()
    watch.register(descriptor, select.POLLIN)
    return bool(watch.poll(0))


def _alone(calls: Sequence[Call], *, commit: bool, reads: bool) -> bool:
    """True if nothing is lost when each is a transaction of its own."""
    if reads:
        return True
    return commit and len(calls) == 1 and calls[0].expects is None and not calls[0].many


def _last(calls: Sequence[Call]) -> int:
    """How many calls at the end may travel with COMMIT: nobody asks what they found, and an error stops the COMMIT too."""
    count = 0
    while count < len(calls):
        call = calls[-1 - count]
        if call.script is None or call.expects is not None:
            break
        count += 1
    return count


def _tag(status: str) -> tuple[str, int]:
    """The command and number of rows of an answer such as "INSERT 0 1"."""
    command, _, number = status.rpartition(" ")
    return (command, int(number)) if number.isdigit() else (status, -1)
