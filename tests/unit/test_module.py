"""Modules: handlers of one bounded context, bound by their annotations."""

import pytest

from headrace.errors import BindingError
from headrace.handlers import EventHandler, Events, RequestHandler
from headrace.messages import Command, DomainEvent
from headrace.module import Module


class Join(Command[None]): ...


class Joined(DomainEvent): ...


class Left(DomainEvent): ...


class Foreign: ...


class Meetings: ...


class OnEither(EventHandler[Joined | Left]):
    async def handle(self, event: Joined | Left) -> None: ...


class OnForeign(EventHandler[Foreign]):
    async def handle(self, event: Foreign) -> None: ...


class JoinHandler(RequestHandler[Join, None]):
    async def handle(self, request: Join) -> None: ...


async def join(request: Join, meetings: Meetings, events: Events) -> None: ...


async def on_joined(event: Joined) -> None: ...


async def on_foreign(event: Foreign) -> None: ...


@pytest.fixture
def module() -> Module:
    return Module("meetings", providers=[Meetings])


def test_a_module_has_its_parts(module: Module) -> None:
    """Name, providers, subscriptions and both maps can be read."""
    assert module.name == "meetings"
    assert module.providers == (Meetings,)
    assert module.subscriptions == ()
    assert module.requests.bindings == module.events.bindings == ()
    assert repr(module) == "Module('meetings')"


def test_the_decorator_reads_the_message(module: Module) -> None:
    """Request or event is read from the first parameter's annotation, and the function is left as it is."""
    assert module.handler(join) is join
    assert module.handler(on_joined) is on_joined
    (request,), (event,) = module.requests.bindings, module.events.bindings
    assert (request.message, request.handler) == (Join, join)
    assert (event.message, event.handler) == (Joined, on_joined)
    assert "test_module.py:" in request.where


def test_the_decorator_takes_settings(module: Module) -> None:
    """What it raises and its phase are given in parentheses."""
    module.handler(raises=[Left], phase="after_commit")(on_joined)
    (binding,) = module.events.bindings
    assert binding.raises == (Left,)
    assert binding.phase == "after_commit"


def test_a_class_is_read_by_its_base(module: Module) -> None:
    """A | B binds each; a handler base tells request or event."""
    module.handler(OnEither)
    module.handler(JoinHandler)
    module.handler(OnForeign)
    assert [b.message for b in module.events.bindings] == [Joined, Left, Foreign]
    assert [b.message for b in module.requests.bindings] == [Join]


def test_bind_takes_both_kinds(module: Module) -> None:
    """It puts requests and events into their maps, with the place of the call."""
    module.bind(Join, JoinHandler)
    module.bind(Joined, on_joined, raises=[Left], phase="after_commit")
    assert [b.handler for b in module.requests.bindings] == [JoinHandler]
    assert [b.phase for b in module.events.bindings] == ["after_commit"]
    assert "test_module.py:" in module.events.bindings[0].where


def test_a_foreign_class_needs_to_be_told(module: Module) -> None:
    """A class without a base of Headrace could be either, so kind= must say it."""
    with pytest.raises(BindingError, match='kind="request"'):
        module.handler(on_foreign)
    with pytest.raises(BindingError, match=r"module\.events"):
        module.bind(Foreign, on_foreign)  # type: ignore[type-var]
    module.handler(kind="event")(on_foreign)
    module.handler(kind="request")(on_foreign)
    assert [b.message for b in module.events.bindings] == [Foreign]
    assert [b.message for b in module.requests.bindings] == [Foreign]


def test_contradictions_are_refused(module: Module) -> None:
    """A kind that is not the class's own, a phase for a request and an unreadable message are errors."""
    with pytest.raises(BindingError, match="Join is a request"):
        module.handler(kind="event")(join)
    with pytest.raises(BindingError, match="phase='after_commit' was given for the request"):
        module.handler(phase="after_commit")(join)

    async def nothing() -> None: ...

    with pytest.raises(BindingError, match="takes no message"):
        module.handler(nothing)

    class Crossed(EventHandler[Join]):
        async def handle(self, event: Join) -> None: ...

    with pytest.raises(BindingError, match="Join is a request"):
        module.handler(Crossed)
