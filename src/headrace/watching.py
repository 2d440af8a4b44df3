"""What is done about a handler besides running it. It is compiled in, so that it costs nothing where nobody wants it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from headrace.bindings import Binding
from headrace.messages import Event
from headrace.middleware import Middleware, Next
from headrace.signatures import stable_name
from headrace.subscriptions import qualified_name
from headrace.telemetry import Count, Telemetry

Around = Callable[[Awaitable[Any]], Awaitable[Any]]
"""Awaits the call of a handler and answers what it answered."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What a runner does about one handler.

    Args:
        around: awaits its call.
        raised: is told of the events that it has raised, if there are any.
        failed: is told of the error that ended it.
    """

    around: Around | None = None
    raised: Callable[[Sequence[Event]], None] | None = None
    failed: Callable[[Exception], None] | None = None


Watch = Callable[[Binding], Watched]
"""What is to be done about the handler of a binding."""


def failures(telemetry: Telemetry) -> Watch:
    """Counts failures by handler, and nothing else: a handler that succeeds pays nothing."""

    def watch(binding: Binding) -> Watched:
        return Watched(failed=_failed(telemetry, binding))

    return watch


def everything(telemetry: Telemetry) -> Watch:
    """Counts what each handler handled, what it raised, and its failures."""

    def watch(binding: Binding) -> Watched:
        handler, message = stable_name(binding.handler), stable_name(binding.message)
        handled = (("handler", handler), ("message", message))

        async def around(call: Awaitable[Any]) -> Any:
            answer = await call
            telemetry.tally(Count.HANDLED, handled)
            return answer

        def raised(events: Sequence[Event]) -> None:
            for event in events:
                kind: type = type(event)
                labels = (("event", stable_name(kind)), ("handler", handler))
                telemetry.tally(Count.RAISED, labels)

        return Watched(around, raised, _failed(telemetry, binding))

    return watch


def sends(telemetry: Telemetry) -> Middleware:
    """A request middleware that counts sends, and those that failed."""

    async def sending(request: Any, call_next: Next) -> Any:
        kind = stable_name(cast(type, type(request)))
        telemetry.tally(Count.SENT, (("request", kind),))
        try:
            return await call_next(request)
        except Exception as error:
            labels = (("error", qualified_name(type(error))), ("request", kind))
            telemetry.tally(Count.SEND_FAILED, labels)
            raise

    return sending


def _failed(telemetry: Telemetry, binding: Binding) -> Callable[[Exception], None]:
    handler, message = stable_name(binding.handler), stable_name(binding.message)

    def failed(error: Exception) -> None:
        labels = (
            ("error", qualified_name(type(error))),
            ("handler", handler),
            ("message", message),
        )
        telemetry.tally(Count.HANDLER_FAILED, labels)

    return failed
