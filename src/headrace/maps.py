"""Which handler answers which request, and which handlers listen to which event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Concatenate, TypeVar, get_args, overload

from headrace.bindings import Binding, Phase, make_binding, message_class, nearest
from headrace.errors import BindingError, HandlerNotFound
from headrace.handlers import EventHandler, RequestHandler
from headrace.messages import RequestType, is_event, is_request, notification_of
from headrace.signatures import calling_place, name_of

Q = TypeVar("Q")
R = TypeVar("R")
E = TypeVar("E")


class RequestMap:
    """The one handler of each class of requests.

    Keeps everything that was bound, also a second handler for the same request: the app reports all such faults
    together when it starts (G12).
    """

    __slots__ = ("_bindings",)

    def __init__(self) -> None:
        self._bindings: list[Binding] = []

    @overload
    def bind(
        self,
        request: RequestType[Q, R],
        handler: type[RequestHandler[Q, R]],
        *,
        raises: Iterable[type[object]] | None = None,
    ) -> None: ...
    @overload
    def bind(
        self,
        request: RequestType[Q, R],
        handler: Callable[Concatenate[Q, ...], Awaitable[R]],
        *,
        raises: Iterable[type[object]] | None = None,
    ) -> None: ...
    def bind(
        self, request: object, handler: object, *, raises: Iterable[type[object]] | None = None
    ) -> None:
        """Bind the handler of a class of requests.

        Args:
            request: the class. One without a base of Headrace works too, but checkers cannot know its response.
            handler: a `RequestHandler` class, or an async function whose first parameter is the request.
            raises: the classes of all events that the handler may raise; raising another is then an error. Default
                None: not declared, learnt as they are raised.

        Raises:
            BindingError: request is no class of requests, or handler is neither an async function nor a class with an
                async `handle`.
        """
        self._add(request, handler, raises=raises, place=calling_place())

    def _add(
        self, request: object, handler: object, *, raises: Iterable[type[object]] | None, place: str
    ) -> None:
        message = message_class(request, place)
        if is_event(message):
            raise BindingError(
                f"{place}: {name_of(message)} is an event, not a request. Bind it with EventMap.bind, or take Command "
                f"or Request as its base."
            )
        self._bindings.append(
            make_binding(message, handler, EventHandler, raises, "in_transaction", place)
        )

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """All that was bound, in order, duplicates included."""
        return tuple(self._bindings)

    def get(self, request: type) -> Binding | None:
        """The handler of exactly this class: the first bound, or None."""
        return next((b for b in self._bindings if b.message is request), None)

    def include(self, other: RequestMap) -> None:
        """Add all that is bound in another map, behind what is bound here."""
        self._bindings.extend(other.bindings)

    def not_found(self, request: type) -> HandlerNotFound:
        """The error for a request that has no handler, with the nearest names that have one (G1)."""
        if type in request.__mro__:
            return HandlerNotFound(
                "a class was sent instead of a request, nothing was done. Send an instance of it: send(JoinMeeting(...))."
            )
        near = nearest(request.__name__, (b.message.__name__ for b in self._bindings))
        hint = f" Bound are, nearest first: {', '.join(near)}." if near else ""
        if not self._bindings:
            hint = (
                " No request is bound at all: was the module with the handlers passed to the app?"
            )
        return HandlerNotFound(
            f"no handler is bound to the request {name_of(request)}, nothing was done. "
            f"Bind one: requests.bind({request.__name__}, {request.__name__}Handler).{hint}"
        )


class EventMap:
    """The handlers of each class of events: any number, in the order bound."""

    __slots__ = ("_bindings",)

    def __init__(self) -> None:
        self._bindings: list[Binding] = []

    @overload
    def bind(
        self,
        event: type[E],
        handler: type[EventHandler[E]],
        *,
        raises: Iterable[type[object]] | None = None,
        phase: Phase = "in_transaction",
    ) -> None: ...
    @overload
    def bind(
        self,
        event: type[E],
        handler: Callable[Concatenate[E, ...], Awaitable[None]],
        *,
        raises: Iterable[type[object]] | None = None,
        phase: Phase = "in_transaction",
    ) -> None: ...
    def bind(
        self,
        event: object,
        handler: object,
        *,
        raises: Iterable[type[object]] | None = None,
        phase: Phase = "in_transaction",
    ) -> None:
        """Bind one more handler to a class of events.

        A handler of a domain event runs in the process that raised it, also for events of subclasses. A handler of a
        notification runs where it is consumed.

        Args:
            event: the class, or a base class that several events share.
            handler: an `EventHandler` class, or an async function whose first parameter is the event.
            raises: the classes of all events that the handler may raise; raising another is then an error. Default
                None: not declared, learnt as they are raised.
            phase: "in_transaction", the default: inside the unit of work, so that its effects commit with the event's
                cause or not at all. "after_commit": after it, in a unit of its own, for what must not hold up or undo
                the cause; domain events only. In an app with storage it is durable: stored with the commit, its effects
                once.

        Raises:
            BindingError: event is no class of events, handler is neither an async function nor a class with an async
                `handle`, or the phase does not exist or is not for notifications.
        """
        self._add(event, handler, raises=raises, phase=phase, place=calling_place())

    def _add(
        self,
        event: object,
        handler: object,
        *,
        raises: Iterable[type[object]] | None,
        phase: Phase,
        place: str,
    ) -> None:
        message = message_class(event, place)
        if is_request(message):
            raise BindingError(
                f"{place}: {name_of(message)} is a request, not an event. Bind it with "
                f"RequestMap.bind, or take DomainEvent or Event as its base."
            )
        if phase not in get_args(Phase):
            known = ", ".join(repr(name) for name in get_args(Phase))
            raise BindingError(f"{place}: phase={phase!r} does not exist. Give one of {known}.")
        if phase == "after_commit" and notification_of(message) is not None:
            raise BindingError(
                f"{place}: {name_of(message)} is a notification; its handlers run where it is consumed, always after "
                f"the commit. Leave phase= out."
            )
        self._bindings.append(make_binding(message, handler, RequestHandler, raises, phase, place))

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """All that was bound, in order."""
        return tuple(self._bindings)

    def handlers_of(self, event: type, *, phase: Phase = "in_transaction") -> tuple[Binding, ...]:
        """The handlers of an event of this class: exact type first, then those of its bases in MRO order (G3).

        Each handler stands once, at its first place; those of one class in the order bound.
        """
        found: dict[object, Binding] = {}
        for cls in event.__mro__:
            for binding in self._bindings:
                if binding.message is cls and binding.phase == phase:
                    found.setdefault(binding.handler, binding)
        return tuple(found.values())

    @classmethod
    def of(cls, bindings: Iterable[Binding]) -> EventMap:
        """A map of just these bindings."""
        chosen = cls()
        chosen._bindings.extend(bindings)
        return chosen

    def include(self, other: EventMap) -> None:
        """Add all that is bound in another map, behind what is bound here."""
        self._bindings.extend(other.bindings)
