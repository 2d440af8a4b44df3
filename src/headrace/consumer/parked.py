"""A message that waits in storage: tried again, released from its hold, or made a dead letter (G9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.consumer.delivery import UNKNOWN_TYPE_SECONDS, failure_of
from headrace.consumer.fresh import Steadily, report_dead, report_retry, unknown_type
from headrace.errors import HandlerTimeout, LeaseLost, ProcessDied
from headrace.storage import Failure, State
from headrace.telemetry import Count

if TYPE_CHECKING:
    from headrace.consumer.delivery import Delivery, Work
    from headrace.storage import Lease, Stored, Transaction


class Parked:
    """The life of messages that come from storage. Each attempt is committed before it is made.

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
        work = self._work
        if stored.attempts >= work.subscription.retry.attempts:
            await self._bury(lease, stored, steadily, _died(work, stored), stored.attempts)
            return
        type_ = stored.message.envelope.type
        if type_ not in work.types:
            await self._repark(
                lease,
                stored,
                steadily,
                State.WAITING,
                delay=UNKNOWN_TYPE_SECONDS,
                failure=unknown_type(work, type_),
            )
            return
        try:
            event = work.decode(stored.message)
        except Exception as error:
            await self._bury(lease, stored, steadily, error, stored.attempts)
            return
        if not await steadily(lambda: work.storage.attempt(lease, stored)):
            return
        try:
            await self._try(lease, stored, steadily, event)
        except LeaseLost:
            # The attempt stays counted: who lost the partition while handling may have hung, which is what counts.
            raise
        except BaseException:
            # The drain was cut or the storage is away while stopping: no fault of the message.
            await self._give_back(lease, stored)
            raise

    async def _try(self, lease: Lease, stored: Stored, steadily: Steadily, event: object) -> None:
        work, retry = self._work, self._work.subscription.retry
        ran = False

        async def begin(transaction: Transaction) -> Sequence[Delivery]:
            nonlocal ran
            ran = await transaction.resume(lease, stored)
            return [(event, work.keyed(stored.message))] if ran else []

        failed = await steadily(lambda: work.attempt(begin))
        if failed is None:
            if ran:
                work.telemetry.count(Count.CONSUMED)
            return
        if isinstance(failed, HandlerTimeout) and not await steadily(
            lambda: self._still_there(lease, stored)
        ):
            # Its commit had succeeded when the time-out struck.
            work.telemetry.count(Count.CONSUMED)
            return
        attempts = stored.attempts + 1
        if attempts >= retry.attempts:
            await self._bury(lease, stored, steadily, failed, attempts)
            return
        delay = retry.delay(attempts)
        await self._repark(
            lease, stored, steadily, State.WAITING, delay=delay, failure=failure_of(failed)
        )
        report_retry(work, lease, stored.message.envelope.id, failed, attempts, delay)

    async def _bury(
        self, lease: Lease, stored: Stored, steadily: Steadily, error: Exception, attempts: int
    ) -> None:
        await self._repark(lease, stored, steadily, State.DEAD, failure=failure_of(error))
        report_dead(self._work, lease, stored.message.envelope.id, error, attempts)

    async def _repark(
        self,
        lease: Lease,
        stored: Stored,
        steadily: Steadily,
        state: State,
        *,
        delay: float = 0.0,
        failure: Failure,
    ) -> None:
        await steadily(
            lambda: self._work.storage.repark(
                lease, stored, state=state, delay_seconds=delay, failure=failure
            )
        )

    async def _give_back(self, lease: Lease, stored: Stored) -> None:
        work = self._work
        try:
            await work.storage.repark(lease, stored, state=stored.state, attempts=stored.attempts)
        except Exception as error:
            work.telemetry.warning(
                f"Attempt {stored.attempts + 1} of message {stored.message.envelope.id} in group {work.group!r} was cut off "
                f"stop and stays counted, because the storage could not be told ({type(error).__name__}: {error})."
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
