"""A message that waits in storage: tried, tried again, released from its hold, or made a dead letter (G9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.consumer.delivery import (
    UNKNOWN_TYPE_AGAIN_SECONDS,
    UNKNOWN_TYPE_SECONDS,
    failure_of,
)
from headrace.consumer.fresh import Steadily, count, report_dead, report_retry
from headrace.consumer.processing import processing
from headrace.errors import HandlerCancelled, HandlerTimeout, LeaseLost, ProcessDied
from headrace.storage import Failure, State, Verdict
from headrace.telemetry import LogEvent

if TYPE_CHECKING:
    from headrace.consumer.delivery import Delivery, Work
    from headrace.storage import Lease, Stored, Transaction


class Parked:
    """The life of messages that come from storage.

    An attempt is committed before it is made, so that a process that dies of it has counted it. Only the first attempt in a
    partition that was taken in good order is not: if the process dies of that one, the next owner of the partition knows.

    Args:
        work: what the group does with them.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    async def handle(self, lease: Lease, stored: Stored, steadily: Steadily) -> None:
        """Do what is next with a parked message that may run.

        Args:
            lease: of its partition.
            stored: as `Storage.runnable` answered.
            steadily: carries the operations through outages.
        """
        message, attempt = self._work.keyed(stored.message), stored.attempts + 1
        with processing(self._work, lease.partition, message, attempt=attempt, fresh=False):
            await self._handle(lease, stored, steadily)

    async def _handle(self, lease: Lease, stored: Stored, steadily: Steadily) -> None:
        work = self._work
        before = stored.failure.error if stored.failure is not None else None
        if stored.attempts >= work.subscription.retry.of_named(before).attempts:
            await self._bury(lease, stored, steadily, _died(work, stored), stored.attempts)
            return
        if not work.knows(stored.message):
            failure = work.unknown(stored.message)
            # A removed handler may leave a great many behind: they are looked at less often than in a rolling deploy.
            again = stored.failure is not None and stored.failure.error == failure.error
            delay = UNKNOWN_TYPE_AGAIN_SECONDS if again else UNKNOWN_TYPE_SECONDS
            await self._repark(lease, stored, steadily, State.WAITING, delay=delay, failure=failure)
            return
        try:
            event = work.decode(stored.message)
        except Exception as error:
            await self._bury(lease, stored, steadily, error, stored.attempts)
            return
        counted = lease.unclean or stored.attempts > 0
        if counted and not await steadily(lambda: work.storage.attempt(lease, stored)):
            return
        try:
            await self._try(lease, stored, steadily, event)
        except LeaseLost:
            # The attempt stays counted: who lost the partition while handling may have hung, which is what counts.
            raise
        except BaseException:
            # The drain was cut or the storage is away while stopping: no fault of the message.
            if counted:
                await self._give_back(lease, stored)
            raise

    async def _try(self, lease: Lease, stored: Stored, steadily: Steadily, event: object) -> None:
        work = self._work
        ran = False

        async def begin(transaction: Transaction) -> Sequence[Delivery]:
            nonlocal ran
            ran = await transaction.resume(lease, stored)
            return [(event, work.keyed(stored.message))] if ran else []

        failed = await steadily(lambda: work.attempt(begin))
        if failed is None:
            if ran:
                count(work, Verdict.NEW, stored.message)
            return
        if isinstance(failed, HandlerTimeout | HandlerCancelled) and not await steadily(
            lambda: self._still_there(lease, stored)
        ):
            # Its commit had succeeded when the time-out or the cancellation struck.
            count(work, Verdict.NEW, stored.message)
            return
        attempts, retry = stored.attempts + 1, work.subscription.retry.of(failed)
        if attempts >= retry.attempts:
            await self._bury(lease, stored, steadily, failed, attempts)
            return
        delay = retry.delay(attempts)
        failure = failure_of(failed)
        await self._repark(
            *(lease, stored, steadily, State.WAITING),
            delay=delay,
            failure=failure,
            attempts=attempts,
        )
        report_retry(work, lease, stored.message, failed, attempts, delay)

    async def _bury(
        self, lease: Lease, stored: Stored, steadily: Steadily, error: Exception, attempts: int
    ) -> None:
        failure = failure_of(error)
        await self._repark(lease, stored, steadily, State.DEAD, failure=failure, attempts=attempts)
        report_dead(self._work, lease, stored.message, error, attempts)

    async def _repark(
        self,
        lease: Lease,
        stored: Stored,
        steadily: Steadily,
        state: State,
        *,
        delay: float = 0.0,
        failure: Failure,
        attempts: int | None = None,
    ) -> None:
        await steadily(
            lambda: self._work.storage.repark(
                *(lease, stored),
                state=state,
                delay_seconds=delay,
                failure=failure,
                attempts=attempts,
            )
        )

    async def _give_back(self, lease: Lease, stored: Stored) -> None:
        work = self._work
        try:
            await work.storage.repark(lease, stored, state=stored.state, attempts=stored.attempts)
        except Exception as error:
            work.telemetry.warning(
                LogEvent.ATTEMPT_KEPT,
                f"Attempt {stored.attempts + 1} of message {stored.message.envelope.id} in group {work.group!r} was cut off "
                f"and stays counted, because the storage could not be told ({type(error).__name__}: {error}).",
                **work.fields_of(stored.message),
                partition=lease.partition,
                attempts=stored.attempts + 1,
            )

    async def _still_there(self, lease: Lease, stored: Stored) -> bool:
        transaction = self._work.storage.transaction()
        try:
            return await transaction.resume(lease, stored)
        finally:
            await transaction.rollback()


def _died(work: Work, stored: Stored) -> ProcessDied:
    before = stored.failure
    return ProcessDied(
        f"Process died: handling message {stored.message.envelope.id} ({stored.message.envelope.type}) in group "
        f"{work.group!r} was begun {stored.attempts} times and ended the last time neither well nor with an error: "
        "the process was killed, crashed or hung. Look for memory it takes or native code it calls"
        + (
            f"; the error recorded before that was {before.error}: {before.message}"
            if before
            else ""
        )
        + "."
    )
