"""One broker object that several apps of a process start and stop: the first opens it, the last closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence


class Users:
    """Counts who has started an object. Starting and stopping take turns.

    An object that was left started on an event loop which has ended is nobody's: the count begins anew on the next loop.

    Args:
        opened: opens it for the first, and answers warnings for people.
        closed: closes it behind the last, and what was opened in part when `opened` failed. Never cancelled half way, or
            connections, tasks and threads would stay; so each of its steps is to be bounded in time.
    """

    def __init__(
        self,
        opened: Callable[[], Awaitable[Sequence[str]]],
        closed: Callable[[], Awaitable[None]],
    ) -> None:
        self.count = 0
        """How many have started it and not stopped it."""
        self._opened = opened
        self._closed = closed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()

    async def enter(self) -> Sequence[str]:
        """One more starts it. Returns what `opened` answered; nothing to those who come later."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._turn, self.count = loop, asyncio.Lock(), 0
        async with self._turn:
            answer: Sequence[str] = ()
            if not self.count:
                try:
                    answer = await self._opened()
                except BaseException:
                    await self._close()
                    raise
            self.count += 1
            return answer

    async def leave(self) -> None:
        """One stops it. Without effect if nobody has started it on this loop."""
        if self._loop is not asyncio.get_running_loop():
            return
        async with self._turn:
            if not self.count:
                return
            self.count -= 1
            if not self.count:
                await self._close()

    async def _close(self) -> None:
        closing = asyncio.ensure_future(self._closed())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait({closing})
            raise
