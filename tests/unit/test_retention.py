"""What is remembered for two weeks is forgotten after that, and the flow does not notice."""

from __future__ import annotations

import asyncio

from headrace import Limits
from headrace.drivers.memory import MemoryStorage
from headrace.retention import CHUNK, Retention
from headrace.telemetry import Telemetry


class _Counting(MemoryStorage):
    """Pretends to have so many old rows, and records how it was asked."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.asked: list[float] = []
        self.empty = asyncio.Event()

    async def forget(self, *, inbox_older_than_seconds: float, limit: int = 1000) -> int:
        self.asked.append(inbox_older_than_seconds)
        chunk = min(limit, self.rows)
        self.rows -= chunk
        if not self.rows:
            self.empty.set()
        return chunk


async def test_old_rows_are_forgotten_in_chunks_by_the_age_of_the_limits() -> None:
    """The inbox is bounded (G11): rows older than the retention go, at most a chunk a transaction."""
    storage = _Counting(CHUNK + 1)
    retention = Retention(storage, Limits(inbox_retention_seconds=3.0), Telemetry("app"))
    retention.start()
    async with asyncio.timeout(10):
        await storage.empty.wait()
    await retention.stop()
    assert storage.asked == [3.0, 3.0]
