"""The seam through which a test sees what handlers do: nobody is told anything unless an app was given a recorder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from headrace.bindings import Binding
    from headrace.envelope import Envelope
    from headrace.messages import Event


class Ended(Protocol):
    """What to call when a handler has ended."""

    def __call__(self, error: BaseException | None, raised: Sequence[Event] = (), /) -> None:
        """With its error or None, and the events that it raised, as far as they are known here."""
        ...


class Recorder(Protocol):
    """Told of every event that is emitted and of every run of a handler, in order, on the loop."""

    def raised(self, event: Event, envelope: Envelope) -> None:
        """An event goes to its handlers in the process, or to the outbox."""
        ...

    def began(
        self, binding: Binding, message: object, envelope: Envelope, group: str | None
    ) -> Ended:
        """A handler begins with a message.

        Args:
            binding: of the handler.
            message: the request or event.
            envelope: the message's own.
            group: the group that consumes it; None in the process that raised it.
        """
        ...


def recorded_request(
    run: Callable[..., Awaitable[Any]], binding: Binding, recorder: Recorder
) -> Callable[..., Awaitable[Any]]:
    """A runner of a request that tells the recorder; under one there is a unit of work always."""

    async def recorded(request: Any, unit: Any) -> Any:
        end = recorder.began(binding, request, unit.cause.envelope, None)
        try:
            response = await run(request, unit)
        except BaseException as error:
            end(error)
            raise
        end(None)
        return response

    return recorded


def recorded_event(
    run: Callable[[Any, Any], Awaitable[list[Event] | None]],
    binding: Binding,
    recorder: Recorder,
    group: str | None,
) -> Callable[[Any, Any], Awaitable[list[Event] | None]]:
    """A runner of one handler of an event that tells the recorder."""

    async def recorded(event: Any, unit: Any) -> list[Event] | None:
        end = recorder.began(binding, event, unit.cause.envelope, group)
        try:
            raised = await run(event, unit)
        except BaseException as error:
            end(error)
            raise
        end(None, raised or ())
        return raised

    return recorded
