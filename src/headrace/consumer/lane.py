"""A lane: the work of one group in one partition, strictly one message after another (G8)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice, takewhile
from typing import TYPE_CHECKING, TypeVar

from headrace.backoff import Backoff, Outage
from headrace.consumer.batches import Batches
from headrace.consumer.fresh import Fresh
from headrace.consumer.parked import Parked
from headrace.errors import LeaseLost
from headrace.worker import Steady, cancelled, pause

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from headrace.broker import Received
    from headrace.consumer.delivery import Work
    from headrace.consumer.unsettled import Unsettled
    from headrace.leases import Leases
    from headrace.storage import Lease, Stored

T = TypeVar("T")


class Lane:
    """Handles what is put into `parked` and `fresh`, parked messages first.

    Args:
        lease: of the partition; the lane lives as long as its token.
        work: what the group does with the messages.
        leases: say whether the lease may be used.
        outage: records errors of the infrastructure.
        stopping: set when no further message is to be begun.
        look: called with the seconds after which parked messages are to be looked for.
        idle: called when the lane has nothing more to do.
        unsettled: is told of what is parked, and of what is handled behind it; it outlives the lane.
    """

    def __init__(
        self,
        lease: Lease,
        work: Work,
        leases: Leases,
        outage: Outage,
        stopping: asyncio.Event,
        *,
        look: Callable[[float], None],
        idle: Callable[[], None],
        unsettled: Unsettled,
    ) -> None:
        self.lease = lease
        self.fresh: deque[Received] = deque()
        self.parked: deque[Stored] = deque()
        self.finished = lease.position
        """The last position that is handled or stored, committed."""
        self.received_in: SpanContext | None = None
        """The span that read what is in `fresh`, if there are spans."""
        self.abandoned = False
        """True once what was under way is cancelled because the lease is lost."""
        # The owner before may have died of any message of the batch that it was at.
        self._cautious = work.subscription.batch if lease.unclean else 0
        self._work = work
        self._leases = leases
        self._outage = outage
        self._stopping = stopping
        self._look = look
        self._idle = idle
        self._steady = Steady(outage, stopping)
        self._backoff = Backoff()
        self._not_before = 0.0
        self.unsettled = unsettled
        self._from_broker = Fresh(work, self._parked)
        self._batches = Batches(work, self._parked)
        self._from_storage = Parked(work)
        self.task: asyncio.Task[None] | None = None

    def usable(self) -> bool:
        """True if the partition may be worked now; False while its lease waits for renewal or is to be given back.

        Raises:
            LeaseLost: another process has the partition: the lane has no future.
        """
        return self._leases.usable(self.lease) and not self._leases.surplus(self.lease)

    def start(self) -> None:
        """Work in a task of its own until there is nothing to do, unless it does already."""
        if self._loop_time() < self._not_before:
            return
        if self.task is None and (self.fresh or self.parked) and self._may_begin():
            self.task = asyncio.create_task(
                self._run(), name=f"headrace lane {self.lease.queue} {self.lease.partition}"
            )

    def abandon(self) -> None:
        """Cancel what is under way, once: a second cancellation would cut the wait for its COMMIT."""
        if self.task is not None and not self.abandoned:
            self.abandoned = True
            self.task.cancel()

    async def _run(self) -> None:
        try:
            while (self.fresh or self.parked) and self._may_begin():
                try:
                    with self._leases.working((self.lease.partition,)):
                        await self._one()
                except LeaseLost:
                    if not self._stopping.is_set():
                        self._leases.lost(self.lease)
                    return
                except (Exception, asyncio.CancelledError) as error:
                    if cancelled(error):
                        raise
                    if self._stopping.is_set():
                        return
                    # Nobody's known fault, so Headrace's own: it must neither end the lane nor be repeated without a pause.
                    self._outage.failed(error, self)
                    await pause(self._stopping, self._backoff.next())
                else:
                    self._outage.over(self)
                    self._backoff.reset()
        except BaseException as error:
            if not self.abandoned and not self._stopping.is_set():
                # Not our cancellation: a handler cancelled its own task, or raised what ends one. Its message comes again.
                self._outage.failed(error, self)
                wait = self._backoff.next()
                self._not_before = self._loop_time() + wait
                self._look(wait)
            raise
        finally:
            self.task = None
            self._idle()

    def _parked(self) -> None:
        self.unsettled.parked(self.finished)

    def _loop_time(self) -> float:
        return asyncio.get_running_loop().time()

    def _may_begin(self) -> bool:
        try:
            return not self._stopping.is_set() and self.usable()
        except LeaseLost:
            return False

    async def _one(self) -> None:
        # What is under way stays at the head until it is done, so that it counts as held in memory and is not read again.
        if self.parked:
            await self._from_storage.handle(self.lease, self.parked[0], self._steadily)
            self.parked.popleft()
            if not self.parked:
                # The next of their keys may run now.
                self._look(0.0)
            return
        if self._work.telemetry.tracing is not None:
            self._work.telemetry.tracing.received_in.set(self.received_in)
        for _ in range(await self._skip() or await self._together() or await self._alone()):
            self.finished = self.fresh.popleft().position
            self.unsettled.count += 1

    async def _skip(self) -> int:
        """Pass over the messages at the head that the group never had a handler for. Returns how many."""
        types = self._work.types
        strange = list(takewhile(lambda r: r.message.envelope.type not in types, self.fresh))
        if not strange:
            return 0
        # Asked each time: another process of the group may have brought a handler a moment ago.
        known = await self._steadily(lambda: self._work.storage.learn_types(self._work.group, ()))
        skipped = list(takewhile(lambda r: r.message.envelope.type not in known, strange))
        if skipped:
            position = skipped[-1].position
            await self._from_broker.skip(self.lease, position, len(skipped), self._steadily)
        return len(skipped)

    async def _together(self) -> int:
        """Handle messages at the head in one transaction. Returns how many, 0 if the next is to be handled alone."""
        most, types = self._work.subscription.batch, self._work.types
        if most == 1 or self._cautious or self._batches.alone:
            return 0
        head = takewhile(lambda r: r.message.envelope.type in types, islice(self.fresh, most))
        return await self._batches.handle(self.lease, list(head), self._steadily)

    async def _alone(self) -> int:
        received = self.fresh[0]
        look: float | None = None
        if received.message.envelope.type not in self._work.types:
            look = await self._from_broker.wait_for_type(self.lease, received, self._steadily)
        elif self._cautious:
            # The owner before died or hung, perhaps of this very message: its attempts must survive this process.
            if await self._from_broker.park(self.lease, received, self._steadily):
                self._cautious -= 1
                look = 0.0
        else:
            look = await self._from_broker.handle(self.lease, received, self._steadily)
        if look is not None:
            self._look(look)
        self._batches.alone = max(self._batches.alone - 1, 0)
        return 1

    def _steadily(self, operation: Callable[[], Awaitable[T]], /) -> Awaitable[T]:
        return self._steady(self, lambda: self._leases.usable(self.lease), operation)
