"""python-cqrs, assembled by its own bootstrap.

Handlers come from dependency-injector, which is faster than `di`, with which its documentation begins; where a scope is
to be opened for each send, they come from dishka, because it opens none with dependency-injector.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from cqrs import (
    DomainEvent,
    Event,
    EventHandler,
    EventMap,
    Request,
    RequestHandler,
    RequestMap,
    ScopeStrategy,
)
from cqrs.bootstrap.requests import bootstrap, setup_event_emitter
from cqrs.container.dependency_injector import DependencyInjectorCQRSContainer
from cqrs.container.dishka import DishkaCQRSContainer
from dependency_injector import containers, providers
from dishka import Provider, Scope, make_async_container

from benchmarks import by_hand
from benchmarks.peers.child import Pairs, main
from benchmarks.scenarios import variants
from benchmarks.timing import Loop, Pair


class Effects:
    def __init__(self) -> None:
        self.count = 0


class Session:
    def __init__(self, effects: Effects) -> None:
        self.effects = effects


class Ask(Request[None]):
    number: int


class AskInSession(Request[None]):
    number: int


class TellOne(Request[None]):
    number: int


class TellFive(Request[None]):
    number: int


class HeardByOne(DomainEvent):
    number: int


class HeardByFive(DomainEvent):
    number: int


class HeardByTen(DomainEvent):
    number: int


class Answer(RequestHandler[Ask, None]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    async def handle(self, request: Ask) -> None:
        self._effects.count += 1


class AnswerInSession(RequestHandler[AskInSession, None]):
    def __init__(self, session: Session) -> None:
        self._session = session

    async def handle(self, request: AskInSession) -> None:
        self._session.effects.count += 1


class Tell(RequestHandler[TellOne, None]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        return self._events

    async def handle(self, request: TellOne) -> None:
        self._events.append(HeardByOne(request.number))


class TellMore(RequestHandler[TellFive, None]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        return self._events

    async def handle(self, request: TellFive) -> None:
        self._events.append(HeardByFive(request.number))


class Hear(EventHandler[DomainEvent]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    async def handle(self, event: DomainEvent) -> None:
        self._effects.count += 1


HEARERS = variants(Hear)


async def first(request, handle):
    return await handle(request)


async def second(request, handle):
    return await handle(request)


async def third(request, handle):
    return await handle(request)


def bind_requests(requests: RequestMap) -> None:
    requests.bind(Ask, Answer)
    requests.bind(AskInSession, AnswerInSession)
    requests.bind(TellOne, Tell)
    requests.bind(TellFive, TellMore)


def bind_events(events: EventMap) -> None:
    events.bind(HeardByOne, HEARERS[0])
    for hearer in HEARERS[:5]:
        events.bind(HeardByFive, hearer)
    for hearer in HEARERS:
        events.bind(HeardByTen, hearer)


def injected(effects: Effects) -> DependencyInjectorCQRSContainer:
    services = containers.DynamicContainer()
    services.effects = providers.Object(effects)
    for handler in (Answer, Tell, TellMore, *HEARERS):
        setattr(services, handler.__name__, providers.Factory(handler, services.effects))
    container = DependencyInjectorCQRSContainer()
    container.attach_external_container(services)
    return container


def scoping(effects: Effects) -> DishkaCQRSContainer:
    provider = Provider(scope=Scope.REQUEST)
    provider.provide(lambda: effects, provides=Effects, scope=Scope.APP)
    provider.provide(Session)
    provider.provide(AnswerInSession)
    return DishkaCQRSContainer(make_async_container(provider))


async def pairs() -> Pairs:
    effects = Effects()
    container = injected(effects)
    mediator = bootstrap(
        di_container=container, commands_mapper=bind_requests, domain_events_mapper=bind_events
    )
    through = bootstrap(
        di_container=container,
        commands_mapper=bind_requests,
        middlewares=[first, second, third],
    )
    in_scopes = bootstrap(
        di_container=scoping(effects),
        commands_mapper=bind_requests,
        scope_strategy=ScopeStrategy.SEND,
    )
    emitter = setup_event_emitter(container, bind_events)
    ask, in_session = Ask(number=1), AskInSession(number=1)
    tell_one, tell_five = TellOne(number=1), TellFive(number=1)
    ten = HeardByTen(1)
    five = HEARERS[:5]

    def pair(plain: Loop, call: Callable[[Any], Awaitable[Any]], message: object) -> Pair:
        async def loop(count: int) -> None:
            for _ in range(count):
                await call(message)

        return Pair(plain, loop, lambda: effects.count)

    return {
        "send": pair(by_hand.send(Answer, effects, ask), mediator.send, ask),
        "one_event": pair(
            by_hand.one_event(Tell, HEARERS[0], effects, tell_one), mediator.send, tell_one
        ),
        "five_handlers": pair(
            by_hand.five_handlers(TellMore, five, effects, tell_five), mediator.send, tell_five
        ),
        "event": pair(by_hand.ten_handlers(HEARERS, effects, ten), emitter.emit, ten),
        "middlewares": pair(
            by_hand.middlewares((first, second, third), Answer, effects, ask), through.send, ask
        ),
        "scoped": pair(
            by_hand.scoped(AnswerInSession, Session, effects, in_session),
            in_scopes.send,
            in_session,
        ),
    }


if __name__ == "__main__":
    # Its import sets the level to DEBUG, and each send writes two records. A service in production undoes that.
    logging.getLogger("cqrs").setLevel(logging.WARNING)
    main(pairs)
