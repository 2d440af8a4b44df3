"""The turn of writers in one process, for a database that has one writer at a time."""

from __future__ import annotations

import asyncio

from headrace.errors import StorageBusy


class Turn:
    """First come, first served; belongs to the transaction that took it. Made on the loop that uses it.

    Args:
        seconds: how long to wait before `StorageBusy`.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = asyncio.Lock()

    async def take(self) -> None:
        """Wait for the turn.

        Raises:
            StorageBusy: it did not come in time.
        """
        if not self._lock.locked():
            await self._lock.acquire()
            return
        try:
            async with asyncio.timeout(self._seconds):
                await self._lock.acquire()
        except TimeoutError:
            raise StorageBusy(
                f"the write turn of this process did not come within {self._seconds:g} s: SQLite has one writer, and a"
                " transaction that is open elsewhere in this process holds the turn. Do slow work (HTTP, sleeps) before"
                " the first statement of a unit of work, or raise SqlStorage(busy_seconds=...)"
            ) from None

    def give(self) -> None:
        """Let the next one write."""
        self._lock.release()
