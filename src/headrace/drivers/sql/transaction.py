"""`SqlTransaction`: the storage's half of a unit of work, on one connection taken at first use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from headrace.drivers.sql import outbox, parking
from headrace.drivers.sql.fence import lost
from headrace.drivers.sql.part import Part
from headrace.drivers.sql.rows import failure_values, message_values
from headrace.drivers.sql.savepoint import SqlSavepoint
from headrace.drivers.sql.session import Sessions, UnitConnection, refuse
from headrace.drivers.sql.statements import delay_ms, lease_values, promote
from headrace.drivers.sql.steps import CommitFailed, Outcome, Step, Unexpected, Values
from headrace.errors import CommitOutcomeUnknown, UnitOfWorkClosed, UnitOfWorkError
from headrace.storage import Failure, Lease, State, Stored, Verdict, outbox_queue

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncSession

    from headrace.drivers.sql.database import Database
    from headrace.drivers.sql.link import Link
    from headrace.envelope import Message


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transaction runs.

    Args:
        database: the engine and its turn.
        app: whose outbox is filled.
        partitions: of that outbox.
        sessions: how sessions for handlers are made.
    """

    database: Database
    app: str
    partitions: int
    sessions: Sessions


class SqlTransaction:
    """A `Transaction` of `SqlStorage`, which makes it.

    Args:
        place: where it runs.
        read_only: nothing is written, and all is rolled back.
    """

    waits = True

    def __init__(self, place: Place, *, read_only: bool) -> None:
        self._place = place
        self._database = place.database
        self._read_only = read_only
        self._link: Link | None = None
        self._part = Part(self, place.database.engine, place.sessions)
        self._staged: list[Step] = []
        self._outbox: list[Message] = []
        self._deferred: list[Values] = []
        # The leases that this transaction writes under, and those whose rows it has locked.
        self._leases: list[Lease] = []
        self._owned: set[Lease] = set()
        self._doomed: BaseException | None = None
        self._ended: str | None = None
        self._own_end = False  # True while Headrace or the session itself ends the transaction

    @property
    def touched(self) -> bool:
        """See `Transaction.touched`."""
        waiting = self._staged or self._outbox or self._deferred or self._part.unflushed
        return self._link is not None or bool(waiting)

    @property
    def doomed(self) -> BaseException | None:
        """See `Transaction.doomed`."""
        return self._doomed

    def doom(self, error: BaseException) -> None:
        """See `Transaction.doom`."""
        if self._doomed is None:
            self._doomed = error

    @property
    def app(self) -> str:
        """The app whose outbox is filled."""
        return self._place.app

    @property
    def session(self) -> AsyncSession:
        """The session that handlers get, another one in each part."""
        return self._part.session

    @property
    def connection(self) -> UnitConnection:
        """The connection that handlers get, another one in each part, with the database's one connection beneath."""
        return self._part.connection

    async def admit(
        self, lease: Lease, group: str, messages: Sequence[Message]
    ) -> Sequence[Verdict]:
        """See `Transaction.admit`."""
        self._write("admit a message")
        # In sorted order, so that two transactions that share some ids never wait for each other.
        ids = sorted({(m.envelope.source, m.envelope.id) for m in messages})
        keys = list(dict.fromkeys((m.topic, m.key) for m in messages if m.key is not None))
        say = self._database.statements
        steps = [self._own(lease), *self._take_staged()]
        first = len(steps)
        steps.extend(say.admit(lease, group, ids, keys))
        found = (await self._run(steps, lease))[first:]
        new, holds = say.admitted(ids, keys, found)
        if say.stale_after_waiting and keys and len(new) < len(ids):
            holds = say.held(keys, await self._run(say.holds(lease, keys)))
        left = set(new)
        verdicts: list[Verdict] = []
        for message in messages:
            id_ = (message.envelope.source, message.envelope.id)
            if id_ not in left:
                verdicts.append(Verdict.DUPLICATE)
            elif (message.topic, message.key) in holds:
                verdicts.append(Verdict.HELD)
            else:
                verdicts.append(Verdict.NEW)
            # Of several with one id the first is new.
            left.discard(id_)
        return verdicts

    async def end_part(self) -> None:
        """See `Transaction.end_part`."""
        self.check()
        if self._part.used:
            await self._part.end()
            self._part = Part(self, self._database.engine, self._place.sessions)

    async def resume(self, lease: Lease, stored: Stored) -> bool:
        """See `Transaction.resume`."""
        self._write("resume a parked message")
        values = {"r_position": stored.position}
        steps = [self._own(lease), *self._take_staged(), Step(parking.may_run, values)]
        found = await self._run(steps, lease)
        if not found[-1].rows:
            return False
        self._staged.append(Step(parking.remove, values, expects=1))
        if stored.message.key is not None:
            self._staged.append(promote(stored.queue, stored.message.topic, stored.message.key))
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
        self._fence(lease)
        self._staged.append(
            Step(
                parking.park,
                {
                    **message_values(message),
                    **failure_values(failure),
                    "v_queue": lease.queue,
                    "v_partition": lease.partition,
                    "v_state": int(state),
                    "v_attempts": attempts,
                    "p_key": message.key,
                    "p_queue": lease.queue,
                    "p_topic": message.topic,
                    "p_delay_ms": delay_ms(state, delay_seconds),
                },
            )
        )

    def advance(self, lease: Lease, position: str) -> None:
        """See `Transaction.advance`."""
        self._write("move a position")
        self._leases.append(lease)
        say = self._database.statements
        self._staged.append(say.advance(lease, position, owned=lease in self._owned))

    def enqueue(self, messages: Sequence[Message]) -> None:
        """See `Transaction.enqueue`."""
        if messages:
            self._write("enqueue a message")
            self._outbox.extend(messages)

    def defer(self, queue: str, messages: Sequence[tuple[int, Message]]) -> None:
        """See `Transaction.defer`."""
        if messages:
            self._write("defer a message")
            self._deferred.extend(outbox.defer_values(queue, p, m) for p, m in messages)

    async def savepoint(self) -> SqlSavepoint:
        """See `Transaction.savepoint`."""
        self.check()
        session = self.session
        if self._staged:
            await self._run(self._take_staged())
        nested = await session.begin_nested()
        # The session begins its savepoint when it next needs the connection; writes beside it must be inside, too.
        await session.connection()
        waiting = (len(self._staged), len(self._outbox), len(self._deferred))
        return SqlSavepoint(self, nested, waiting)

    def back_to(self, waiting: tuple[int, int, int]) -> None:
        """Forget what was staged, enqueued and deferred after these numbers, and a doom that a savepoint undoes."""
        staged, enqueued, deferred = waiting
        del self._staged[staged:]
        del self._outbox[enqueued:]
        del self._deferred[deferred:]
        # The database gives up locks that were taken since.
        self._owned.clear()
        if self._doomed is not None and self._database.dialect.recoverable(self._doomed):
            self._doomed = None

    async def commit(self) -> None:
        """See `Transaction.commit`. A read-only transaction is rolled back."""
        self._check_open("commit")
        try:
            if self._doomed is None:
                await self._part.flush()
            if self._doomed is not None:
                raise self._doomed
            if self.touched and not self._read_only:
                await self._commit(await self._connect())
        except BaseException as error:
            self.doom(error)
            await self.rollback()
            raise
        await self._finish("committed")

    async def _commit(self, link: Link) -> None:
        if not link.usable:
            raise UnitOfWorkError(
                "a statement of this unit of work was cancelled (by a time limit around it?), which closed its connection"
                " and rolled the unit back: let the cancellation end the handler"
            )
        steps = self._take_staged()
        if self._outbox or self._deferred:
            name, count = outbox_queue(self._place.app), self._place.partitions
            rows = [outbox.enqueue_values(name, count, message) for message in self._outbox]
            steps.append(self._database.statements.enqueue([*rows, *self._deferred]))
        self._own_end = True
        try:
            await link.run(steps, commit=True)
        except Exception as error:
            raise self._fault(error) from error

    async def rollback(self) -> None:
        """See `Transaction.rollback`."""
        if self._ended is None:
            await self._finish("rolled back")

    async def _finish(self, how: str) -> None:
        self._ended = how
        self._staged.clear()
        self._outbox.clear()
        self._deferred.clear()
        link, self._link = self._link, None
        self._own_end = True
        try:
            if link is not None:
                await self._database.give(link)
        finally:
            self._part.close()

    async def connect(self) -> Connection:
        """The connection for a statement of the user's; begins the transaction if this is the first."""
        self.check()
        link = await self._connect()
        if not link.begun:
            try:
                await link.open()
            except Exception as error:
                fault = self._fault(error)
                self.doom(fault)
                raise fault from error
        return link.join()

    @property
    def taken(self) -> Connection | None:
        """The connection, if one was taken and has begun its transaction."""
        link = self._link
        return link.join() if link is not None and link.begun else None

    def check(self) -> None:
        """Raise the doom, or `UnitOfWorkClosed`."""
        self._check_open("run a statement")
        if self._doomed is not None:
            raise self._doomed

    def _check_open(self, what: str) -> None:
        if self._ended is not None:
            raise UnitOfWorkClosed(
                f"a unit of work of app {self._place.app!r} was to {what} after it was {self._ended}: what outlives its"
                " unit (a task, a kept session) must send a request of its own, or open a session of its own"
            )

    def _write(self, what: str) -> None:
        self.check()
        if self._read_only:
            raise UnitOfWorkError(
                f"a read-only unit of work of app {self._place.app!r} was to {what}: queries change nothing; do this in a"
                " command's handler"
            )

    def flush_failed(self, error: BaseException) -> None:
        """The session has rolled back."""
        self.doom(error)

    def flushing(self, running: bool) -> None:
        """A ROLLBACK now is the session's."""
        self._own_end = running

    def failed(self, error: BaseException, *, ended: bool) -> None:
        """A statement on the connection failed."""
        link = self._link
        in_savepoint = link is not None and link.connection.in_nested_transaction()
        if self._database.dialect.dooms(error, in_savepoint=in_savepoint):
            self.doom(error)
        elif ended:
            self.doom(
                UnitOfWorkError(
                    f"a statement of this unit of work was cut ({type(error).__name__}; a time limit around it?), and its"
                    " transaction can only roll back: let the error end the handler"
                )
            )

    def ending(self, what: str) -> None:
        """Somebody ends the transaction from beneath."""
        if not self._own_end:
            if what == "COMMIT":
                refuse("COMMIT on the connection")
            self.doom(
                UnitOfWorkError(
                    "the transaction of a unit of work was rolled back on its connection: raise an error from the handler"
                    " to undo the unit, or write `async with session.begin_nested():` for a part that may fail alone"
                )
            )

    def _own(self, lease: Lease) -> Step:
        return self._database.statements.own(lease, isolation=self._database.dialect.isolation)

    def _fence(self, lease: Lease) -> None:
        if lease not in self._owned:
            self._leases.append(lease)
            self._staged.append(self._own(lease))

    def _take_staged(self) -> list[Step]:
        staged, self._staged = self._staged, []
        return staged

    async def _connect(self) -> Link:
        if self._link is None:
            self._link = await self._database.take(read_only=self._read_only, unit=self)
        return self._link

    async def _run(self, steps: Sequence[Step], lease: Lease | None = None) -> Sequence[Outcome]:
        if lease is not None:
            self._leases.append(lease)
        try:
            found = await (await self._connect()).run(steps)
        except Exception as error:
            fault = self._fault(error)
            self.doom(fault)
            raise fault from error
        if lease is not None:
            self._owned.add(lease)
        return found

    def _fault(self, error: Exception) -> BaseException:
        if isinstance(error, Unexpected):
            return self._lost(error.step)
        if isinstance(error, CommitFailed) and error.__cause__ is not None:
            cause = error.__cause__
            if self._database.dialect.unknown_at_commit(cause):
                return CommitOutcomeUnknown(
                    f"COMMIT failed in a way that leaves its outcome open ({cause}): the unit may have been committed or"
                    " not. Look for its effects before you send again"
                )
        return self._database.fault(error)

    def _lost(self, step: Step) -> BaseException:
        values = step.values
        for lease in self._leases:
            if lease_values(lease).items() <= dict(cast("dict[str, object]", values)).items():
                return lost(lease)
        return UnitOfWorkError(
            f"a parked message that this unit of work had resumed was gone at the commit ({values}): nothing was changed"
        )
