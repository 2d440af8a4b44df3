"""Messages just read from the broker that are handled together, in one transaction (G7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headrace.consumer.fresh import Steadily, count_all
from headrace.consumer.processing import Batch
from headrace.errors import HandlerCancelled, HandlerTimeout
from headrace.storage import State, Verdict
from headrace.telemetry import Count, LogEvent
from headrace.text import said_by
from headrace.worker import contention

if TYPE_CHECKING:
    from headrace.broker import Received
    from headrace.consumer.delivery import Delivery, Work
    from headrace.storage import Lease, Transaction


CLASHES = 3
"""Clashes with other transactions after which a batch waits longer, and says so, as in an outage."""


class Batches:
    """The life of messages that share a transaction: all of them are handled, or none is and they go one by one.

    Args:
        work: what the group does with them.
    """

    def __init__(self, work: Work, parked: Callable[[], None]) -> None:
        self._work = work
        self._parked = parked
        self._size = work.subscription.batch
        self.alone = 0
        """How many messages, from the next on, are to be handled one by one."""

    async def handle(self, lease: Lease, received: Sequence[Received], steadily: Steadily) -> int:
        """Handle as many of these as can be together, from the first on.

        Args:
            lease: of their partition.
            received: of types that this process knows, in order.
            steadily: carries it through outages.

        Returns:
            How many are handled. 0 if they are to be handled one by one: `alone` says how many.
        """
        decoded = self._decoded(received)
        if len(decoded) < 2:
            self.alone = 1
            return 0
        with Batch(self._work, lease.partition).running() as batch:
            return await self._together(lease, received, decoded, steadily, batch)

    async def _together(
        self,
        lease: Lease,
        received: Sequence[Received],
        decoded: Sequence[Delivery],
        steadily: Steadily,
        batch: Batch,
    ) -> int:
        work, verdicts = self._work, list[Verdict]()

        async def begin(transaction: Transaction) -> Sequence[Delivery]:
            batch.again()
            some = received[: min(self._size, len(decoded))]
            lane = [work.in_lane(one.message) for one in some]
            verdicts[:] = await transaction.admit(lease, work.group, lane)
            for message, verdict in zip(lane, verdicts, strict=True):
                if verdict is Verdict.HELD:
                    transaction.park(lease, message, state=State.HELD)
            transaction.advance(lease, some[-1].position)
            new = zip(decoded, verdicts, strict=False)
            return [delivery for delivery, verdict in new if verdict is Verdict.NEW]

        async def attempt() -> Exception | None:
            for _ in range(CLASHES):
                in_turn = work.clashes.expected
                try:
                    async with work.clashes.avoided():
                        return await work.attempt(begin)
                except Exception as error:
                    if not contention(work.storage, error):
                        raise
                    work.telemetry.tally(Count.CLASHED, work.labels)
                    if in_turn:
                        # With another process, then: fewer messages hold fewer locks for less time.
                        self._size = max(self._size // 2, 1)
                    await work.clashes.happened()
            return await work.attempt(begin)

        failed = await steadily(attempt)
        if failed is not None and not await self._stands(
            lease, decoded, verdicts, failed, steadily
        ):
            self._split(lease, len(verdicts), failed)
            return 0
        if Verdict.HELD in verdicts:
            self._parked()
        self._size = min(self._size * 2, work.subscription.batch)
        messages = [message for _, message in decoded[: len(verdicts)]]
        count_all(work, list(zip(verdicts, messages, strict=True)))
        batch.committed(messages)
        return len(verdicts)

    def _decoded(self, received: Sequence[Received]) -> list[Delivery]:
        """The deliveries before the first message whose body does not fit: that one has its own way."""
        found: list[Delivery] = []
        for one in received:
            try:
                found.append((self._work.decode(one.message), one.message))
            except Exception:
                break
        return found

    async def _stands(
        self,
        lease: Lease,
        decoded: Sequence[Delivery],
        verdicts: Sequence[Verdict],
        failed: Exception,
        steadily: Steadily,
    ) -> bool:
        """True if the commit had succeeded when the time-out or the cancellation struck."""
        work = self._work
        of_time = isinstance(failed, HandlerTimeout | HandlerCancelled)
        if not of_time or Verdict.NEW not in verdicts:
            return False
        _, message = decoded[verdicts.index(Verdict.NEW)]

        async def look() -> bool:
            transaction = work.storage.transaction()
            try:
                found = await transaction.admit(lease, work.group, [work.in_lane(message)])
            finally:
                await transaction.rollback()
            return found == [Verdict.DUPLICATE]

        return await steadily(look)

    def _split(self, lease: Lease, size: int, error: Exception) -> None:
        work = self._work
        self.alone = size
        work.telemetry.tally(Count.BATCH_SPLIT, work.labels)
        work.telemetry.info(
            LogEvent.BATCH_SPLIT,
            f"A batch of {size} messages of topic {work.topic!r} was rolled back in group {work.group!r} by "
            f"{type(error).__name__}: {said_by(error)}. Its messages are handled again, one by one.",
            group=work.group,
            topic=work.topic,
            partition=lease.partition,
            messages=size,
        )
