"""The time that each of several messages has, when their handlers run one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from headrace.watching import time_is_over

if TYPE_CHECKING:
    from contextvars import Token

    from headrace.envelope import Message


class TimeLimit:
    """Ends turns that take too long. All are as long, so they run out in the order in which they began.

    One timer serves them all, and it is not cancelled when a turn ends in time: a timer for each message is what a
    consumer without an inbox spent a tenth of its time on.

    Args:
        seconds: for each turn.
    """

    __slots__ = ("_ends", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[Turns, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, turns: Turns) -> None:
        """Let the next turn of these begin now."""
        loop = asyncio.get_running_loop()
        # Taken out and put in again, so that the first is the one that runs out first.
        self._ends.pop(turns, None)
        end = self._ends[turns] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._look)

    def end(self, turns: Turns) -> None:
        """The last turn of these has ended."""
        self._ends.pop(turns, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for turns, end in self._ends.items():
            if end > now:
                self._timer = loop.call_at(end, self._look)
                return
            # Not yet: a handler that ended in this very round of the loop goes first.
            loop.call_soon(self._cut, turns, end)
        self._timer = None

    def _cut(self, turns: Turns, end: float) -> None:
        if self._ends.get(turns) == end:
            del self._ends[turns]
            turns.cut()


class Turns:
    """Cancels the running task when a message takes longer than its time; an asynchronous context manager, used once.

    Waiting for the storage is no fault of a handler, so the time of each message begins with its turn, and what comes
    after the last (the COMMIT) has a turn of its own. It does with the task what `asyncio.timeout` does.

    Args:
        limit: of all turns of a subscription.
    """

    __slots__ = ("_cancelling", "_limit", "_task", "_token", "expired", "running")

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._token: Token[Callable[[], bool] | None] | None = None
        self.expired = False
        """True once a turn has taken too long."""
        self.running: Message | None = None
        """Whose turn it is, or was last; None before the first."""

    def of(self, deliveries: Sequence[tuple[object, Message]]) -> Generator[tuple[object, Message]]:
        """These, one after another, each with a turn of its own.

        Raises:
            TimeoutError: a handler went on after its turn had ended and it was cancelled.
        """
        for delivery in deliveries:
            self.running = delivery[1]
            self._next()
            yield delivery
        self._next()

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("turns are taken in a task")
        self._cancelling = self._task.cancelling()
        self._token = time_is_over.set(self._expired)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Turns the cancellation at the end of a turn into `TimeoutError`."""
        self._limit.end(self)
        task, self._task = self._task, None
        if self._token is not None:
            time_is_over.reset(self._token)
        if not self.expired or task is None:
            return
        # Whoever else has cancelled the task, before or since, is to be heard.
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def cut(self) -> None:
        """The turn has taken too long."""
        if self._task is not None:
            self.expired = True
            self._task.cancel()

    def _next(self) -> None:
        if self.expired:
            raise TimeoutError("a handler went on after its cancellation")
        self._limit.begin(self)

    def _expired(self) -> bool:
        return self.expired
