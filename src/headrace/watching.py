"""What is counted, timed and traced of sends and handlers: compiled in, so that it costs nothing where nobody wants it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any, cast

from msgspec import Struct

from headrace.bindings import Binding
from headrace.causes import callers_trace
from headrace.errors import HandlerCancelled, HandlerTimeout
from headrace.messages import Event
from headrace.middleware import Middleware, Next
from headrace.signatures import stable_name
from headrace.subscriptions import qualified_name
from headrace.telemetry import Count, Telemetry

time_is_over: ContextVar[Callable[[], bool] | None] = ContextVar(
    "headrace_time_is_over", default=None
)
"""Set while a consumed message is handled: tells whether its time-out has struck."""

Around = Callable[[Awaitable[Any]], Awaitable[Any]]
"""Awaits the call of a handler and answers what it answered."""


class Watched(Struct, frozen=True):
    """What a runner does about one handler.

    Args:
        around: awaits its call.
        handled: counts in its first place how often it succeeded.
        raised: is told of the events that it has raised, if there are any.
        failed: is told of the error that ended it.
    """

    around: Around | None = None
    handled: list[int] | None = None
    raised: Callable[[Sequence[Event]], None] | None = None
    failed: Callable[[BaseException], None] | None = None


Watch = Callable[[Binding], Watched]
"""What is to be done about the handler of a binding."""


def failures(telemetry: Telemetry) -> Watch:
    """Counts failures by handler, and nothing else: a handler that succeeds pays nothing."""

    def watch(binding: Binding) -> Watched:
        return Watched(failed=_failed(telemetry, binding))

    return watch


def everything(telemetry: Telemetry) -> Watch:
    """A span and a duration for each run of a handler, where there is an SDK; counts by `observe_sends`."""

    def watch(binding: Binding) -> Watched:
        handler, message = stable_name(binding.handler), stable_name(binding.message)
        around = _measured(telemetry, handler, message) if telemetry.collected else None
        if not telemetry.observe_sends:
            return Watched(around, failed=_failed(telemetry, binding))
        handled = telemetry.cell(Count.HANDLED, (("handler", handler), ("message", message)))
        cells = _Cells(
            lambda kind: telemetry.cell(
                Count.RAISED, (("event", stable_name(kind)), ("handler", handler))
            )
        )

        def raised(events: Sequence[Event]) -> None:
            for event in events:
                cells[type(event)][0] += 1

        return Watched(around, handled, raised, _failed(telemetry, binding))

    return watch


def sends(telemetry: Telemetry) -> Middleware:
    """A request middleware: a span and a duration for each send, where there is an SDK; counts by `observe_sends`."""
    measured = _sending(telemetry) if telemetry.collected else None
    if measured is not None and not telemetry.observe_sends:
        return measured
    sent = _Cells(lambda kind: telemetry.cell(Count.SENT, (("request", stable_name(kind)),)))

    async def counting(request: Any, call_next: Next) -> Any:
        sent[type(request)][0] += 1
        try:
            if measured is None:
                return await call_next(request)
            return await measured(request, call_next)
        except Exception as error:
            kind = stable_name(cast(object, type(request)))
            labels = (("error", qualified_name(type(error))), ("request", kind))
            telemetry.tally(Count.SEND_FAILED, labels)
            raise

    return counting


class _Cells(dict[type, list[int]]):
    """What is counted of each type, made when the first one comes: a count costs no name, no labels and no call."""

    def __init__(self, make: Callable[[type], list[int]]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, kind: type) -> list[int]:
        cell = self[kind] = self._make(kind)
        return cell


def _measured(telemetry: Telemetry, handler: str, message: str) -> Around:
    async def around(call: Awaitable[Any]) -> Any:
        tracing, metering = telemetry.tracing, telemetry.metering
        began, failed = time.perf_counter(), None
        try:
            with tracing.handling(handler, message) if tracing is not None else _NOTHING:
                return await call
        except BaseException as error:
            failed = error
            raise
        finally:
            if metering is not None:
                metering.handled(handler, message, time.perf_counter() - began, failed)

    return around


def _sending(telemetry: Telemetry) -> Middleware:
    async def sending(request: Any, call_next: Next) -> Any:
        kind = stable_name(cast(object, type(request)))
        tracing, metering = telemetry.tracing, telemetry.metering
        began, failed = time.perf_counter(), None
        try:
            if tracing is None:
                return await call_next(request)
            with tracing.sending(kind, callers_trace.get()):
                return await call_next(request)
        except BaseException as error:
            failed = error
            raise
        finally:
            if metering is not None:
                metering.sent(kind, time.perf_counter() - began, failed)

    return sending


_NOTHING = nullcontext()


def _failed(telemetry: Telemetry, binding: Binding) -> Callable[[BaseException], None]:
    handler, message = stable_name(binding.handler), stable_name(binding.message)

    def failed(error: BaseException) -> None:
        kind = _kind_of(error)
        if kind is None:
            return
        labels = (
            ("error", qualified_name(kind)),
            ("handler", handler),
            ("message", message),
        )
        telemetry.tally(Count.HANDLER_FAILED, labels)

    return failed


def _kind_of(error: BaseException) -> type[BaseException] | None:
    """What a handler failed of; None if it was only stopped: by a shutdown, or by who called it."""
    over = time_is_over.get()
    # First, because a driver whose statement was cut by the time-out reports a lost connection.
    if over is not None and over():
        return HandlerTimeout
    if isinstance(error, Exception):
        return type(error)
    if over is None or not isinstance(error, asyncio.CancelledError):
        return None
    task = asyncio.current_task()
    return HandlerCancelled if task is not None and not task.cancelling() else None
