"""The time that each of several messages has, when their handlers run one after another."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from headrace.watching import time_is_over

if TYPE_CHECKING:
    from contextvars import Token

    from headrace.envelope import Message


class Turns:
    """Cancels the running task when a message takes longer than its time; an asynchronous context manager, used once.

    Waiting for the storage is no fault of a handler, so the time of each message begins with its turn, and what comes
    after the last (the COMMIT) has a turn of its own. One timer serves all turns: one that finds that the turn is
    another by now waits for the end of that one.

    Args:
        seconds: for each turn.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._token: Token[Callable[[], bool] | None] | None = None
        self.running: Message | None = None
        """Whose turn it is, or was last; None before the first."""

    @property
    def expired(self) -> bool:
        """True once a turn has taken too long."""
        return self._limit.expired()

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
        await self._limit.__aenter__()
        self._token = time_is_over.set(self._limit.expired)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Turns the cancellation at the end of a turn into `TimeoutError`."""
        if self._timer is not None:
            self._timer.cancel()
        if self._token is not None:
            time_is_over.reset(self._token)
        await self._limit.__aexit__(kind, error, traceback)

    def _next(self) -> None:
        if self._limit.expired():
            raise TimeoutError("a handler went on after its cancellation")
        self._deadline = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look)
        elif self._limit.when() is not None:
            # The turn before was over, and ended by itself just before the cancellation.
            self._limit.reschedule(None)
            self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        if self._loop.time() >= self._deadline:
            self._limit.reschedule(self._deadline)
        else:
            self._timer = self._loop.call_at(self._deadline, self._look)
