"""What the app does now: read once for all who look, however many they are, and streamed to those who follow it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from headrace.app import Headrace
from headrace.assembly import AppStatus
from headrace.assembly.pulse import ProcessPulse, Rates, read_pulses
from headrace.dashboard.counted import Counts, summed
from headrace.dashboard.reading import Reader, Unreadable
from headrace.storage import Pulse

PACE_SECONDS: Final = 1.5
"""Between two readings, and so between two figures on a page."""

SLOWEST_SECONDS: Final = 30.0
SHARE: Final = 10
"""A reading that takes long is followed by so many times its time: at most a tenth of one connection is used for it."""

STREAM_SECONDS: Final = 120.0
"""How long one stream lasts; the browser opens the next one by itself. Some servers wait for streams before they stop."""

LOOK_SECONDS: Final = 0.25
"""How often a stream looks whether the server wants to stop."""


@dataclass(frozen=True, slots=True)
class Now:
    """What is known at one time.

    Args:
        at: UTC seconds since the epoch, by this process's clock.
        number: grows with each reading.
        status: what waits, and who works it; None if it could not be read.
        processes: those that live, each with what it says.
        here: the name of the process that shows this; None if it is no process of the app, or has not said anything yet.
        counts: of all of them.
        problem: why it could not be read, or None.
    """

    at: float
    number: int
    status: AppStatus | None
    processes: tuple[ProcessPulse, ...]
    here: str | None
    counts: Counts
    problem: str | None = None


class Live:
    """Reads what the app does, for whoever asks; nobody asks the database twice within the pace.

    Args:
        app: of which it tells.
        reader: reads go through it.
        most: streams at once.
    """

    def __init__(self, app: Headrace, reader: Reader, *, most: int) -> None:
        self._app = app
        self._reader = reader
        self._most = most
        self._roles = app.describe().roles
        self._rates = Rates()
        self._first: dict[str, float] = {}
        self._reading: asyncio.Task[Now] | None = None
        self._last: Now | None = None
        self._due = 0.0
        self._streams = 0
        self._stopped = False

    @property
    def streams(self) -> int:
        """How many follow it."""
        return self._streams

    async def now(self) -> Now:
        """What is known now. Never raises for a database that is away: `Now.problem` says so."""
        if self._last is not None and time.monotonic() < self._due:
            return self._last
        reading = self._reading
        if (
            reading is None
            or reading.done()
            or reading.get_loop() is not asyncio.get_running_loop()
        ):
            reading = self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(reading)

    def end(self) -> None:
        """End all streams, within a moment."""
        self._stopped = True

    @property
    def has_room(self) -> bool:
        """True if one more may follow."""
        return self._streams < self._most

    async def follow(self, write: Callable[[Now], str]) -> AsyncIterator[str]:
        """Server-sent events, one for each reading, until the browser leaves, the server stops or the stream is old.

        Args:
            write: makes the data of an event, on one line.
        """
        self._streams += 1
        try:
            if self._streams > self._most:  # several came at the same moment
                yield "retry: 30000\n\n"
                return
            yield "retry: 2000\n\n"
            ends, shown = time.monotonic() + STREAM_SECONDS, -1
            while time.monotonic() < ends and not self._ending():
                now = await self.now()
                if now.number != shown:
                    shown = now.number
                    yield f"data: {write(now)}\n\n"
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._streams -= 1

    def _ending(self) -> bool:
        return self._stopped or _server_stops()

    async def _read(self) -> Now:
        started = time.monotonic()
        number = self._last.number + 1 if self._last is not None else 0
        try:
            status, pulses = await self._reader.read(self._ask)
        except Unreadable as error:
            before = self._last
            now = Now(
                time.time(),
                number,
                None,
                (),
                None,
                before.counts if before is not None else Counts(),
                problem=str(error),
            )
        else:
            here, said = self._said(read_pulses(pulses))
            counts = self._counted(said)
            shown = tuple(one for one in said if one.process)
            now = Now(time.time(), number, status, shown, here, counts)
        cost = time.monotonic() - started
        self._last = now
        self._due = time.monotonic() + min(SLOWEST_SECONDS, max(PACE_SECONDS, SHARE * cost))
        return now

    async def _ask(self) -> tuple[AppStatus, Sequence[Pulse]]:
        storage = self._app.storage
        status = await self._app.status()
        return status, await storage.pulses(self._app.name) if storage is not None else ()

    def _said(self, pulses: Sequence[ProcessPulse]) -> tuple[str | None, tuple[ProcessPulse, ...]]:
        """What the processes say. Of this one, if the app runs in it, more is known than it has last said."""
        if not self._app.running:
            return None, tuple(pulses)
        mine = (os.getpid(), socket.gethostname(), self._roles)
        here = next((one for one in pulses if (one.pid, one.host, one.roles) == mine), None)
        others = tuple(one for one in pulses if one is not here)
        if here is None:  # it has said nothing yet, or there is no storage
            here = ProcessPulse(
                pid=mine[0],
                host=mine[1],
                roles=self._roles,
                started_at=time.time(),
                at=0,
                counts={},
            )
        counts = self._app.telemetry.snapshot()
        return here.process or None, (
            msgspec.structs.replace(here, at=time.time(), age_seconds=0.0, counts=counts),
            *others,
        )

    def _counted(self, said: Sequence[ProcessPulse]) -> Counts:
        rates = self._rates.look(said)
        self._first = {one.process: self._first.get(one.process, one.at) for one in said}
        known = any(one.at > self._first[one.process] for one in said)
        return Counts(summed(one.counts for one in said), rates if known or not said else None)


def _server_stops() -> bool:
    """True if the ASGI server of this process was told to stop, and waits for its connections.

    No message of ASGI tells that while a response is under way; uvicorn has its server behind the signal's handler.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if getattr(getattr(handler, "__self__", None), "should_exit", False) is True:
            return True
    return False
