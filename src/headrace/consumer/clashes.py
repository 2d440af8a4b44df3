"""Batches of several partitions that keep locking each other out: for a while they take turns (G7).

Two batches that change the same rows in different orders deadlock, and the database undoes one of them, often after a second
of waiting. Where that happens once it happens again and again: the same rows are hot in every batch. One after the other,
the batches of a process cannot clash, and the work goes on at the speed of one connection, which batches use well.

Source: the multiplicative back-off of Ethernet, R. Metcalfe and D. Boggs (1976), on the time for which turns are kept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

FIRST_BATCHES = 50
"""Batches that take turns after a first clash: with the second that a deadlock may cost, one part in some ten of their time."""

MOST_BATCHES = 6_400
"""And after many clashes, each of which doubles the number: minutes, after which all partitions are tried at once again."""

PAUSE_SECONDS = 0.02
"""The longest pause after a clash: who clashed do not begin again at the same moment."""


class Clashes:
    """Whether batches of the partitions of a subscription run side by side or one after the other, in this process."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._span = FIRST_BATCHES
        self._left = 0

    @property
    def expected(self) -> bool:
        """True while batches take turns."""
        return self._left > 0

    @asynccontextmanager
    async def avoided(self) -> AsyncGenerator[None]:
        """Run a batch within it."""
        if not self._left:
            yield
            return
        async with self._lock:
            self._left = max(self._left - 1, 0)
            yield

    async def happened(self) -> None:
        """A batch was undone because it and another transaction waited for each other; returns when it may be tried again."""
        if not self._left:
            self._left, self._span = self._span, min(self._span * 2, MOST_BATCHES)
        await asyncio.sleep(random.uniform(0.0, PAUSE_SECONDS))
