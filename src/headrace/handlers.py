"""The bases of handlers, and how a handler collects the events that it raises."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from headrace.errors import BindingError
from headrace.messages import Event

Q_contra = TypeVar("Q_contra", contravariant=True)
E_contra = TypeVar("E_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Events(list[Event]):
    """The events that a handler raises, in order. A function handler asks for it by a parameter of this type."""

    __slots__ = ()


class _Collecting:
    # The class's None is what the mediator finds, at the price of one attribute, when a handler raised nothing.
    _headrace_events: list[Event] | None = None

    @property
    def events(self) -> list[Event]:
        """The events raised so far, in order; append to it. Dispatched after `handle` returned (G2)."""
        # A plain property: a descriptor class of our own takes twice as long (measured: 0.40 against 0.20 us).
        events = self._headrace_events
        if events is None:
            events = Events()
            try:
                self._headrace_events = events
            except (
                AttributeError,
                TypeError,
            ):  # a frozen dataclass; with slots too it is a TypeError on 3.11
                object.__setattr__(self, "_headrace_events", events)
        return events

    if not TYPE_CHECKING:

        @events.setter
        def events(self, value):
            # Not for checkers, who see a read-only property; at run time `self.events = []` in an `__init__` must not
            # lead events past the mediator.
            if not isinstance(value, list):
                raise BindingError(
                    f"{type(self).__qualname__}.events was set to {value!r}. It must be a list, which is read "
                    f"after handle; better leave it out of __init__: the base makes it at first use."
                )
            object.__setattr__(self, "_headrace_events", value)


class RequestHandler(_Collecting, ABC, Generic[Q_contra, R_co]):
    """Handles one kind of request and answers it.

    Its constructor's parameters are injected; a fresh one is made for every send, so it may keep state while it runs.
    `super().__init__()` need not be called. In a unit test, made by hand, it works as it is.

        class JoinMeetingHandler(RequestHandler[JoinMeeting, None]):
            def __init__(self, meetings: Meetings) -> None:
                self._meetings = meetings

            async def handle(self, request: JoinMeeting) -> None:
                await self._meetings.add(request.meeting_id, request.user_id)
                self.events.append(UserJoined(request.user_id, request.meeting_id))

    Source: "Service Layer" and "Command", Patterns of Enterprise Application Architecture and Design Patterns.
    """

    @abstractmethod
    async def handle(self, request: Q_contra, /) -> R_co:
        """Do the business logic and return the response. Name the parameter as you like.

        Raises:
            Exception: ends the send, unwrapped; nothing is committed and no event dispatched (G2, G4).
        """
        ...


class EventHandler(_Collecting, ABC, Generic[E_contra]):
    """Handles one kind of event; any number of handlers may listen to the same.

    Its constructor's parameters are injected. Events that it appends to `events` are follow-ups: they are dispatched
    after those that are already waiting (breadth first).
    """

    @abstractmethod
    async def handle(self, event: E_contra, /) -> None:
        """React to the event. Name the parameter as you like.

        Raises:
            Exception: ends the send, unwrapped; nothing is committed (G3, G4).
        """
        ...


def events_attribute(cls: type) -> Literal["_headrace_events", "events"] | None:
    """Where to look for what an instance of a handler class has raised.

    Returns:
        "_headrace_events" for a handler that leaves `events` to its base: None or the list, never made by looking.
        "events" for one that has its own property, or has no base of Headrace: there it may also be missing, so read it
        with a default. None if instances cannot have one.
    """
    own = inspect.getattr_static(cls, "events", None)
    if own is vars(_Collecting)["events"]:
        return "_headrace_events"
    if own is not None or cls.__dictoffset__ != 0:
        return "events"
    return None
