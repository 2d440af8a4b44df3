"""Middlewares: around each send and around each event handler, in order, composed once."""

from typing import Any

import pytest

from headrace import Envelope, Events, Next, Request
from headrace.errors import WiringError
from headrace.middleware import compose
from tests.unit.heart import Find, Greeted, Join, Joined, Leave, Log, by_hand, make_app, raising


class Scoped:
    """With it in a handler, every send is a unit of work."""


async def scoped_join(request: Join, scoped: Scoped, log: Log) -> str:
    log.append("handler")
    return "answer"


async def plain_join(request: Join, log: Log) -> str:
    log.append("handler")
    return "answer"


def named(name: str, log: Log) -> Any:
    async def middleware(request: Request[Any], call_next: Next) -> Any:
        log.append(f"{name} in")
        answer = await call_next(request)
        log.append(f"{name} out")
        return f"{name}({answer})"

    return middleware


@pytest.mark.parametrize("handler", [scoped_join, plain_join])
@pytest.mark.parametrize("options", [{}, {"correlation_id": "c"}])
async def test_the_first_is_outermost(handler: Any, options: dict[str, Any]) -> None:
    """Section 2: the first middleware in the list is outermost, with a unit of work or without."""
    log = Log()
    middlewares = [named("a", log), named("b", log)]
    async with make_app((Join, handler), providers=[log, Scoped], middlewares=middlewares) as app:
        assert await app.send(Join(), **options) == "a(b(answer))"
    assert log == ["a in", "b in", "handler", "b out", "a out"]


async def test_middlewares_are_composed_once() -> None:
    """Section 5: call_next is the same object at every send: the chain is not built again."""
    seen: list[object] = []

    async def middleware(request: Request[Any], call_next: Next) -> Any:
        seen.append(call_next)
        return await call_next(request)

    mediator = by_hand((Join, plain_join), providers=(Log(),), middlewares=[middleware])
    await mediator.send(Join())
    await mediator.send(Join())
    assert seen[0] is seen[1]


async def test_a_middleware_may_answer_by_itself() -> None:
    """Section 2: a middleware that does not call on answers instead of the handler."""

    async def cache(request: Request[Any], call_next: Next) -> Any:
        return "cached"

    log = Log()
    mediator = by_hand((Join, plain_join), providers=(log,), middlewares=[cache])
    assert await mediator.send(Join()) == "cached"
    assert not log


async def test_a_retry_is_a_fresh_unit_of_work() -> None:
    """Section 2: request middlewares wrap the unit of work, so a retry has a new scope and envelope and keeps no events."""
    scopes: list[object] = []
    envelopes: list[str] = []
    events_seen: list[object] = []

    async def retry(request: Request[Any], call_next: Next) -> Any:
        try:
            return await call_next(request)
        except KeyError:
            return await call_next(request)

    async def join(request: Join, scoped: Scoped, envelope: Envelope, events: Events) -> str:
        scopes.append(scoped)
        envelopes.append(envelope.id)
        events.append(Joined(str(len(scopes))))
        if len(scopes) == 1:
            raise KeyError
        return "second"

    async def joined(event: Joined) -> None:
        events_seen.append(event)

    mediator = by_hand((Join, join), (Joined, joined), providers=(Scoped,), middlewares=[retry])
    assert await mediator.send(Join()) == "second"
    assert scopes[0] is not scopes[1]
    assert envelopes[0] != envelopes[1]
    assert events_seen == [Joined("2")]


async def test_a_middleware_may_send_on_another_request() -> None:
    """Section 2: what a middleware passes on is what is handled; if nothing handles it, the error says so."""
    from headrace.errors import HandlerNotFound

    async def swap(request: Request[Any], call_next: Next) -> Any:
        return await call_next(Leave("swapped") if request == Join() else Find())

    async def leave(request: Leave, scoped: Scoped) -> str:
        return request.user

    log = Log()
    mediator = by_hand(
        (Join, scoped_join), (Leave, leave), providers=(Scoped, log), middlewares=[swap]
    )
    assert await mediator.send(Join()) == "swapped"
    with pytest.raises(HandlerNotFound, match="Find"):
        await mediator.send(Join("other"))


class Timing:
    """A middleware class with a dependency of the app's lifetime."""

    made = 0

    def __init__(self, log: Log, /, *, limit: int = 3) -> None:
        Timing.made += 1
        self._log, self._limit = log, limit

    async def __call__(self, request: Any, call_next: Next) -> Any:
        self._log.append(f"timing {self._limit}")
        return await call_next(request)


async def test_a_middleware_class_is_injected_and_made_once() -> None:
    """Section 2: a middleware may be a class with __call__ whose constructor is injected, once for the app."""
    log, made = Log(), Timing.made
    app = make_app(
        (Join, raising(Joined())),
        (Joined, raising()),
        providers=[log],
        middlewares=[Timing],
        event_middlewares=[Timing],
    )
    async with app:
        await app.send(Join())
        await app.send(Join())
    assert log == ["timing 3"] * 4
    assert Timing.made == made + 2


class NeedsScope:
    def __init__(self, scoped: Scoped) -> None: ...

    async def __call__(self, request: Any, call_next: Next) -> Any: ...


class NeedsEnvelope:
    def __init__(self, envelope: Envelope) -> None: ...

    async def __call__(self, request: Any, call_next: Next) -> Any: ...


@pytest.mark.parametrize("middleware", [NeedsScope, NeedsEnvelope])
def test_a_middleware_cannot_need_what_lives_for_one_request(middleware: type) -> None:
    """G12: a middleware is made once, so a request-scoped parameter is a wiring fault, with its place."""
    app = make_app((Join, raising()), providers=[Scoped], middlewares=[middleware])
    with pytest.raises(WiringError, match=r"middleware Needs\w+ \(.*test_middleware\.py:\d+\)"):
        app.check()


async def test_event_middlewares_go_around_each_event_handler() -> None:
    """Section 2: event middlewares run inside the unit of work, around each handler of each event, first outermost."""
    log = Log()

    async def one(event: Joined, events: Events) -> None:
        log.append("one")
        events.append(Greeted())

    async def two(event: Joined) -> None:
        log.append("two")

    mediator = by_hand(
        (Join, raising(Joined())),
        (Joined, one),
        (Joined, two),
        (Greeted, raising()),
        event_middlewares=[named("a", log), named("b", log)],
    )
    await mediator.send(Join())
    around = ["a in", "b in", None, "b out", "a out"]
    expected = [
        step if step else name for name in ("one", "two", "") for step in around if step or name
    ]
    assert log == expected


async def test_an_event_middleware_that_swallows_drops_the_failed_handlers_events() -> None:
    """Section 2: follow-ups of a handler that failed are not dispatched, even if a middleware swallows its error."""
    log = Log()

    async def swallow(event: Any, call_next: Next) -> None:
        try:
            await call_next(event)
        except KeyError:
            log.append("swallowed")

    async def fails(event: Joined, events: Events) -> None:
        events.append(Greeted())
        raise KeyError

    async def greeted(event: Greeted) -> None:
        log.append("greeted")

    mediator = by_hand(
        (Join, raising(Joined())),
        (Joined, fails),
        (Greeted, greeted),
        event_middlewares=[swallow],
    )
    await mediator.send(Join())
    assert log == ["swallowed"]


async def test_composing_nothing_is_the_innermost_itself() -> None:
    """Section 5: without middlewares there is nothing around the innermost."""

    async def innermost(message: Any) -> Any: ...

    assert compose([], innermost) is innermost
