"""Several worker processes of one app, kept running by the one that started them."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

from headrace.backoff import Backoff
from headrace.cli.ending import Code
from headrace.cli.stopping import GRACE_SECONDS, Stopping
from headrace.telemetry import LogEvent, Telemetry
from headrace.worker import pause

STEADY_SECONDS = 60.0
"""A process that ran so long was started well: if it dies, the next one is started without much delay."""

_NOT_BEGUN = (-signal.SIGTERM, -signal.SIGINT)
"""Ends by a signal that was not listened to yet: the process had been told to stop before it began anything."""


class Processes:
    """Starts processes, starts a dead one again after a growing delay, and stops all of them together.

    They run until their standard input ends. So they drain too if this process is killed.

    Args:
        command: what each runs.
        number: how many.
        telemetry: the app's, for what people should know.
    """

    def __init__(self, command: Sequence[str], number: int, telemetry: Telemetry) -> None:
        self._command = tuple(command)
        self._number = number
        self._telemetry = telemetry
        self._running: set[asyncio.subprocess.Process] = set()
        self._codes: list[int] = []

    def run(self, stopping: Stopping, drain_seconds: float) -> int:
        """Run them until told to stop, or until one finds a fault that starting again does not mend."""
        return asyncio.run(self._run(stopping, drain_seconds))

    def kill(self) -> None:
        """End all of them at once."""
        for process in tuple(self._running):
            try:
                process.kill()
            except ProcessLookupError:
                pass

    async def _run(self, stopping: Stopping, drain_seconds: float) -> int:
        # Each child ends by itself in time; what it needs for that is added to what this process waits.
        stop = stopping.watch(drain_seconds + GRACE_SECONDS)
        slots = [asyncio.create_task(self._slot(n, stop)) for n in range(1, self._number + 1)]
        try:
            await asyncio.gather(*slots)
        finally:
            self.kill()
        faults = [code for code in self._codes if code != Code.DONE]
        if not faults:
            return Code.DONE
        return next((c for c in faults if c in (Code.FAULT, Code.USAGE)), Code.CUT)

    async def _slot(self, number: int, stop: asyncio.Event) -> None:
        """One process after another."""
        clock = asyncio.get_running_loop().time
        backoff = Backoff()
        while not stop.is_set():
            began = clock()
            code = await self._one(number, stop)
            if stop.is_set() and code in _NOT_BEGUN:
                code = Code.DONE
            if stop.is_set() or code in (Code.FAULT, Code.USAGE):
                self._codes.append(code)
                stop.set()
                return
            if clock() - began >= STEADY_SECONDS:
                backoff.reset()
            wait = backoff.next()
            self._telemetry.warning(
                LogEvent.PROCESS_ENDED,
                f"Process {number} of {self._number} has ended {_told(code)}; another one starts in {wait:.1f} s.",
                exit_code=code,
            )
            await pause(stop, wait)

    async def _one(self, number: int, stop: asyncio.Event) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE
        )
        self._running.add(process)
        self._telemetry.info(
            LogEvent.PROCESS_STARTED,
            f"Process {number} of {self._number} has started (pid {process.pid}).",
            pid=process.pid,
        )
        ending = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({ending, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if process.stdin is not None:
                process.stdin.close()
            return await ending
        finally:
            stopped.cancel()
            self._running.discard(process)


def command_of(app: str, roles: Sequence[str], log_level: str) -> tuple[str, ...]:
    """The command of a child process."""
    only = [part for role in roles for part in ("--only", role)]
    return (
        *(sys.executable, "-m", "headrace", "worker", app, *only),
        *("--log-level", log_level, "--until-end-of-input"),
    )


def _told(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
