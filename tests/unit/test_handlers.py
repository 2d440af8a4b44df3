"""Handlers: how the events that they raise are collected."""

import dataclasses

import pytest

from headrace.errors import BindingError
from headrace.handlers import EventHandler, Events, RequestHandler, events_attribute
from headrace.messages import Command, DomainEvent, Event


class Join(Command[None]):
    user_id: str


class Joined(DomainEvent):
    user_id: str


class Short(RequestHandler[Join, None]):
    def __init__(self, meetings: list[str]) -> None:
        self._meetings = meetings

    async def handle(self, request: Join) -> None:
        self._meetings.append(request.user_id)
        self.events.append(Joined(request.user_id))


class Explicit(RequestHandler[Join, None]):
    def __init__(self) -> None:
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        return self._events

    async def handle(self, request: Join) -> None:
        self._events.append(Joined(request.user_id))


class Duck:
    async def handle(self, request: Join) -> None: ...


class SlottedDuck:
    __slots__ = ()

    async def handle(self, request: Join) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen(EventHandler[Joined]):
    meetings: list[str]

    async def handle(self, event: Joined) -> None:
        self.events.append(event)


async def test_events_work_without_super_init() -> None:
    """G2: a handler made by hand collects what it raises, in order, without calling super().__init__."""
    handler = Short([])
    await handler.handle(Join("u1"))
    await handler.handle(Join("u2"))
    assert handler.events == [Joined("u1"), Joined("u2")]
    assert handler.events is handler._headrace_events


async def test_a_frozen_handler_collects() -> None:
    """A frozen dataclass can be a handler."""
    handler = Frozen([])
    await handler.handle(Joined("u1"))
    assert handler.events == [Joined("u1")]


def test_nothing_is_made_until_asked() -> None:
    """A handler that raises nothing has no list, and two handlers never share one."""
    one, other = Short([]), Short([])
    assert one._headrace_events is None
    assert isinstance(one.events, Events)
    assert other._headrace_events is None
    assert other.events is not one.events


def test_an_assigned_list_is_the_one_collected() -> None:
    """A list that __init__ assigns to self.events is the one that is read, so nothing is lost."""

    class Assigns(Short):
        def __init__(self) -> None:
            self.events = mine  # type: ignore[misc]

    mine: list[Event] = [Joined("u0")]
    assert Assigns()._headrace_events is mine


def test_something_else_than_a_list_is_refused() -> None:
    """Values that could not be read as a list are refused where they are assigned."""
    with pytest.raises(BindingError, match=r"Short.events was set to \(\)"):
        Short([]).events = ()  # type: ignore[misc,assignment]


def test_the_explicit_spelling_stays_as_it_is() -> None:
    """A property of one's own is used instead of the base's."""
    assert Explicit().events == []
    assert events_attribute(Explicit) == "events"


def test_where_events_are_found() -> None:
    """Each kind of handler tells where its events are; only one that cannot have any tells nothing."""
    assert events_attribute(Short) == "_headrace_events"
    assert events_attribute(Frozen) == "_headrace_events"
    assert events_attribute(Duck) == "events"
    assert events_attribute(SlottedDuck) is None


def test_a_handler_without_handle_cannot_be_made() -> None:
    """Its handle is abstract."""

    class Empty(EventHandler[Joined]): ...

    with pytest.raises(TypeError, match="abstract"):
        Empty()  # type: ignore[abstract]
