"""A module: the handlers, dependencies and subscriptions of one bounded context, gathered to be put into an app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Concatenate, Literal, Never, TypeVar, overload

from headrace.bindings import Phase, message_class
from headrace.errors import BindingError
from headrace.generics import generic_arguments
from headrace.handlers import EventHandler, RequestHandler
from headrace.maps import EventMap, RequestMap
from headrace.messages import Event, RequestType, is_event, is_request
from headrace.signatures import SignatureFault, calling_place, message_types_of, name_of, where

Q = TypeVar("Q")
R = TypeVar("R")
E = TypeVar("E", bound=Event)
H = TypeVar(
    "H",
    bound=Callable[..., Awaitable[object]]
    | type[RequestHandler[Never, object]]
    | type[EventHandler[Never]],
)

Kind = Literal["request", "event"]
"""What a foreign message class is, which its own bases do not tell."""


class Module:
    """The handlers, dependencies and subscriptions of one bounded context.

        module = Module("meetings")

        @module.handler
        async def join_meeting(request: JoinMeeting, meetings: Meetings, events: Events) -> None:
            await meetings.add(request.meeting_id, request.user_id)
            events.append(UserJoined(request.user_id, request.meeting_id))

        app = Headrace("shop", modules=[module, billing])

    Args:
        name: of the bounded context, for people.
        providers: what the handlers depend on: dishka providers, classes (one object a send) and instances (one object
            for the app). Default none.
        subscriptions: refinements of the subscriptions that binding a notification makes. Default none.

    Source: "Bounded Context", Domain-Driven Design Reference, E. Evans.
    """

    __slots__ = ("events", "name", "providers", "requests", "subscriptions")

    def __init__(
        self, name: str, *, providers: Iterable[object] = (), subscriptions: Iterable[object] = ()
    ) -> None:
        self.name = name
        self.requests = RequestMap()
        self.events = EventMap()
        self.providers: tuple[object, ...] = tuple(providers)
        self.subscriptions: tuple[object, ...] = tuple(subscriptions)

    def __repr__(self) -> str:
        return f"Module({self.name!r})"

    @overload
    def bind(
        self,
        message: RequestType[Q, R],
        handler: type[RequestHandler[Q, R]],
        *,
        raises: Iterable[type[object]] | None = None,
    ) -> None: ...
    @overload
    def bind(
        self,
        message: RequestType[Q, R],
        handler: Callable[Concatenate[Q, ...], Awaitable[R]],
        *,
        raises: Iterable[type[object]] | None = None,
    ) -> None: ...
    @overload
    def bind(
        self,
        message: type[E],
        handler: type[EventHandler[E]],
        *,
        raises: Iterable[type[object]] | None = None,
        phase: Phase = "in_transaction",
    ) -> None: ...
    @overload
    def bind(
        self,
        message: type[E],
        handler: Callable[Concatenate[E, ...], Awaitable[None]],
        *,
        raises: Iterable[type[object]] | None = None,
        phase: Phase = "in_transaction",
    ) -> None: ...
    def bind(
        self,
        message: object,
        handler: object,
        *,
        raises: Iterable[type[object]] | None = None,
        phase: Phase | None = None,
    ) -> None:
        """Bind a handler to a class of requests or events; see `RequestMap.bind` and `EventMap.bind`.

        Raises:
            BindingError: as there; or the class has no base of Headrace, so that it could be either: bind it by
                `module.requests.bind` or `module.events.bind`.
        """
        place = calling_place()
        self._add(message_class(message, place), handler, raises, phase, None, place)

    @overload
    def handler(self, target: H, /) -> H: ...
    @overload
    def handler(
        self,
        /,
        *,
        raises: Iterable[type[object]] | None = None,
        phase: Phase | None = None,
        kind: Kind | None = None,
    ) -> Callable[[H], H]: ...
    def handler(
        self,
        target: H | None = None,
        /,
        *,
        raises: Iterable[type[object]] | None = None,
        phase: Phase | None = None,
        kind: Kind | None = None,
    ) -> H | Callable[[H], H]:
        """Bind the decorated function or class to the message that its first parameter is annotated with.

        `A | B` binds it to each. A class says it by its base, `RequestHandler[Q, R]` or `EventHandler[E]`.

        Args:
            target: the function or class, when used without parentheses.
            raises: see `EventMap.bind`.
            phase: see `EventMap.bind`; not for requests. Default None: "in_transaction".
            kind: "request" or "event", for message classes without a base of Headrace, which could be either. Default
                None: told by the base.

        Raises:
            BindingError: the message cannot be read from the annotation, it is not known to be a request or an event,
                or the handler cannot be bound to it.
        """
        declared = None if raises is None else tuple(raises)

        def decorate(handler: H) -> H:
            place = where(handler)
            try:
                messages = message_types_of(handler)
            except SignatureFault as fault:
                raise BindingError(f"@handler of {self!r}: {fault}") from fault
            for message in messages:
                self._add(message, handler, declared, phase, kind or _kind_by_base(handler), place)
            return handler

        return decorate if target is None else decorate(target)

    def _add(
        self,
        message: type,
        handler: object,
        raises: Iterable[type[object]] | None,
        phase: Phase | None,
        kind: Kind | None,
        place: str,
    ) -> None:
        if kind == "request" or (kind is None and is_request(message)):
            if phase not in (None, "in_transaction"):
                raise BindingError(
                    f"{place}: phase={phase!r} was given for the request {name_of(message)}. Leave it out: only "
                    f"handlers of domain events may run after the commit."
                )
            self.requests._add(message, handler, raises=raises, place=place)  # pyright: ignore[reportPrivateUsage]
        elif kind == "event" or is_event(message):
            self.events._add(  # pyright: ignore[reportPrivateUsage]
                message, handler, raises=raises, phase=phase or "in_transaction", place=place
            )
        else:
            raise BindingError(
                f"{place}: {name_of(message)} has no base of Headrace, so it could be a request or an event. Say "
                f'which: @module.handler(kind="request") or kind="event", or bind by module.requests or module.events.'
            )


def _kind_by_base(handler: object) -> Kind | None:
    if isinstance(handler, type):
        if generic_arguments(handler, RequestHandler) is not None:
            return "request"
        if generic_arguments(handler, EventHandler) is not None:
            return "event"
    return None
