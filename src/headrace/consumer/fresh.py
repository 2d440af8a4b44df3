"""A message just read from the broker: handled, or moved to storage so that its partition flows on (G7, G8, G9)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from headrace.consumer.delivery import UNKNOWN_TYPE_SECONDS, failure_of, in_transaction
from headrace.consumer.processing import became, processing
from headrace.storage import Failure, State, Verdict
from headrace.subscriptions import qualified_name
from headrace.telemetry import Count, LogEvent
from headrace.text import said_by

if TYPE_CHECKING:
    from headrace.broker import Received
    from headrace.consumer.delivery import Delivery, Work
    from headrace.envelope import Message
    from headrace.storage import Lease, Transaction
    from headrace.telemetry import Labels

T = TypeVar("T")

_COUNTS: Final = {
    Verdict.NEW: Count.CONSUMED,
    Verdict.DUPLICATE: Count.DUPLICATE,
    Verdict.HELD: Count.HELD,
}


class Steadily(Protocol):
    """Repeats an operation on a server until it succeeds; see `worker.Steady`."""

    def __call__(self, operation: Callable[[], Awaitable[T]], /) -> Awaitable[T]:
        """What the operation returned at last."""
        ...


class Fresh:
    """The life of messages that come from the broker, one at a time in each partition.

    Args:
        work: what the group does with them.
        parked: called when a message was stored, before the partition goes on behind it.
    """

    def __init__(self, work: Work, parked: Callable[[], None]) -> None:
        self._work = work
        self._parked = parked

    async def skip(self, lease: Lease, position: str, count: int, steadily: Steadily) -> None:
        """Pass over messages of types that the group never had a handler for (G14).

        Args:
            lease: of their partition.
            position: of the last of them.
            count: how many.
            steadily: carries it through outages.
        """

        async def advance(transaction: Transaction) -> None:
            transaction.advance(lease, position)

        await steadily(lambda: in_transaction(self._work.storage, advance))
        self._work.telemetry.tally(Count.SKIPPED, self._work.labels, count)

    async def wait_for_type(self, lease: Lease, received: Received, steadily: Steadily) -> float:
        """Keep a message of a type that only other processes of the group know; its key waits behind it (G14).

        Returns:
            The seconds until it is looked at again.
        """
        await self._put(
            lease,
            received,
            steadily,
            State.WAITING,
            delay_seconds=UNKNOWN_TYPE_SECONDS,
            failure=self._work.unknown(received.message),
        )
        return UNKNOWN_TYPE_SECONDS

    async def park(self, lease: Lease, received: Received, steadily: Steadily) -> bool:
        """Move a message to storage without a try, so that its attempts are counted before they are made (G9).

        For the message that a process may have died of.

        Returns:
            False if it was no such message: handled before, or held behind another.
        """
        return (await self._put(lease, received, steadily, State.READY)) is Verdict.NEW

    async def handle(self, lease: Lease, received: Received, steadily: Steadily) -> float | None:
        """Handle a message of a type that this process knows.

        Returns:
            The seconds after which parked messages are to be looked at, or None.
        """
        if not self._work.telemetry.collected:
            return await self._handle(lease, received, steadily)
        with processing(self._work, lease.partition, received.message):
            return await self._handle(lease, received, steadily)

    async def _handle(self, lease: Lease, received: Received, steadily: Steadily) -> float | None:
        work, message = self._work, received.message
        try:
            event = work.decode(message)
        except Exception as error:
            verdict = await self._put(
                lease, received, steadily, State.DEAD, failure=failure_of(error)
            )
            if verdict is not Verdict.DUPLICATE:
                report_dead(work, lease, received.message, error, 0)
            return None
        verdicts = list[Verdict]()

        async def begin(transaction: Transaction) -> Sequence[Delivery]:
            verdicts[:] = await transaction.admit(lease, work.group, [work.in_lane(message)])
            if Verdict.HELD in verdicts:
                transaction.park(lease, work.in_lane(message), state=State.HELD)
            transaction.advance(lease, received.position)
            return [(event, message)] if Verdict.NEW in verdicts else []

        failed = await steadily(lambda: work.attempt(begin))
        if failed is not None:
            return await self._fail(lease, received, steadily, failed)
        if Verdict.HELD in verdicts:
            self._parked()
        count_all(work, [(verdict, message) for verdict in verdicts])
        return None

    async def _fail(
        self, lease: Lease, received: Received, steadily: Steadily, error: Exception
    ) -> float | None:
        work, retry = self._work, self._work.subscription.retry.of(error)
        last = retry.attempts <= 1
        delay = 0.0 if last else retry.delay(1)
        verdict = await self._put(
            lease,
            received,
            steadily,
            State.DEAD if last else State.WAITING,
            delay_seconds=delay,
            attempts=1,
            failure=failure_of(error),
        )
        if verdict is Verdict.DUPLICATE:
            # Its commit had succeeded when the time-out struck, or when the connection was lost: it is handled.
            count(work, Verdict.NEW, received.message)
            return None
        if last:
            report_dead(work, lease, received.message, error, 1)
            return None
        report_retry(work, lease, received.message, error, 1, delay)
        return delay

    async def _put(
        self,
        lease: Lease,
        received: Received,
        steadily: Steadily,
        state: State,
        *,
        delay_seconds: float = 0.0,
        attempts: int = 0,
        failure: Failure | None = None,
    ) -> Verdict:
        """Store a message in the group's queue and go on behind it, unless it was handled or stored before."""
        work = self._work
        message = work.in_lane(received.message)

        async def body(transaction: Transaction) -> Verdict:
            (verdict,) = await transaction.admit(lease, work.group, [message])
            if verdict is not Verdict.DUPLICATE:
                behind = verdict is Verdict.HELD and state is not State.DEAD
                transaction.park(
                    lease,
                    message,
                    state=State.HELD if behind else state,
                    delay_seconds=0.0 if behind else delay_seconds,
                    attempts=attempts,
                    failure=failure,
                )
            transaction.advance(lease, received.position)
            return verdict

        verdict = await steadily(lambda: in_transaction(work.storage, body))
        if verdict is not Verdict.DUPLICATE:
            self._parked()
        if verdict is not Verdict.NEW:
            count(work, verdict, message)
        return verdict


def count(work: Work, verdict: Verdict, message: Message) -> None:
    """Count a message that its partition goes on behind."""
    work.count(_COUNTS[verdict], message)
    became(work, message, _COUNTS[verdict])


def count_all(work: Work, verdicts: Sequence[tuple[Verdict, Message]]) -> None:
    """Count messages that were read from the broker and handled together."""
    for verdict, message in verdicts:
        count(work, verdict, message)
    if work.window is not None:
        work.window.look([m for verdict, m in verdicts if verdict is Verdict.NEW], work.labels)


def _with_error(work: Work, message: Message, error: BaseException) -> Labels:
    return (("error", qualified_name(type(error))), *work.labels_of(message))


def report_dead(
    work: Work, lease: Lease, message: Message, error: BaseException, attempts: int
) -> None:
    """Log and count a new dead letter."""
    work.telemetry.tally(Count.DEAD, _with_error(work, message, error))
    became(work, message, Count.DEAD, error)
    work.telemetry.error(
        LogEvent.DEAD,
        f"{work.called(message)} is a dead letter after {attempts} attempts: {type(error).__name__}: {said_by(error)}. "
        f"{_behind(message, 'Later messages of its key are held behind it; redrive', 'Redrive')} it when the cause is mended, "
        "or drop it with a reason.",
        error,
        **work.fields_of(message),
        partition=lease.partition,
        attempts=attempts,
    )


def report_retry(
    work: Work, lease: Lease, message: Message, error: BaseException, attempts: int, delay: float
) -> None:
    """Log and count a failed attempt that is followed by another."""
    most = work.subscription.retry.of(error).attempts
    work.telemetry.tally(Count.RETRIED, _with_error(work, message, error))
    became(work, message, Count.RETRIED, error)
    work.telemetry.warning(
        LogEvent.RETRIED,
        f"{work.called(message)} failed (attempt {attempts} of {most}): {type(error).__name__}: {said_by(error)}. "
        f"It is tried again in {delay:.3g} s; {_behind(message, 'later messages of its key wait, ', '')}all others go "
        "on.",
        **work.fields_of(message),
        partition=lease.partition,
        attempts=attempts,
    )


def _behind(message: Message, with_key: str, without: str) -> str:
    return without if message.key is None else with_key
