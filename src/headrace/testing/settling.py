"""Settling on virtual time: until nothing is left to do, and on to whatever is due next."""

from __future__ import annotations

import asyncio

from headrace.assembly import Parts
from headrace.assembly.settling import Look, at_work, look
from headrace.errors import DrainTimeout
from headrace.telemetry import Count
from headrace.testing.clock import VirtualClock

STEP_SECONDS = 0.001
"""The pause between two looks at what this process is known to be at: these ask no server."""

MOST_SECONDS = 0.02
"""The longest pause between two looks at servers, while something is left there that nobody here has seen yet."""


class Settling:
    """Waits for the flow of one app, and moves its time.

    Args:
        parts: of the app.
        clock: its time.
    """

    def __init__(self, parts: Parts, clock: VirtualClock) -> None:
        self._parts = parts
        self._clock = clock
        self._left = Look()

    async def settle(self, timeout_seconds: float, *, retries: bool) -> None:
        """Until nothing is left; with `retries` what is due later comes at once, in order of due time.

        Raises:
            DrainTimeout: it took longer than so many real seconds; tells what is left.
        """
        __tracebackhide__ = True
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._quiet()
                while retries and (due := self._left.due_seconds) is not None:
                    await self._move(due)
        except TimeoutError:
            raise self._late(timeout_seconds) from None

    async def advance(self, seconds: float, timeout_seconds: float) -> None:
        """Go on in time: what becomes due comes in order of due time, each settled before the next.

        Raises:
            DrainTimeout: as `settle`.
        """
        __tracebackhide__ = True
        end = self._clock.ahead_seconds + seconds
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._quiet()
                while True:
                    left = end - self._clock.ahead_seconds
                    due = self._left.due_seconds
                    if due is None or due > left:
                        break
                    await self._move(due)
                await self._move(left)
        except TimeoutError:
            raise self._late(timeout_seconds) from None

    async def _move(self, seconds: float) -> None:
        await self._clock.move(self._parts.bookkeeping, seconds)
        self._parts.wake()
        await self._quiet()

    async def _quiet(self) -> None:
        """Wait until nothing can be done now.

        Two looks in a row find nothing, with no count moved in between: one look passes the queues one after another, and
        a message could slip from one that was not yet looked at to one that was.
        """
        before: dict[Count, int] | None = None
        pause = STEP_SECONDS
        while True:
            while at_work(self._parts):  # noqa: ASYNC110 - many things, of which none knows that somebody waits
                await asyncio.sleep(STEP_SECONDS)
            self._left = await look(self._parts)
            counts = dict(self._parts.telemetry.counts)
            if self._left.now:
                # What a server knows and nobody here: a hint is on its way, or there is none to come.
                before = None
                self._parts.wake()
                await asyncio.sleep(pause)
                pause = min(pause * 2, MOST_SECONDS)
            elif before == counts and not at_work(self._parts):
                return
            else:
                before = counts

    def _late(self, timeout_seconds: float) -> DrainTimeout:
        found = dict.fromkeys([*at_work(self._parts), *self._left.left])
        left = "; ".join(found) or "still moving"
        paused = [one.status.last_error for one in self._parts.consumers]
        if self._parts.relay is not None:
            paused.append(self._parts.relay.status.last_error)
        errors = "".join(f" Paused by {error}." for error in dict.fromkeys(filter(None, paused)))
        return DrainTimeout(f"not settled after {timeout_seconds:g} s: {left}.{errors}")
