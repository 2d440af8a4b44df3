"""Maps: which handlers a message has."""

from collections.abc import Callable
from functools import partial
from typing import cast

import pytest

from headrace.bindings import is_async, nearest
from headrace.errors import BindingError
from headrace.handlers import EventHandler, RequestHandler
from headrace.maps import EventMap, RequestMap
from headrace.messages import Command, DomainEvent, Event, NotificationEvent


class Join(Command[None]): ...


class Leave(Command[None]): ...


class Moved(DomainEvent): ...


class Joined(Moved): ...


class Announced(NotificationEvent, type="a.b.v1", topic="a"): ...


class Foreign: ...


class JoinHandler(RequestHandler[Join, None]):
    async def handle(self, request: Join) -> None: ...


class OnMoved(EventHandler[Moved]):
    async def handle(self, event: Moved) -> None: ...


class Abstract(RequestHandler[Join, None]): ...


class Sync:
    def handle(self, request: Join) -> None: ...


class Shared(JoinHandler):
    events = []


class Static:
    @staticmethod
    async def handle(request: Join) -> None: ...


class Callme:
    async def __call__(self, request: Join) -> None: ...


async def join(request: Join) -> None: ...


async def on_moved(event: Moved) -> None: ...


async def on_any(event: Event) -> None: ...


def sync(request: Join) -> None: ...


def bind(into: RequestMap | EventMap, *arguments: object, **settings: object) -> None:
    """What checkers refuse, or cannot know, tried at run time."""
    cast("Callable[..., None]", into.bind)(*arguments, **settings)


def test_a_binding_tells_all_about_it() -> None:
    """G12: a binding keeps message, handler, declaration and the place of the call."""
    requests = RequestMap()
    requests.bind(Join, JoinHandler, raises=[Moved])
    (binding,) = requests.bindings
    assert binding.message is Join
    assert binding.handler is JoinHandler
    assert not binding.is_function
    assert binding.raises == (Moved,)
    assert binding.phase == "in_transaction"
    assert "test_maps.py:" in binding.where
    assert binding.name == f"{__name__}.JoinHandler"
    assert requests.get(Join) is binding
    assert requests.get(Leave) is None


def test_a_second_handler_is_kept_to_be_reported() -> None:
    """G12: duplicates stay in the map, where the app finds them; the first is the one that is used."""
    requests = RequestMap()
    requests.bind(Join, JoinHandler)
    requests.bind(Join, join)
    assert [b.handler for b in requests.bindings] == [JoinHandler, join]
    first = requests.get(Join)
    assert first is not None
    assert first.handler is JoinHandler


def test_handlers_of_an_event_come_exact_type_first() -> None:
    """G3: exact type first, then the bases in MRO order, each in the order bound, each handler once."""
    events = EventMap()
    events.bind(Event, on_any)
    events.bind(Moved, on_moved)
    events.bind(Moved, OnMoved)
    events.bind(Joined, on_moved)
    assert [b.handler for b in events.handlers_of(Joined)] == [on_moved, OnMoved, on_any]
    assert [b.handler for b in events.handlers_of(Moved)] == [on_moved, OnMoved, on_any]
    assert [b.handler for b in events.handlers_of(Announced)] == [on_any]
    assert events.handlers_of(Foreign) == ()


def test_phases_are_apart() -> None:
    """A handler bound after the commit is not among those inside the transaction."""
    events = EventMap()
    events.bind(Moved, on_moved, phase="after_commit")
    assert events.handlers_of(Moved) == ()
    assert [b.handler for b in events.handlers_of(Moved, phase="after_commit")] == [on_moved]


def test_maps_are_put_together() -> None:
    """A map takes in another, in order, with its places."""
    one, other = RequestMap(), RequestMap()
    one.bind(Join, JoinHandler)
    bind(other, Leave, Static)
    one.include(other)
    assert [b.message for b in one.bindings] == [Join, Leave]
    assert len(other.bindings) == 1
    events, more = EventMap(), EventMap()
    more.bind(Moved, on_moved)
    events.include(more)
    assert events.bindings == more.bindings


@pytest.mark.parametrize("handler", [JoinHandler, join, Static, Callme(), partial(join)])
def test_what_can_handle(handler: object) -> None:
    """Classes with an async handle and whatever gives an awaitable when called are bound."""
    requests = RequestMap()
    bind(requests, Join, handler)
    assert requests.bindings[0].is_function == (handler not in (JoinHandler, Static))


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (sync, "no async function"),
        (Sync, "`handle` is not async"),
        (Foreign, "it has no `handle`"),
        (Abstract, "it has no `handle`"),
        (JoinHandler(), "Pass its class, JoinHandler"),
        (3, "no async function"),
        (Shared, "all sends would share"),
        (OnMoved, "it is a EventHandler"),
    ],
)
def test_what_cannot_handle_is_refused(handler: object, words: str) -> None:
    """A handler of the wrong kind is refused at the call, with what to pass."""
    with pytest.raises(BindingError, match=words) as caught:
        bind(RequestMap(), Join, handler)
    assert "test_maps.py:" in str(caught.value)


def test_what_is_no_message_is_refused() -> None:
    """Requests and events are not bound in each other's map, and instances not at all."""
    with pytest.raises(BindingError, match=r"Moved is an event.*EventMap\.bind"):
        bind(RequestMap(), Moved, join)
    with pytest.raises(BindingError, match=r"Join is a request.*RequestMap\.bind"):
        bind(EventMap(), Join, join)
    with pytest.raises(BindingError, match="Pass the class itself"):
        bind(RequestMap(), Join(), join)
    with pytest.raises(BindingError, match="a RequestHandler"):
        bind(EventMap(), Moved, JoinHandler)


def test_foreign_classes_are_bound_as_they_are() -> None:
    """A class that cannot take a base is bound by the map that is meant."""
    requests, events = RequestMap(), EventMap()
    bind(requests, Foreign, Static)
    bind(events, Foreign, Static)
    assert requests.get(Foreign) is not None
    assert len(events.handlers_of(Foreign)) == 1


def test_wrong_phases_and_declarations_are_refused() -> None:
    """A phase that does not exist, or not for notifications, and a raises that is no class are errors."""
    with pytest.raises(BindingError, match="phase='later' does not exist"):
        bind(EventMap(), Moved, on_moved, phase="later")
    with pytest.raises(BindingError, match="Announced is a notification"):
        bind(EventMap(), Announced, on_any, phase="after_commit")
    with pytest.raises(BindingError, match="raises= contains 'Moved'"):
        bind(EventMap(), Moved, on_moved, raises=["Moved"])


def test_the_error_for_a_missing_handler_teaches() -> None:
    """G1: the nearest names and the call to make are in the error."""

    class Jion(Command[None]): ...

    requests = RequestMap()
    assert "No request is bound at all" in str(requests.not_found(Jion))
    requests.bind(Join, JoinHandler)
    text = str(requests.not_found(Jion))
    assert "Bound are, nearest first: Join" in text
    assert "requests.bind(Jion" in text


def test_nearest_names() -> None:
    """At most three, nearest first; none if nothing is like it."""
    assert nearest("Join", ["Joiner", "Joins", "Pay"]) == ["Joins", "Joiner"]
    assert len(nearest("Join", ["Joins", "Joint", "Joined", "Joiner"])) == 3
    assert nearest("Join", ["Pay"]) == []
    assert not is_async(JoinHandler)
