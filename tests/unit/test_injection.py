"""Where each parameter of a handler comes from: message, events, unit, container, default."""

import functools
from typing import Annotated, Any

import pytest

from headrace import Envelope, EventHandler, Events, Module, RequestHandler, RequestMediator
from headrace.container.dishka import DishkaContainer
from headrace.injection import Injector, Origin
from headrace.signatures import SignatureFault
from tests.unit.heart import Join, Joined, Log, make_app


class Clock:
    pass


def plan(target: object, *providers: object, skip_first: bool = True) -> Any:
    container = DishkaContainer(providers)
    injector = Injector(container, {RequestMediator: "mediator"}, {Envelope: lambda unit: "env"})
    return injector.plan(target, skip_first=skip_first)


def test_each_parameter_has_its_origin() -> None:
    """Section 2: Events, Envelope and the mediator come from Headrace, instances are constants, classes of the scope."""

    async def handler(
        request: Join, e: Events, env: Envelope, m: RequestMediator, log: Log, clock: Clock
    ) -> str:
        return ""

    origins = [a.origin for a in plan(handler, Log(), Clock).arguments]
    assert origins == [
        Origin.EVENTS,
        Origin.UNIT,
        Origin.CONSTANT,
        Origin.CONSTANT,
        Origin.SCOPE,
    ]


def test_a_default_stays_if_nothing_provides_it() -> None:
    """Section 2: a parameter with a default keeps it if nothing provides it, and is filled if something does."""

    async def handler(
        request: Join,
        limit: int = 10,
        untyped=3,
        clock: Clock | None = None,
        log: Log = Log(),  # type: ignore[no-untyped-def]  # noqa: B008
    ) -> str:
        return ""

    made = plan(handler, Log())
    assert [(a.name, a.keyword) for a in made.arguments] == [("log", True)]


def test_a_parameter_without_annotation_and_default_is_a_fault() -> None:
    """G12: nothing can be injected into a parameter without annotation; the fault names it and its place."""

    async def handler(request: Join, clock) -> str:  # type: ignore[no-untyped-def]
        return ""

    with pytest.raises(SignatureFault, match=r"test_injection\.py:\d+: the parameter 'clock'"):
        plan(handler)


def test_positional_only_and_keyword_only_parameters() -> None:
    """Section 2: parameters are passed as they are declared, positional-only ones by position."""

    async def handler(request: Join, clock: Clock, /, *, log: Log) -> str:
        return ""

    assert [a.keyword for a in plan(handler, Log(), Clock).arguments] == [False, True]


@pytest.mark.parametrize("scoped", [False, True])
async def test_every_kind_of_argument_arrives(scoped: bool) -> None:
    """Section 2: a function gets its message, events, envelope, constants and defaults, in any order and kind."""
    log = Log()

    async def handler(
        request: Join,
        events: Events,
        log: Log,
        /,
        missing: int = 4,
        *args: object,
        clock: Clock | str = "default",
        envelope: Annotated[Envelope, "documented"],
        again: Log,
        **rest: object,
    ) -> str:
        assert again is log
        events.append(Joined(envelope.type.rpartition(".")[2]))
        return f"{request.user} {missing} {clock}"

    async def joined(event: Joined, log: Log) -> None:
        log.append(event)

    providers = [log, Clock] if scoped else [log]
    async with make_app((Join, handler), (Joined, joined), providers=providers) as app:
        assert await app.send(Join("u9")) == "u9 4 default"
    assert log == [Joined("Join")]


async def test_the_explicit_spelling_works_word_for_word() -> None:
    """Section 2: a handler that makes self._events itself and has a property events that returns it works."""
    from headrace import Event

    log = Log()

    class JoinHandler(RequestHandler[Join, str]):
        def __init__(self, log: Log) -> None:
            self._log = log
            self._events: list[Event] = []

        @property
        def events(self) -> list[Event]:
            return self._events

        async def handle(self, request: Join) -> str:
            self._events.append(Joined(request.user))
            return "explicit"

    class JoinedHandler(EventHandler[Joined]):
        def __init__(self, log: Log) -> None:
            self._log = log
            self._events: list[Event] = []

        @property
        def events(self) -> list[Event]:
            return self._events

        async def handle(self, event: Joined) -> None:
            self._log.append(event)

    async with make_app((Join, JoinHandler), (Joined, JoinedHandler), providers=[log]) as app:
        assert await app.send(Join("u5")) == "explicit"
    assert log == [Joined("u5")]


async def test_the_short_class_spelling() -> None:
    """Section 2: a handler class that appends to the events of its base, without super().__init__()."""
    log = Log()

    class JoinHandler(RequestHandler[Join, str]):
        def __init__(self, log: Log) -> None:
            self._log = log

        async def handle(self, request: Join) -> str:
            self.events.append(Joined(request.user))
            return "short"

    class JoinedHandler(EventHandler[Joined]):
        def __init__(self, log: Log) -> None:
            self._log = log

        async def handle(self, event: Joined) -> None:
            self._log.append(event)

    async with make_app((Join, JoinHandler), (Joined, JoinedHandler), providers=[log]) as app:
        assert await app.send(Join("u6")) == "short"
    assert log == [Joined("u6")]


async def test_the_function_spelling_on_a_module() -> None:
    """Section 2: @module.handler binds functions and classes, read from the first parameter's annotation."""
    from headrace import Headrace

    module, log = Module("meetings"), Log()

    @module.handler
    async def join(request: Join, log: Log, events: Events) -> str:
        log.append(request)
        events.append(Joined(request.user))
        return "function"

    @module.handler
    class OnJoined(EventHandler[Joined]):
        def __init__(self, log: Log) -> None:
            self._log = log

        async def handle(self, event: Joined) -> None:
            self._log.append(event)

    async with Headrace("shop", modules=[module], providers=[log]) as app:
        assert await app.send(Join("u8")) == "function"
    assert log == [Join("u8"), Joined("u8")]


async def test_a_wrapped_function_is_injected_by_its_own_signature() -> None:
    """Section 2: a decorated function (functools.wraps) is injected as the function within."""
    log = Log()

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: object, **kwargs: object) -> object:
            log.append("wrapper")
            return await function(*args, **kwargs)

        return wrapper

    @decorate
    async def join(request: Join, log: Log) -> str:
        log.append("inner")
        return ""

    async with make_app((Join, join), providers=[log]) as app:
        await app.send(Join())
    assert log == ["wrapper", "inner"]
