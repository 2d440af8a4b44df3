"""After-commit handlers of apps without storage: run when the send has succeeded, in the background, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from headrace.bindings import Binding
from headrace.causes import Cause
from headrace.mediator import RequestMediator
from headrace.messages import Event
from headrace.runners import EventRunner
from headrace.signatures import stable_name
from headrace.telemetry import Count, LogEvent, Telemetry, about
from headrace.unit_of_work import current_unit
from headrace.worker import CANCEL_SECONDS, cancelled, ended

CONCURRENCY = 16
"""Handlers that run at a time; more wait, so that a burst does not take all connections."""

PENDING = 1000
"""Handlers that have not ended, at which new sends begin to wait. Each is a task of some kilobytes."""


class AfterCommit:
    """Runs `events.bind(E, H, phase="after_commit")` handlers. There is no order among them; errors are logged and counted.

    Args:
        mediator: gives each handler a unit of its own.
        telemetry: where errors are logged and counted.
    """

    def __init__(self, mediator: RequestMediator, telemetry: Telemetry) -> None:
        self._mediator = mediator
        self._telemetry = telemetry
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate: asyncio.Semaphore | None = None
        self._runners: dict[Binding, EventRunner] = {}

    def run(self, events: Sequence[tuple[Event, Cause]]) -> None:
        """Start the handlers of these events; does not wait."""
        gate = self._gate = self._gate or asyncio.Semaphore(CONCURRENCY)
        event_map = self._mediator.emitter.dispatcher.event_map
        for event, cause in events:
            for binding in event_map.handlers_of(type(event), phase="after_commit"):
                task = asyncio.create_task(self._one(binding, event, cause, gate))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def room(self) -> None:
        """Wait while more handlers are pending than memory is meant to hold (G11). A handler's own sends do not wait."""
        while len(self._tasks) >= PENDING:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def drain(self, timeout_seconds: float) -> None:
        """Wait for the handlers under way, and those that they cause, at most so long, then cancel the rest."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_seconds
        try:
            while self._tasks and clock() < deadline:
                await asyncio.wait(self._tasks, timeout=deadline - clock())
        finally:
            # Also when the stop is cancelled: nobody else knows of these tasks.
            try:
                await self._cut()
            finally:
                self._gate = None
                self._runners.clear()

    async def _cut(self) -> None:
        late = list(self._tasks)
        if not late:
            return
        for task in late:
            task.cancel()
        self._telemetry.count(Count.AFTER_COMMIT_FAILED, len(late))
        self._telemetry.count(Count.DRAIN_CUT)
        self._telemetry.warning(
            LogEvent.DRAIN_CUT, f"{len(late)} after-commit handlers were cancelled by the stop"
        )
        try:
            await ended(late, CANCEL_SECONDS)
        finally:
            if stuck := [task for task in late if not task.done()]:
                self._telemetry.error(
                    LogEvent.DRAIN_STUCK,
                    f"{len(stuck)} after-commit handlers went on {CANCEL_SECONDS:g} seconds after they were cancelled; the stop "
                    "does not wait for them. Let handlers pass CancelledError on.",
                )

    @property
    def running(self) -> int:
        """How many handlers have not ended."""
        return len(self._tasks)

    async def _one(
        self, binding: Binding, event: Event, cause: Cause, gate: asyncio.Semaphore
    ) -> None:
        current_unit.set(None)  # in this task: the send is over, nothing of its unit may be joined
        async with gate:
            try:
                run = self._runners.get(binding)
                if run is None:
                    run = await self._mediator.emitter.dispatcher.runner_of(
                        binding.name, [binding], consumed=True
                    )
                    self._runners[binding] = run
                await self._mediator.units.run_apart(run, event, cause)
            except (Exception, asyncio.CancelledError) as error:
                if cancelled(error):
                    raise
                self._telemetry.count(
                    Count.AFTER_COMMIT_FAILED, handler=stable_name(binding.handler)
                )
                self._telemetry.error(
                    LogEvent.AFTER_COMMIT_FAILED,
                    f"the after-commit handler {binding.name} of {type(event).__qualname__} failed",
                    error,
                    handler=stable_name(binding.handler),
                    event_type=type(event).__qualname__,
                    **about(cause.envelope),
                )
