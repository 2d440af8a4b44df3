"""One transaction in memory: what it did is staged, and applied in one step at the commit."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

from msgspec.structs import replace

from headrace.broker import partition_of
from headrace.drivers.memory.database import InboxKey, MemoryDatabase, Session
from headrace.envelope import Message
from headrace.errors import LeaseLost, UnitOfWorkClosed, UnitOfWorkError
from headrace.storage import Failure, Lease, State, Stored, Verdict, outbox_queue


@dataclass(frozen=True, slots=True)
class _Parked:
    row: Stored
    delay_seconds: float


@dataclass(slots=True)
class Staged:
    """What a transaction will write; a savepoint keeps a copy."""

    inbox: tuple[InboxKey, ...] = ()
    leases: tuple[Lease, ...] = ()
    resumed: tuple[int, ...] = ()
    parked: tuple[_Parked, ...] = ()
    positions: tuple[tuple[Lease, str], ...] = ()
    outbox: tuple[Message, ...] = ()
    deferred: tuple[Stored, ...] = ()


class MemoryTransaction:
    """A `Transaction` of `MemoryStorage`: nothing is visible to others before the commit, and then all is."""

    waits = False

    def __init__(self, database: MemoryDatabase, app: str, *, read_only: bool = False) -> None:
        self._database = database
        self._app = app
        self._read_only = read_only
        self._staged = Staged()
        self._session: Session | None = None
        self._savepoints: list[MemorySavepoint] = []
        self._doomed: BaseException | None = None
        self._touched = False
        self._ended: str | None = None

    @property
    def touched(self) -> bool:
        """See `Transaction.touched`."""
        return self._touched

    @property
    def doomed(self) -> BaseException | None:
        """See `Transaction.doomed`."""
        return self._doomed

    def doom(self, error: BaseException) -> None:
        """See `Transaction.doom`."""
        if self._doomed is None:
            self._doomed = error

    async def admit(
        self, lease: Lease, group: str, messages: Sequence[Message]
    ) -> Sequence[Verdict]:
        """See `Transaction.admit`."""
        self._write("admit a message")
        await self._own(lease)
        keys = [(group, m.envelope.source, m.envelope.id) for m in messages]
        for key in sorted(keys):
            await self._database.lock(("inbox", *key), self._locks())
        # The wait may have been long: another owner may have come.
        self._database.leases.check(lease)
        return [self._verdict(lease, m, key) for m, key in zip(messages, keys, strict=True)]

    def _verdict(self, lease: Lease, message: Message, key: InboxKey) -> Verdict:
        if key in self._database.inbox or key in self._staged.inbox:
            return Verdict.DUPLICATE
        self._staged.inbox += (key,)
        return Verdict.HELD if self._holds(lease, message) else Verdict.NEW

    def _holds(self, lease: Lease, message: Message) -> bool:
        staged = any(
            parked.row.queue == lease.queue
            and (parked.row.message.topic, parked.row.message.key) == (message.topic, message.key)
            for parked in self._staged.parked
        )
        parked = self._database.queue(lease.queue).holds(message)
        return message.key is not None and (staged or parked)

    async def resume(self, lease: Lease, stored: Stored) -> bool:
        """See `Transaction.resume`."""
        self._write("resume a parked message")
        await self._own(lease)
        if stored.position in self._staged.resumed or not self._database.may_run(stored):
            return False
        self._staged.resumed += (stored.position,)
        return True

    def park(
        self,
        lease: Lease,
        message: Message,
        *,
        state: State,
        delay_seconds: float = 0.0,
        attempts: int = 0,
        failure: Failure | None = None,
    ) -> None:
        """See `Transaction.park`."""
        self._write("park a message")
        row = Stored(
            0,
            lease.queue,
            lease.partition,
            message,
            state=state,
            attempts=attempts,
            failure=failure,
        )
        self._staged.leases += (lease,)
        self._staged.parked += (_Parked(row, delay_seconds),)

    def advance(self, lease: Lease, position: str) -> None:
        """See `Transaction.advance`."""
        self._write("move a position")
        self._staged.leases += (lease,)
        self._staged.positions += ((lease, position),)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """See `Transaction.enqueue`."""
        if messages:
            self._write("enqueue a message")
            self._staged.outbox += tuple(messages)

    def defer(self, queue: str, messages: Sequence[tuple[int, Message]]) -> None:
        """See `Transaction.defer`."""
        if messages:
            self._write("defer a message")
            self._staged.deferred += tuple(Stored(0, queue, p, m) for p, m in messages)

    async def end_part(self) -> None:
        """See `Transaction.end_part`. There is no session to close."""
        self._open("end a part")

    async def savepoint(self) -> MemorySavepoint:
        """See `Transaction.savepoint`."""
        self._open("begin a savepoint")
        self._touched = True
        point = MemorySavepoint(self, copy(self._staged))
        self._savepoints.append(point)
        return point

    def release_savepoint(self, point: MemorySavepoint) -> None:
        """Keep what was done since the savepoint."""
        self._open("release a savepoint")
        self._end_savepoint(point)

    def undo_savepoint(self, point: MemorySavepoint, before: Staged) -> None:
        """Undo what was done since the savepoint."""
        # No savepoint begins in a doomed transaction, so the doom arose inside this one.
        self._doomed = None
        self._open("roll back a savepoint")
        self._end_savepoint(point)
        self._staged = before

    def _end_savepoint(self, point: MemorySavepoint) -> None:
        if point not in self._savepoints:
            raise UnitOfWorkError(
                "a savepoint was to end after it, or one around it, had ended: end each once, the inner first"
            )
        del self._savepoints[self._savepoints.index(point) :]

    async def commit(self) -> None:
        """See `Transaction.commit`."""
        self._open("commit", end_if_doomed=True)
        try:
            for lease in self._staged.leases:
                self._database.leases.check(lease)
        except LeaseLost:
            self._end("rolled back")
            raise
        self._apply()
        self._end("committed")

    async def rollback(self) -> None:
        """See `Transaction.rollback`."""
        self._end("rolled back")

    def _apply(self) -> None:
        staged, database = self._staged, self._database
        now = database.clock()
        for key in staged.inbox:
            database.inbox[key] = now
        for position in staged.resumed:
            database.remove(position)
        for lease, position_text in staged.positions:
            database.leases.advance(lease, position_text)
        database.insert(
            replace(p.row, due_at=now + p.delay_seconds if p.row.state is State.WAITING else None)
            for p in staged.parked
        )
        if staged.outbox:
            name, count = outbox_queue(self._app), database.outboxes[self._app]
            database.insert(Stored(0, name, partition_of(m, count), m) for m in staged.outbox)
        database.insert(staged.deferred)

    async def _own(self, lease: Lease) -> None:
        self._database.leases.check(lease)
        await self._database.lock(("lease", lease.queue, lease.partition), self._locks())
        self._database.leases.check(lease)
        self._staged.leases += (lease,)

    def _locks(self) -> Session:
        if self._session is None:
            self._session = Session()
        return self._session

    def _write(self, what: str) -> None:
        self._open(what)
        if self._read_only:
            raise UnitOfWorkError(
                f"a read-only transaction of app {self._app!r} was to {what}: queries change nothing;"
                " do this in a command's handler"
            )
        self._touched = True

    def _open(self, what: str, *, end_if_doomed: bool = False) -> None:
        if self._ended is not None:
            raise UnitOfWorkClosed(
                f"a transaction of app {self._app!r} was to {what} after it was {self._ended}:"
                " what outlives its unit of work must send a request of its own"
            )
        if self._doomed is not None:
            if end_if_doomed:
                self._end("rolled back")
            raise self._doomed

    def _end(self, how: str) -> None:
        if self._ended is None:
            self._ended = how
            self._staged = Staged()
            if self._session is not None:
                self._database.unlock(self._session)


class MemorySavepoint:
    """A `Savepoint` of `MemoryTransaction`. Locks taken since it began stay until the transaction ends."""

    def __init__(self, transaction: MemoryTransaction, before: Staged) -> None:
        self._transaction = transaction
        self._before = before

    async def release(self) -> None:
        """See `Savepoint.release`."""
        self._transaction.release_savepoint(self)

    async def rollback(self) -> None:
        """See `Savepoint.rollback`."""
        self._transaction.undo_savepoint(self, self._before)
