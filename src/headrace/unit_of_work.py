"""The unit of work: one scope, one session, one transaction for everything that one send does (G4).

Source: "Unit of Work", M. Fowler, Patterns of Enterprise Application Architecture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Self, cast

from headrace.causes import Cause
from headrace.container import Container, Scope
from headrace.envelope import Envelope, Message
from headrace.errors import (
    CommitOutcomeUnknown,
    ConcurrentUnitOfWork,
    UnitOfWorkClosed,
    UnitOfWorkError,
)
from headrace.messages import Event
from headrace.storage import Storage, Transaction
from headrace.telemetry import Count, LogEvent, Telemetry, about

if TYPE_CHECKING:
    from collections.abc import Awaitable

current_unit: ContextVar[UnitOfWork | None] = ContextVar("headrace_current_unit", default=None)
"""The unit that the running code belongs to; tasks inherit it, and are told apart by `UnitOfWork.task`."""

NOTHING: Mapping[type, object] = MappingProxyType({})
"""The context of a unit that brings nothing into its scope."""


class UnitOfWork:
    """What one outermost send, or one consumed message, shares: the scope, the transaction, what is to be published.

    Args:
        mediator: runs it; nested sends through it join.
        container: opens the scope at first use.
        storage: gives the transaction, or None for an app without storage.
        cause: the request or event that it begins with.
        telemetry: where failures that must not reach the caller are logged and counted.
        read_only: for queries: nothing is written, all is rolled back.
        shared: the transaction of another unit, which ends it; default None: one of its own.
    """

    __slots__ = (
        "_storage",
        "_telemetry",
        "after_commit",
        "cause",
        "closed",
        "container",
        "context",
        "deferred",
        "depth",
        "doomed",
        "mediator",
        "outer",
        "outgoing",
        "parts",
        "read_only",
        "scope",
        "task",
        "transaction",
    )

    def __init__(
        self,
        mediator: object,
        container: Container,
        storage: Storage | None,
        cause: Cause,
        telemetry: Telemetry,
        *,
        read_only: bool = False,
        shared: Transaction | None = None,
    ) -> None:
        self.mediator = mediator
        self.container = container
        self._storage = storage
        self._telemetry = telemetry
        self.transaction: Transaction | None = shared
        if storage is not None and shared is None:
            self.transaction = storage.transaction(read_only=read_only)
        self.cause = cause
        self.context = NOTHING
        self.read_only = read_only
        self.outgoing: list[Message] = []
        self.after_commit: list[tuple[Event, Cause]] = []
        self.deferred: list[Message] = []
        self.scope: Scope | None = None
        self.task = asyncio.current_task()
        self.outer = current_unit.get()
        self.parts: list[UnitOfWork] = []
        self.depth = 0
        self.closed = False
        self.doomed: BaseException | None = None

    @property
    def app(self) -> str:
        """The name of the app that it belongs to."""
        return self._telemetry.app

    @property
    def envelope(self) -> Envelope:
        """The envelope of the message being handled now."""
        return self.cause.envelope

    def about(self) -> dict[str, str]:
        """The fields of log records about this unit; none for a block of code, which handles no message."""
        return about(self.envelope) if self.cause.message is not None else {}

    def provide(self, kind: type) -> object:
        """An object that the storage provides from the running transaction."""
        if self.closed:
            raise UnitOfWorkClosed(_closed_text(kind.__name__))
        if self._storage is None or self.transaction is None:
            raise UnitOfWorkError(
                f"{kind.__name__} was asked for in an app without a storage that provides it. Pass storage=..., such as "
                f'"sqlite+aiosqlite:///app.db".'
            )
        return self._storage.provides[kind](self.transaction)

    def open_scope(self) -> Scope:
        """The unit's scope, opened at first use."""
        if self.closed:
            raise UnitOfWorkClosed(_closed_text("the container's scope"))
        if self.scope is None:
            self.scope = self.container.scope(self)
        return self.scope

    def branch(self) -> Self:
        """A unit for a handler that runs in parallel, without storage: a scope of its own, which its nested sends share.

        To be called in the handler's own task; `merge` brings what was collected back.
        """
        branch = type(self)(self.mediator, self.container, None, self.cause, self._telemetry)
        branch.outer, branch.depth = self, self.depth
        current_unit.set(branch)
        return branch

    def part(self, cause: Cause) -> UnitOfWork:
        """A unit for one of several messages that share this one's transaction, with a scope and session of its own.

        Its scope is closed with this unit, when the outcome is known. `end_part` brings what was collected back.
        """
        part = UnitOfWork(
            self.mediator,
            self.container,
            self._storage,
            cause,
            self._telemetry,
            shared=self.transaction,
        )
        # This unit runs no handlers: who comes from a part that has ended is to find none, not this one.
        part.outer = self.outer
        self.parts.append(part)
        return part

    async def end_part(self, part: UnitOfWork) -> None:
        """Take over what a part whose handlers have ended will publish, and close the session that they had.

        Raises:
            Exception: the doom, or the error of the flush.
        """
        part.closed = True
        if part.scope is None:
            # Nothing of it is to be finalized.
            self.parts.remove(part)
        self.merge(part)
        if self.transaction is not None:
            await self.transaction.end_part()

    def merge(self, branch: UnitOfWork, /) -> None:
        """Take over what a branch that has ended will publish, and its doom."""
        self.outgoing.extend(branch.outgoing)
        self.after_commit.extend(branch.after_commit)
        self.deferred.extend(branch.deferred)
        if branch.doomed is not None:
            self.doom(branch.doomed)

    def join(self) -> None:
        """Check that the running task may do work in this unit.

        Raises:
            ConcurrentUnitOfWork: another task runs it.
        """
        task = asyncio.current_task()
        if task is not self.task:
            raise ConcurrentUnitOfWork(
                f"a nested send ran in task {_task_name(task)}, but its unit of work belongs to task {_task_name(self.task)}. "
                f"One unit is one transaction on one connection, so nested sends run one after another: await them in turn "
                f"instead of asyncio.gather, create_task or (before Python 3.12) asyncio.wait_for; use asyncio.timeout for a "
                f"time limit. For work beside the unit, start it after the send has returned."
            )

    def doom(self, error: BaseException) -> None:
        """From now on the unit can only roll back; the first error stays and is what the caller gets."""
        if self.doomed is None:
            self.doomed = error
        if self.transaction is not None:
            self.transaction.doom(error)

    async def finish(self, error: BaseException | None) -> None:
        """Close the unit and finalize its scope, if one was opened; failing finalizers are logged and counted."""
        self.closed = True
        parts, self.parts = self.parts, []
        for part in reversed(parts):
            await part.finish(error)
        scope, self.scope = self.scope, None
        if scope is None:
            return
        try:
            await scope.close(error)
        except Exception as failed:  # the outcome of the unit stands already
            self._telemetry.count(Count.FINALIZER_FAILED)
            self._telemetry.error(
                LogEvent.FINALIZER_FAILED,
                "a finalizer of a request-scoped dependency failed",
                failed,
                **self.about(),
            )

    async def commit(self, *, wait_seconds: float) -> asyncio.CancelledError | None:
        """Commit all or nothing; a read-only unit is rolled back. Afterwards the unit is closed.

        A cancellation while COMMIT is under way waits for its outcome, at most `wait_seconds`.

        Returns:
            The cancellation that came meanwhile, for the caller to raise: the commit has succeeded.

        Raises:
            CommitOutcomeUnknown: the outcome could not be learnt.
            BaseException: the doom, or the error of the commit: then all is rolled back.
        """
        transaction = self.transaction
        doomed = self.doom_of_all
        if doomed is not None:
            raise await self.rollback(doomed) or doomed
        cancelled: asyncio.CancelledError | None = None
        if transaction is not None:
            try:
                if self.outgoing or transaction.touched:
                    cancelled = await self._end(transaction, wait_seconds)
                else:  # nothing to commit: no I/O, but a session that was made and not used must not be used later
                    await transaction.rollback()
            except BaseException as error:
                await self.finish(error)
                raise
        self.closed = True
        if self.scope is not None or self.parts:
            await self.finish(None)
        return cancelled

    async def _end(
        self, transaction: Transaction, wait_seconds: float
    ) -> asyncio.CancelledError | None:
        if self.outgoing and not self.read_only:
            transaction.enqueue(self.outgoing)
        ending = transaction.rollback() if self.read_only else transaction.commit()
        # Without I/O there is nothing to shield; but a session that was made and not used is to be closed.
        if not (transaction.touched and transaction.waits):
            await ending
            return None
        ended, cancelled = await _to_the_end(ending, wait_seconds)
        if not ended and not self.read_only:
            raise CommitOutcomeUnknown(
                f"COMMIT was cut off: the send was cancelled and the database did not answer within {wait_seconds:g} s, or the "
                f"database's driver gave up. The unit may have been committed or not: look for its effects before you send again."
            ) from cancelled
        return cancelled

    @property
    def doom_of_all(self) -> BaseException | None:
        """The error after which the unit can only roll back: of a nested send, or of the database."""
        if self.doomed is None and self.transaction is not None:
            return self.transaction.doomed
        return self.doomed

    async def rollback(self, error: BaseException) -> asyncio.CancelledError | None:
        """Undo all, close the unit. Raises no Exception: the caller is about to raise `error`.

        Returns:
            The cancellation that came meanwhile, for the caller to raise instead: whoever cancelled wants the task to end.
        """
        self.closed = True
        cancelled: asyncio.CancelledError | None = None
        if self.transaction is not None:
            try:
                ended, cancelled = await _to_the_end(self.transaction.rollback(), _ROLLBACK_SECONDS)
                if not ended:
                    self._telemetry.warning(
                        LogEvent.ROLLBACK_LATE,
                        f"the database did not answer to ROLLBACK within {_ROLLBACK_SECONDS:g} s; it will undo the unit when "
                        f"the connection ends",
                        **self.about(),
                    )
            except Exception as failed:  # the original error must reach the caller
                if isinstance(failed.__cause__, asyncio.CancelledError):
                    cancelled = failed.__cause__
                self._telemetry.error(
                    LogEvent.ROLLBACK_FAILED,
                    "rolling back a unit of work failed; the database will undo it",
                    failed,
                    **self.about(),
                )
        await self.finish(error)
        return cancelled


def doom_of(error: BaseException, kind: type) -> BaseException:
    """What a nested send's error means for its unit.

    A cancellation that the handler survives, as by `asyncio.timeout`, must not be raised again: nobody cancels any more.
    """
    if isinstance(error, Exception):
        return error
    doom = UnitOfWorkError(
        f"the nested send of {kind.__qualname__} was cut off ({type(error).__name__}) and its handler's error caught, so the "
        f"unit was rolled back. Let the error go on, or send with savepoint=True what may fail alone."
    )
    doom.__cause__ = error
    return doom


_ROLLBACK_SECONDS = 10.0
"""How long a cancelled send waits for its ROLLBACK: less than for COMMIT, because its outcome is known."""


async def _to_the_end(
    work: Awaitable[None], wait_seconds: float
) -> tuple[bool, asyncio.CancelledError | None]:
    """Await `work` whatever cancels the caller; after the first cancellation at most so long.

    Answers whether it has ended, and the cancellation to raise afterwards, if there was one. Work that ended as cancelled by
    itself, as of a driver whose connection was closed, has not ended: what it did is not known.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
        return True, None
    except asyncio.CancelledError as error:
        if task.cancelled():
            running = asyncio.current_task()
            if running is None or running.cancelling():
                raise
            return False, error
        cancelled = error
    clock = asyncio.get_running_loop().time
    deadline = clock() + wait_seconds
    while not task.done() and clock() < deadline:
        try:
            await asyncio.wait([task], timeout=deadline - clock())
        except asyncio.CancelledError as again:  # whoever is in a hurry may ask more than once
            cancelled = again
    if not task.done():
        return False, cancelled
    if (failed := task.exception()) is not None:
        raise failed from cancelled
    return True, cancelled


def _task_name(task: object) -> str:
    return cast("asyncio.Task[object]", task).get_name() if task is not None else "none"


def _closed_text(what: str) -> str:
    return (
        f"{what} was used after its unit of work had ended, probably by a task that a handler started and did not await. "
        f"Await it in the handler, or let it send a request of its own."
    )
