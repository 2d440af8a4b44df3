"""The dispatcher: from one event to its in-process handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from headrace.bindings import Binding
from headrace.container import Container, RunningUnit, Scope
from headrace.container.dishka import as_container
from headrace.errors import BindingError
from headrace.injection import Injector
from headrace.learnt import Learnt
from headrace.maps import EventMap
from headrace.messages import Event
from headrace.middleware import Middleware, compose
from headrace.recorder import Recorder, recorded_event
from headrace.runners import EventRunner, event_runner
from headrace.watching import Watch

if TYPE_CHECKING:
    from dishka import AsyncContainer


class DispatchUnit(RunningUnit, Protocol):
    """What a runner needs of the running unit of work: the scope, opened at first use."""

    scope: Scope | None

    def open_scope(self) -> Scope:
        """Open and keep the unit's scope."""
        ...

    def branch(self) -> Self:
        """A unit with a scope of its own, for a handler that runs in parallel."""
        ...

    def merge(self, branch: Self, /) -> None:
        """Take over what a branch has collected."""
        ...

    async def finish(self, error: BaseException | None) -> None:
        """Close it and finalize its scope, if one was opened."""
        ...


class EventDispatcher:
    """Finds the handlers of a domain event, gives them their dependencies and runs them.

    Handlers run one after another in the order bound: those of the exact type first, then those of its bases, each once
    (G3). The first error ends the dispatch, unwrapped.

    Args:
        event_map: which handlers run for which event.
        container: where their dependencies come from: a dishka container, or another `headrace.container.Container`.
        concurrency: with more than 1, the handlers of an event run as that many tasks at a time, each with a scope of its
            own; the first error cancels the rest, several at once are an `ExceptionGroup`. Only for apps without storage,
            because handlers under one transaction can never run in parallel. Default 1: one after another.
        middlewares: wrapped around each handler's run, the first outermost.
    """

    def __init__(
        self,
        event_map: EventMap,
        container: Container | AsyncContainer,
        *,
        concurrency: int = 1,
        middlewares: Sequence[Middleware] = (),
    ) -> None:
        if concurrency < 1:
            raise BindingError(
                f"EventDispatcher(concurrency={concurrency}): give 1 (one after another) or more."
            )
        self.event_map = event_map
        self.container: Container = as_container((), container)
        self.concurrency = concurrency
        self.middlewares = tuple(middlewares)
        self.injector = Injector(self.container)
        self.recorder: Recorder | None = None
        """Told of what handlers do; for `headrace.testing`."""
        self.learnt = Learnt()
        """What handlers have raised without declaring it."""
        self.watch: Watch | None = None
        """What is done about each handler besides running it; set before the runners are made."""
        self.watch_consumed: Watch | None = None
        """The same for handlers of what was stored or published before: consumed, and after the commit."""
        self.runners: dict[type, EventRunner] = {}

    def needs_unit(self) -> bool:
        """True if a bound handler asks for something that only a unit of work has, or a recorder is to know what caused what."""
        return self.recorder is not None or any(
            self.injector.plan(b.handler, skip_first=b.is_function).needs_unit
            for b in self.event_map.bindings
        )

    async def prepare(self, event_type: type) -> EventRunner | None:
        """The runner of an event type, made at its first use; None if it has no handler."""
        known = self.runners.get(event_type)
        if known is not None:
            return known
        bindings = self.event_map.handlers_of(event_type, phase="in_transaction")
        if not bindings:
            return None
        runner = await self.runner_of(event_type.__qualname__, bindings)
        self.runners[event_type] = runner
        return runner

    async def runner_of(
        self,
        label: str,
        bindings: Sequence[Binding],
        *,
        consumed: bool = False,
        group: str | None = None,
    ) -> EventRunner:
        """A runner of just these handlers; `consumed` if they run apart from what raised the event, perhaps in a `group`."""
        watch = self.watch_consumed if consumed else self.watch
        calls = [
            (b, await self.injector.ready(self.injector.plan(b.handler, skip_first=b.is_function)))
            for b in bindings
        ]
        if (
            not self.middlewares
            and self.recorder is None
            and (self.concurrency == 1 or len(calls) == 1)
        ):
            return event_runner(label, calls, self.learnt, watch)
        singles = [
            event_runner(f"{label} by {b.name}", [(b, plan)], self.learnt, watch)
            for b, plan in calls
        ]
        if self.recorder is not None:
            singles = [
                recorded_event(single, b, self.recorder, group)
                for single, (b, _) in zip(singles, calls, strict=True)
            ]
        if self.middlewares:
            singles = [_wrapped(single, self.middlewares) for single in singles]
        if self.concurrency > 1 and len(singles) > 1:
            return _parallel(singles, self.concurrency)
        return _sequence(singles)

    def forget(self) -> None:
        """Drop all runners and the objects that they hold (the app has stopped)."""
        self.runners.clear()

    async def dispatch(self, event: Event, unit: Any = None) -> list[Event] | None:
        """Run all handlers of the event; answer the follow-up events in order, or None if there are none."""
        runner = self.runners.get(type(event)) or await self.prepare(type(event))
        return await runner(event, unit) if runner is not None else None


def _wrapped(single: EventRunner, middlewares: Sequence[Middleware]) -> EventRunner:
    async def run(event: Any, unit: Any) -> list[Event] | None:
        follow: list[Event] = []

        async def handler(message: Any) -> None:
            follow.extend(await single(message, unit) or ())

        await compose(middlewares, handler)(event)
        return follow

    return run


def _sequence(singles: Sequence[EventRunner]) -> EventRunner:
    async def run(event: Any, unit: Any) -> list[Event] | None:
        follow: list[Event] = []
        for single in singles:
            follow.extend(await single(event, unit) or ())
        return follow

    return run


def _parallel(singles: Sequence[EventRunner], limit: int) -> EventRunner:
    async def one(
        single: EventRunner, event: Any, unit: DispatchUnit | None, gate: asyncio.Semaphore
    ) -> tuple[list[Event], DispatchUnit | None]:
        async with gate:
            branch = unit.branch() if unit is not None else None
            error: BaseException | None = None
            try:
                return await single(event, branch) or [], branch
            except BaseException as raised:
                error = raised
                raise
            finally:
                if branch is not None:
                    await branch.finish(error)

    async def run(event: Any, unit: Any) -> list[Event] | None:
        gate = asyncio.Semaphore(limit)
        alone: BaseException | None = None
        tasks: list[asyncio.Task[tuple[list[Event], DispatchUnit | None]]] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks += [group.create_task(one(single, event, unit, gate)) for single in singles]
        except BaseExceptionGroup as errors:
            if len(errors.exceptions) > 1:
                raise
            alone = next(iter(errors.exceptions))
        if alone is not None:  # outside of the except, which would change its cause or its context
            raise alone
        follow: list[Event] = []
        for task in tasks:
            raised, branch = task.result()
            follow.extend(raised)
            if branch is not None:
                unit.merge(branch)
        return follow

    return run
