"""Flying: replays the log until every notification is handled, and tells a view how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import accumulate

from examples.flights.log import FlightLog, Happening, Kind
from examples.flights.operations import LONG_DELAY_MINUTES
from examples.flights.progress import Reading
from examples.flights.replay import FindPlace, ReplayStep
from examples.flights.statistics import ReadFigures
from headrace import Headrace
from headrace.errors import DrainTimeout
from headrace.storage import Storage, outbox_queue
from headrace.telemetry import Count

STEP = 200
"""Commands in one transaction: few enough that the consumer's transactions, which take turns with it, need not wait."""

LOOK_SECONDS = 0.2
SETTLE_SECONDS = 10.0


class Flying:
    """The replay of a log through a running app.

    Args:
        app: runs.
        storage: the app's; asked for the outbox's lag.
        log: what is replayed.
    """

    def __init__(self, app: Headrace, storage: Storage, log: FlightLog) -> None:
        self._app = app
        self._storage = storage
        self._happenings = log.happenings
        self._told = [0, *accumulate(_notifications(h) for h in log.happenings)]
        self._replayed = 0
        self._handled_before = 0

    @property
    def commands(self) -> int:
        """How many there are in the log."""
        return len(self._happenings)

    @property
    def notifications(self) -> int:
        """How many all the commands make."""
        return self._told[-1]

    async def find_place(self) -> Reading:
        """Find out how far an earlier run came."""
        place = await self._app.send(FindPlace())
        self._replayed = place.done if place else 0
        figures = await self._app.send(ReadFigures())
        self._handled_before = figures.handled - self._app.telemetry.counts[Count.CONSUMED]
        return await self.reading()

    async def reading(self) -> Reading:
        """How far it is now."""
        backlog = await self._storage.backlog(outbox_queue(self._app.name))
        return Reading(
            replayed=self._replayed,
            published=max(0, self._told[self._replayed] - backlog.ready),
            handled=self._handled,
            waiting=backlog.ready,
            oldest_seconds=backlog.oldest_seconds,
        )

    async def fly(self, show: Callable[[Reading], None]) -> None:
        """Replay what is left, and wait until every notification is handled or a dead letter."""
        watch = asyncio.create_task(self._watch(show))
        try:
            while step := await self._app.send(ReplayStep(STEP)):
                self._replayed += step
            await self._handle_all()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        show(await self.reading())

    @property
    def _handled(self) -> int:
        return self._handled_before + self._app.telemetry.counts[Count.CONSUMED]

    async def _watch(self, show: Callable[[Reading], None]) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            show(await self.reading())

    async def _handle_all(self) -> None:
        # Settling looks at every queue many times a second: not while there is much to do.
        seen = -1
        while seen < self._handled < self.notifications:
            seen = self._handled
            await asyncio.sleep(1.0)
        while True:
            seen = self._handled
            try:
                return await self._app.settle(SETTLE_SECONDS)
            except DrainTimeout:
                if self._handled == seen:
                    raise


def _notifications(happening: Happening) -> int:
    delay = happening.flight.departure_delay or 0
    return 2 if happening.kind is Kind.DEPARTURE and delay >= LONG_DELAY_MINUTES else 1
