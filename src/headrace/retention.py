"""Retention: what consumers have remembered long enough is forgotten, a little at a time, so that storage stays bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.backoff import Outage
from headrace.telemetry import Count
from headrace.worker import Worker, infrastructure

if TYPE_CHECKING:
    from headrace.limits import Limits
    from headrace.storage import Storage
    from headrace.telemetry import Telemetry

CHUNK = 1000
"""Rows forgotten in one transaction: it takes milliseconds, so the flow does not wait for it."""

PAUSE_SECONDS = 60.0
"""How long nothing is looked for when there was less than a chunk; a process handles few chunks in a minute."""


class Retention:
    """Forgets inbox rows that were handled longer ago than `Limits.inbox_retention_seconds` (G7, G11).

    Args:
        storage: has the inbox.
        limits: tells how long it remembers.
        telemetry: the app's.
    """

    def __init__(self, storage: Storage, limits: Limits, telemetry: Telemetry) -> None:
        self._storage = storage
        self._seconds = limits.inbox_retention_seconds
        outage = Outage(
            "Forgetting old inbox rows",
            Count.CONSUMER_PAUSED,
            telemetry,
            lambda error: infrastructure(storage, error),
        )
        self._worker = Worker("headrace retention", self._step, outage)

    def start(self) -> None:
        """Start in the background."""
        self._worker.start()

    @property
    def idle(self) -> bool:
        """True while it forgets nothing."""
        return self._worker.idle

    def wake(self) -> None:
        """Look at once."""
        self._worker.wake()

    async def stop(self) -> None:
        """Let the chunk that runs end."""
        await self._worker.stop(drain_seconds=5.0)

    async def _step(self) -> float:
        forgotten = await self._storage.forget(inbox_older_than_seconds=self._seconds, limit=CHUNK)
        return 1.0 if forgotten == CHUNK else PAUSE_SECONDS
