"""The loop beneath relay, consumers and leases: a step done again and again, woken by hints, paused by outages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.backoff import Backoff
from headrace.errors import (
    BrokerUnavailable,
    CommitOutcomeUnknown,
    LeaseLost,
    StorageBusy,
    StorageUnavailable,
)

if TYPE_CHECKING:
    from headrace.backoff import Outage
    from headrace.storage import Storage

T = TypeVar("T")

CANCEL_SECONDS = 5.0
"""How long a cancelled handler may take to end before its partition is left to run out: a COMMIT under way is not cut."""

AT_ONCE_SECONDS = 0.1
"""The drain of parts whose app's stop was cancelled before it came to them: what rests needs a moment to end."""


def infrastructure(storage: Storage, error: BaseException) -> bool:
    """True if the error is the fault of a server, a lost lease or a shutdown, never of a message (G9)."""
    return isinstance(
        error,
        StorageUnavailable
        | StorageBusy
        | LeaseLost
        | BrokerUnavailable
        | CommitOutcomeUnknown
        | asyncio.CancelledError,
    ) or storage.transient(error)


def contention(storage: Storage, error: BaseException) -> bool:
    """True if transactions got in each other's way (a deadlock, a serialization failure): the same work may go on at once."""
    outage = StorageUnavailable | LeaseLost | BrokerUnavailable | CommitOutcomeUnknown
    return not isinstance(error, outage) and storage.transient(error)


def cancelled(error: BaseException) -> bool:
    """True if somebody has cancelled the running task; False for a `CancelledError` that code raised by itself.

    A client whose connection was closed cancels its futures, and whoever awaits one gets the error though nobody wants the
    task to end.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)


class Worker:
    """Runs `step` in one task from `start` to `stop`.

    A step returns the seconds after which it wants to run again unless it is woken, 0 for at once. One that raises is run
    again after a growing delay, whatever the error: a loop that ends in silence would be worse than one that complains.

    Args:
        name: the task's name, for people who look at a stack dump.
        step: the work; never run twice at once.
        outage: records the errors of the step.
        max_backoff_seconds: the longest delay after errors, default 30.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[float]],
        outage: Outage,
        *,
        max_backoff_seconds: float = 30.0,
    ) -> None:
        self._name = name
        self._step = step
        self._outage = outage
        self._backoff = Backoff(max_backoff_seconds)
        self._woken: asyncio.Event | None = None
        self._stopping: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._resting = False

    @property
    def idle(self) -> bool:
        """True while it waits for a hint, or for its time to look without one; not while it waits after an error."""
        return self._task is None or (
            self._resting and self._woken is not None and not self._woken.is_set()
        )

    @property
    def running(self) -> bool:
        """True between `start` and `stop`."""
        return self._task is not None

    def wake(self) -> None:
        """Run the step soon. A hint, cheap, to be called on the loop; does nothing while not running."""
        if self._woken is not None:
            self._woken.set()

    def start(self) -> None:
        """Start the loop with a step at once."""
        # Made here and not in __init__: an Event belongs to the event loop that it first waits in.
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run(self._woken, self._stopping), name=self._name)

    async def stop(self, drain_seconds: float) -> bool:
        """Begin no further step, let the running one end within `drain_seconds`, else cancel it.

        Cancelled, it cancels the running step at once, and lets the cancellation go on when that has ended.

        Returns:
            False if it had to be cancelled.
        """
        task, self._task = self._task, None
        if task is None or self._stopping is None:
            return True
        self._stopping.set()
        self.wake()
        try:
            await asyncio.wait({task}, timeout=drain_seconds)
        except asyncio.CancelledError:
            # Nobody else knows of the task: left alone, it would go on for ever.
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_SECONDS)
            raise
        if late := not task.done():
            task.cancel()
            await ended({task}, None)
        return not late

    async def _run(self, woken: asyncio.Event, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            # Cleared before the step reads anything: a hint that comes meanwhile leads to another step.
            woken.clear()
            try:
                wait = await self._step()
            except (Exception, asyncio.CancelledError) as error:
                if cancelled(error):
                    raise
                self._outage.failed(error)
                await pause(stopping, self._backoff.next())
                continue
            self._backoff.reset()
            self._outage.over()
            if wait > 0 and not woken.is_set():
                self._resting = True
                await pause(woken, wait)
                self._resting = False
            else:
                # Also when the step itself has woken us: waiting for an event that is set does not let other tasks run.
                await asyncio.sleep(0)


class Steady:
    """Repeats an operation on a server until it succeeds, with growing delays: an outage changes nothing but the time.

    Args:
        outage: records the errors.
        stopping: set when no further try is to be made.
    """

    def __init__(self, outage: Outage, stopping: asyncio.Event) -> None:
        self._outage = outage
        self._stopping = stopping

    async def __call__(
        self, part: Hashable, permitted: Callable[[], bool], operation: Callable[[], Awaitable[T]]
    ) -> T:
        """Run `operation` until it returns, waiting while it is not `permitted`.

        Args:
            part: whose work it is, for the record of the outage.
            permitted: whether the lease can be relied on now.
            operation: safe to repeat.

        Raises:
            LeaseLost: by `permitted` or by `operation`.
            Exception: the last error of the operation, once stopping has begun.
        """
        backoff = Backoff()
        while True:
            if permitted():
                try:
                    answer = await operation()
                except LeaseLost:
                    self._outage.over(part)
                    raise
                except (Exception, asyncio.CancelledError) as error:
                    if cancelled(error):
                        raise
                    self._outage.failed(error, part)
                    if self._stopping.is_set():
                        raise
                else:
                    self._outage.over(part)
                    return answer
            elif self._stopping.is_set():
                raise LeaseLost(
                    "The lease ran out while its process was stopping; the message is redelivered."
                )
            await pause(self._stopping, backoff.next())


async def pause(until: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, at most so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await until.wait()
    except TimeoutError:
        pass


async def ended(tasks: Collection[asyncio.Task[None]], seconds: float | None) -> None:
    """Wait until tasks that were cancelled have ended, at most so long; None: as long as it takes.

    Whoever cancels the wait waits for them too, at most `CANCEL_SECONDS`: a COMMIT may be under way, and what it needs is
    closed next.
    """
    try:
        await asyncio.wait(tasks, timeout=seconds)
    except asyncio.CancelledError:
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        raise


async def side_by_side(stops: Collection[Coroutine[Any, Any, None]]) -> None:
    """Run stops at the same time until all have ended, whatever becomes of one; then raise the first error.

    `asyncio.gather` leaves the others to themselves after an error, and a cancellation that comes at once keeps them from
    even beginning: here each has begun before it is cancelled.
    """
    tasks = [asyncio.ensure_future(stop) for stop in stops]
    interrupted: asyncio.CancelledError | None = None
    while running := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            interrupted = error
            for task in running:
                task.cancel()
    if interrupted is not None:
        raise interrupted
    for task in tasks:
        task.result()
