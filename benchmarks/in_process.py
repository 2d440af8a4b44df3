"""Headrace in the process, beside the same handler classes called directly."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from dishka import Provider, Scope, make_async_container

from benchmarks import by_hand
from benchmarks.scenarios import variants
from benchmarks.timing import Loop, Pair
from headrace import (
    Command,
    DomainEvent,
    EventDispatcher,
    EventHandler,
    EventMap,
    Headrace,
    Next,
    Request,
    RequestHandler,
    RequestMap,
)
from headrace.container.dishka import DishkaContainer


class Effects:
    """What handlers do, so that it can be counted. One for the app."""

    def __init__(self) -> None:
        self.count = 0

    def so_far(self) -> int:
        return self.count


class Session:
    """A dependency that is made anew for each send."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects


class Ask(Command[int]):
    number: int


class AskInSession(Command[int]):
    number: int


class TellOne(Command[None]):
    number: int


class TellFive(Command[None]):
    number: int


class HeardByOne(DomainEvent):
    number: int


class HeardByFive(DomainEvent):
    number: int


class HeardByTen(DomainEvent):
    number: int


class Answer(RequestHandler[Ask, int]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    async def handle(self, request: Ask) -> int:
        self._effects.count += 1
        return request.number


class AnswerInSession(RequestHandler[AskInSession, int]):
    def __init__(self, session: Session) -> None:
        self._session = session

    async def handle(self, request: AskInSession) -> int:
        self._session.effects.count += 1
        return request.number


class Tell(RequestHandler[TellOne, None]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    async def handle(self, request: TellOne) -> None:
        self.events.append(HeardByOne(request.number))


class TellMore(RequestHandler[TellFive, None]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    async def handle(self, request: TellFive) -> None:
        self.events.append(HeardByFive(request.number))


class Hear(EventHandler[Any]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    async def handle(self, event: object) -> None:
        self._effects.count += 1


HEARERS: tuple[type[Hear], ...] = variants(Hear)


async def first(request: Request[Any], call_next: Next) -> Any:
    return await call_next(request)


async def second(request: Request[Any], call_next: Next) -> Any:
    return await call_next(request)


async def third(request: Request[Any], call_next: Next) -> Any:
    return await call_next(request)


@asynccontextmanager
async def pairs() -> AsyncGenerator[Mapping[str, Pair]]:
    """The pair of each scenario by name, while the apps run that they need."""
    async with AsyncExitStack() as stack:
        yield {
            "send": await _send(stack),
            "one_event": await _one_event(stack),
            "five_handlers": await _five_handlers(stack),
            "event": await _event(),
            "middlewares": await _middlewares(stack),
            "scoped": await _scoped(stack),
            "container": await _container(stack),
        }


async def _send(stack: AsyncExitStack) -> Pair:
    effects, request = Effects(), Ask(1)
    requests = RequestMap()
    requests.bind(Ask, Answer)
    app = await _started(stack, Headrace("bench", requests=requests, providers=[effects]))

    async def loop(count: int) -> None:
        for _ in range(count):
            await app.send(request)

    return Pair(by_hand.send(Answer, effects, request), loop, effects.so_far)


async def _one_event(stack: AsyncExitStack) -> Pair:
    effects, request = Effects(), TellOne(1)
    requests, events = RequestMap(), EventMap()
    requests.bind(TellOne, Tell)
    events.bind(HeardByOne, HEARERS[0])
    app = await _started(
        stack, Headrace("bench", requests=requests, events=events, providers=[effects])
    )

    async def loop(count: int) -> None:
        for _ in range(count):
            await app.send(request)

    return Pair(by_hand.one_event(Tell, HEARERS[0], effects, request), loop, effects.so_far)


async def _five_handlers(stack: AsyncExitStack) -> Pair:
    effects, request = Effects(), TellFive(1)
    requests, events = RequestMap(), EventMap()
    requests.bind(TellFive, TellMore)
    for hearer in HEARERS[:5]:
        events.bind(HeardByFive, hearer)
    app = await _started(
        stack, Headrace("bench", requests=requests, events=events, providers=[effects])
    )

    async def loop(count: int) -> None:
        for _ in range(count):
            await app.send(request)

    plain = by_hand.five_handlers(TellMore, HEARERS[:5], effects, request)
    return Pair(plain, loop, effects.so_far)


async def _event() -> Pair:
    effects, event = Effects(), HeardByTen(1)
    events = EventMap()
    for hearer in HEARERS:
        events.bind(HeardByTen, hearer)
    dispatcher = EventDispatcher(events, DishkaContainer([effects]))

    async def loop(count: int) -> None:
        for _ in range(count):
            await dispatcher.dispatch(event)

    return Pair(by_hand.ten_handlers(HEARERS, effects, event), loop, effects.so_far)


async def _middlewares(stack: AsyncExitStack) -> Pair:
    effects, request = Effects(), Ask(1)
    requests = RequestMap()
    requests.bind(Ask, Answer)
    around = (first, second, third)
    app = await _started(
        stack, Headrace("bench", requests=requests, providers=[effects], middlewares=around)
    )

    async def loop(count: int) -> None:
        for _ in range(count):
            await app.send(request)

    return Pair(by_hand.middlewares(around, Answer, effects, request), loop, effects.so_far)


async def _scoped(stack: AsyncExitStack) -> Pair:
    effects, request = Effects(), AskInSession(1)
    loop = await _sending_in_scopes(stack, effects, request)
    return Pair(by_hand.scoped(AnswerInSession, Session, effects, request), loop, effects.so_far)


async def _container(stack: AsyncExitStack) -> Pair:
    effects, request = Effects(), AskInSession(1)
    provider = Provider(scope=Scope.REQUEST)
    provider.provide(lambda: effects, provides=Effects, scope=Scope.APP)
    provider.provide(Session)
    provider.provide(AnswerInSession)
    container = make_async_container(provider)
    stack.push_async_callback(container.close)

    async def plain(count: int) -> None:
        for _ in range(count):
            async with container() as scope:
                handler = await scope.get(AnswerInSession)
                await handler.handle(request)

    return Pair(plain, await _sending_in_scopes(stack, effects, request), effects.so_far)


async def _sending_in_scopes(
    stack: AsyncExitStack, effects: Effects, request: AskInSession
) -> Loop:
    requests = RequestMap()
    requests.bind(AskInSession, AnswerInSession)
    app = await _started(stack, Headrace("bench", requests=requests, providers=[effects, Session]))

    async def loop(count: int) -> None:
        for _ in range(count):
            await app.send(request)

    return loop


async def _started(stack: AsyncExitStack, app: Headrace) -> Headrace:
    return await stack.enter_async_context(app)
