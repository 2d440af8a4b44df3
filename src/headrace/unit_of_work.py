"""The unit of work: one scope, one session, one transaction for everything that one send does (G4).

Source: "Unit of Work", M. Fowler, Patterns of Enterprise Application Architecture.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

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
from headrace.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable

current_unit: ContextVar[UnitOfWork | None] = ContextVar("headrace_current_unit", default=None)
"""The unit that the running code belongs to; tasks inherit it, and are told apart by `UnitOfWork.task`."""


class UnitOfWork:
    """What one outermost send, or one consumed message, shares: the scope, the transaction, what is to be published.

    Args:
        mediator: runs it; nested sends through it join.
        container: opens the scope at first use.
        storage: gives the transaction, or None for an app without storage.
        cause: the request or event that it begins with.
        read_only: for queries: nothing is written, all is rolled back.
    """

    __slots__ = (
        "_storage",
        "after_commit",
        "cause",
        "closed",
        "container",
        "depth",
        "doomed",
        "mediator",
        "outer",
        "outgoing",
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
        *,
        read_only: bool = False,
    ) -> None:
        self.mediator = mediator
        self.container = container
        self._storage = storage
        self.transaction: Transaction | None = (
            storage.transaction(read_only=read_only) if storage is not None else None
        )
        self.cause = cause
        self.read_only = read_only
        self.outgoing: list[Message] = []
        self.after_commit: list[tuple[Event, Cause]] = []
        self.scope: Scope | None = None
        self.task = asyncio.current_task()
        self.outer = current_unit.get()
        self.depth = 0
        self.closed = False
        self.doomed: BaseException | None = None

    @property
    def envelope(self) -> Envelope:
        """The envelope of the message being handled now."""
        return self.cause.envelope

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

    def branch(self) -> UnitOfWork:
        """A unit for a handler that runs in parallel, without storage: a scope and follow-ups of its own."""
        branch = UnitOfWork(self.mediator, self.container, None, self.cause)
        current_unit.set(None)  # in the handler's own task: its nested sends are sends of their own
        return branch

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

    async def close_scope(self, error: BaseException | None) -> None:
        """Finalize the scope, if one was opened."""
        scope, self.scope = self.scope, None
        if scope is not None:
            await scope.close(error)

    async def commit(self, *, wait_seconds: float, telemetry: Telemetry) -> None:
        """Commit all or nothing. Afterwards the unit is closed; after success nothing fails it any more.

        A cancellation while COMMIT is under way waits for its outcome, at most `wait_seconds`, then `CancelledError` goes on.

        Raises:
            CommitOutcomeUnknown: the outcome could not be learnt.
            BaseException: the doom, or the error of the commit: then all is rolled back.
        """
        transaction = self.transaction
        doomed = self.doomed or (transaction.doomed if transaction is not None else None)
        if doomed is not None:
            await self.rollback(doomed, telemetry=telemetry)
            raise doomed
        cancelled: BaseException | None = None
        if transaction is not None:
            if self.read_only:
                await _unhurried(transaction.rollback(), wait_seconds)
            else:
                if self.outgoing:
                    transaction.enqueue(self.outgoing)
                if transaction.touched:
                    try:
                        cancelled = await _unhurried(transaction.commit(), wait_seconds)
                    except BaseException as error:
                        self.closed = True
                        await self._finalize(error, telemetry)
                        raise
        self.closed = True
        await self._finalize(None, telemetry)
        if cancelled is not None:
            raise cancelled

    async def rollback(self, error: BaseException, *, telemetry: Telemetry) -> None:
        """Undo all, close the unit. Never raises: the caller is about to raise `error`."""
        self.closed = True
        if self.transaction is not None:
            try:
                await _unhurried(self.transaction.rollback(), 10.0)
            except Exception as failed:  # the original error must reach the caller
                telemetry.error(
                    "rolling back a unit of work failed; the database will undo it", failed
                )
        await self._finalize(error, telemetry)

    async def _finalize(self, error: BaseException | None, telemetry: Telemetry) -> None:
        try:
            await self.close_scope(error)
        except Exception as failed:  # the outcome of the unit stands already
            telemetry.error("a finalizer of a request-scoped dependency failed", failed)


async def _unhurried(work: Awaitable[None], wait_seconds: float) -> BaseException | None:
    """Await to the end whatever cancels the caller; answer the cancellation to raise afterwards, if there was one."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
        return None
    except asyncio.CancelledError as cancelled:
        if task.cancelled():
            raise
        await asyncio.wait([task], timeout=wait_seconds)
        if not task.done():
            raise CommitOutcomeUnknown(
                f"the send was cancelled during COMMIT and the database did not answer within {wait_seconds:g} s. The unit may "
                f"have been committed or not: look for its effects before you send again."
            ) from cancelled
        if (error := task.exception()) is not None:
            raise error from cancelled
        return cancelled


def _task_name(task: object) -> str:
    return cast("asyncio.Task[object]", task).get_name() if task is not None else "none"


def _closed_text(what: str) -> str:
    return (
        f"{what} was used after its unit of work had ended, probably by a task that a handler started and did not await. Await it "
        f"in the handler, or let it send a request of its own."
    )
