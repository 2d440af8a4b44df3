"""The mediator: one request, one handler, one response; what it raised is dispatched after it returned."""

import asyncio
import logging
import sys
from typing import Any

import pytest

from headrace import Command, Events, Headrace, RequestHandler, RequestMediator
from headrace.errors import (
    AppNotRunning,
    BindingError,
    EventCycle,
    HandlerNotFound,
    QueryRaisedEvent,
    UndeclaredEvent,
    WiringError,
)
from tests.unit.heart import (
    Find,
    Greeted,
    Join,
    Joined,
    Leave,
    Log,
    Opened,
    by_hand,
    make_app,
    maps,
    raising,
)

R = RequestMediator


class Scoped:
    """A dependency of one send: with it in the app, every send is a unit of work."""


async def with_unit(request: Join, log: Log, scoped: Scoped, events: Events) -> str:
    log.append("handler")
    events.append(Joined(request.user))
    log.append("handled")
    return request.user


async def without_unit(request: Join, log: Log, events: Events) -> str:
    log.append("handler")
    events.append(Joined(request.user))
    log.append("handled")
    return request.user


BOTH = pytest.mark.parametrize("handler", [with_unit, without_unit])


@BOTH
async def test_one_handler_and_its_response(handler: Any) -> None:
    """G1: a send runs exactly one handler, once, and answers with what it returned."""
    log = Log()
    async with make_app((Join, handler), providers=[log, Scoped], unhandled="ignore") as app:
        assert await app.send(Join("u7")) == "u7"
    assert log == ["handler", "handled"]


async def test_no_handler_tells_the_nearest_names() -> None:
    """G1: a request without a handler raises HandlerNotFound with the nearest bound names."""

    class Joins(Command[str]):
        pass

    async with make_app((Join, without_unit), (Leave, raising()), providers=[Log()]) as app:
        with pytest.raises(HandlerNotFound, match="nearest first: Join"):
            await app.send(Joins())


async def test_no_handler_comes_before_any_effect() -> None:
    """G1: for a request without a handler no scope is opened and no middleware runs."""
    log = Log()

    async def middleware(request: Any, call_next: Any) -> Any:
        log.append(request)
        return await call_next(request)

    mediator = by_hand((Join, with_unit), providers=(log, Scoped), middlewares=[middleware])
    opened = Opened(mediator._container)
    mediator.units._container = opened
    with pytest.raises(HandlerNotFound):
        await mediator.send(Leave())
    assert opened.scopes == 0
    assert not log


@BOTH
async def test_events_come_after_the_handler_returned(handler: Any) -> None:
    """G2: events are dispatched after the handler returned, not when they are appended."""
    log = Log()

    async def joined(event: Joined, log: Log) -> None:
        log.append("joined")

    async with make_app((Join, handler), (Joined, joined), providers=[log, Scoped]) as app:
        await app.send(Join())
    assert log == ["handler", "handled", "joined"]


@pytest.mark.parametrize("providers", [[], [Scoped]])
async def test_a_failed_handler_dispatches_nothing(providers: list[type]) -> None:
    """G2: if the handler raises, none of its events is dispatched and the error comes out unwrapped."""
    log = Log()

    async def fails(request: Join, events: Events) -> str:
        events.append(Joined())
        raise KeyError(request.user)

    async def fails_in_unit(request: Join, scoped: Scoped, events: Events) -> str:
        return await fails(request, events)

    async def joined(event: Joined, log: Log) -> None:
        log.append(event)

    handler = fails_in_unit if providers else fails
    async with make_app((Join, handler), (Joined, joined), providers=[log, *providers]) as app:
        with pytest.raises(KeyError, match="u1"):
            await app.send(Join())
    assert not log


async def test_concurrent_sends_never_share_events() -> None:
    """Section 2: each send has a fresh handler and a fresh Events, also when sends overlap."""
    seen: list[tuple[str, list[str]]] = []
    both = asyncio.Barrier(2)

    class Handler(RequestHandler[Join, str]):
        async def handle(self, request: Join) -> str:
            assert self.events == []
            self.events.append(Joined(request.user))
            await both.wait()
            seen.append((request.user, [e.user for e in self.events if isinstance(e, Joined)]))
            return request.user

    made: list[int] = []

    async def joined(event: Joined) -> None:
        made.append(int(event.user))

    async with make_app((Join, Handler), (Joined, joined)) as app:
        assert await asyncio.gather(app.send(Join("1")), app.send(Join("2"))) == ["1", "2"]
    assert sorted(seen) == [("1", ["1"]), ("2", ["2"])]
    assert sorted(made) == [1, 2]


async def test_a_handler_is_made_fresh_for_every_send() -> None:
    """Section 2: what a handler kept on itself is gone at the next send."""

    class Handler(RequestHandler[Join, str]):
        def __init__(self) -> None:
            self.calls = 0

        async def handle(self, request: Join) -> str:
            self.calls += 1
            return str(self.calls)

    async with make_app((Join, Handler)) as app:
        assert [await app.send(Join()) for _ in range(3)] == ["1", "1", "1"]


@pytest.mark.parametrize("providers", [(), (Scoped,)])
async def test_a_query_that_raises_an_event_is_refused(providers: Any) -> None:
    """G4: raising an event in a query is an error that names the handler and the event."""

    async def find(request: Find, events: Events) -> str:
        events.append(Joined())
        return ""

    async def in_unit(request: Find, scoped: Scoped, events: Events) -> str:
        return await find(request, events)

    mediator = by_hand((Find, in_unit if providers else find), providers=providers)
    with pytest.raises(QueryRaisedEvent, match=r"find|in_unit.*raised Joined"):
        await mediator.send(Find())


async def test_an_undeclared_event_names_the_line() -> None:
    """Section 2: with raises=[...], raising another type is an error that names the binding's line."""
    requests, events = maps()
    requests.bind(Join, raising(Joined()), raises=[Greeted])
    async with Headrace("meetings", requests=requests, events=events) as app:
        with pytest.raises(UndeclaredEvent, match=r"raised Joined.*test_mediator\.py:\d+.*Greeted"):
            await app.send(Join())


async def test_a_mediator_by_hand_takes_a_dishka_container() -> None:
    """Section 2: EventDispatcher and RequestMediator take a container that dishka made, as it is."""
    from dishka import Provider, Scope, make_async_container

    from headrace import EventDispatcher, EventEmitter

    log = Log()
    provider = Provider(scope=Scope.APP)
    provider.provide(lambda: log, provides=Log)
    container = make_async_container(provider)
    requests, events = maps((Join, without_unit))
    emitter = EventEmitter(EventDispatcher(events, container), unhandled="ignore")
    assert await RequestMediator(requests, container, emitter).send(Join("u2")) == "u2"
    assert log == ["handler", "handled"]
    await container.close()


async def test_by_hand_an_unreadable_signature_is_a_wiring_error() -> None:
    """G12: a mediator made by hand reports a parameter without annotation with its place."""

    async def handler(request: Join, meetings) -> str:  # type: ignore[no-untyped-def]
        return ""

    with pytest.raises(WiringError, match=r"test_mediator\.py:\d+.*'meetings'.*no annotation"):
        await by_hand((Join, handler)).send(Join())


async def test_by_hand_after_commit_handlers_are_not_dropped_in_silence() -> None:
    """G13: a mediator made by hand refuses after-commit handlers, which it could never run."""
    from headrace import EventDispatcher, EventEmitter
    from headrace.container.dishka import DishkaContainer

    requests, events = maps((Join, raising(Joined())))
    events.bind(Joined, raising(), phase="after_commit")
    container = DishkaContainer()
    mediator = RequestMediator(
        requests, container, EventEmitter(EventDispatcher(events, container))
    )
    with pytest.raises(WiringError, match="after the commit"):
        await mediator.send(Join())


def test_parallel_dispatch_and_storage_exclude_each_other() -> None:
    """G3: handlers under one transaction are never parallel, so concurrency and storage together are refused."""
    from headrace.drivers.memory import MemoryStorage

    with pytest.raises(BindingError, match="concurrency=2"):
        by_hand((Join, raising()), concurrency=2, storage=MemoryStorage())


@pytest.mark.parametrize("providers", [(), (Scoped,)])
async def test_a_circle_of_nested_sends_shows_the_chain(providers: Any) -> None:
    """G2: a chain of nested sends that never ends raises EventCycle with the chain, with a unit of work or without."""

    async def join(request: Join, mediator: RequestMediator) -> str:
        return await mediator.send(Leave())

    async def leave(request: Leave, mediator: RequestMediator) -> str:
        return await mediator.send(Join())

    async def join_in_unit(request: Join, mediator: RequestMediator, scoped: Scoped) -> str:
        return await mediator.send(Leave())

    mediator = by_hand(
        (Join, join_in_unit if providers else join), (Leave, leave), providers=providers
    )
    with pytest.raises(EventCycle, match=r"\.\.\. -> .*Join -> Leave -> Join -> Leave"):
        await mediator.send(Join())


async def test_a_circle_is_shown_when_the_stack_ends_before_the_limit() -> None:
    """G2: when the interpreter's recursion limit comes before the depth limit, the error is still EventCycle."""

    async def joined(event: Joined, mediator: RequestMediator, scoped: Scoped) -> None:
        await mediator.send(Join())

    mediator = by_hand(
        (Join, raising(Joined())), (Joined, joined), providers=(Scoped,), cycle_depth=5000
    )
    with pytest.raises(EventCycle, match=r"interpreter's stack ended.*Join -> Join"):
        await mediator.send(Join())


async def test_a_recursion_of_the_users_own_stays_a_recursion_error() -> None:
    """G3: a RecursionError that no nested send caused comes out unwrapped."""

    def deep(n: int) -> int:
        return deep(n + 1)

    async def join(request: Join) -> str:
        return str(deep(0))

    assert sys.getrecursionlimit() < 100_000
    with pytest.raises(RecursionError):
        await by_hand((Join, join)).send(Join())


async def test_limits_of_one_allow_one_nested_send() -> None:
    """G2: the smallest depth limit still lets a handler send one nested request."""

    async def join(request: Join, mediator: RequestMediator, scoped: Scoped) -> str:
        return await mediator.send(Leave())

    mediator = by_hand((Join, join), (Leave, raising()), providers=(Scoped,), cycle_depth=1)
    assert await mediator.send(Join()) == "u1"


@pytest.mark.parametrize("providers", [(), (Scoped,)])
async def test_after_forgetting_a_kept_mediator_refuses(providers: Any) -> None:
    """G10: a mediator that somebody kept does not wake the stopped app's parts."""
    kept: list[RequestMediator] = []

    async def join(request: Join, mediator: RequestMediator) -> str:
        kept.append(mediator)
        return ""

    async def in_unit(request: Join, mediator: RequestMediator, scoped: Scoped) -> str:
        return await join(request, mediator)

    async with make_app((Join, in_unit if providers else join), providers=providers) as app:
        await app.send(Join())
    with pytest.raises(AppNotRunning, match=r"Join.*has stopped"):
        await kept[0].send(Join())


async def test_send_and_options_are_the_same_without_units(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Section 2: correlation_id and metadata may be given in an app that has nowhere to carry them to."""
    with caplog.at_level(logging.WARNING):
        async with make_app((Join, raising())) as app:
            assert await app.send(Join("u3"), correlation_id="c", metadata={"tenant": "t"}) == "u3"
    assert not caplog.records
