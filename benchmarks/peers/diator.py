"""diator, with rodi: the faster of the two containers that it supports."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import rodi
from diator.container.rodi import RodiContainer
from diator.events import DomainEvent, Event, EventEmitter, EventHandler, EventMap
from diator.mediator import Mediator
from diator.middlewares import MiddlewareChain
from diator.requests import Request, RequestHandler, RequestMap

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


@dataclass(frozen=True, kw_only=True)
class Ask(Request):
    number: int


@dataclass(frozen=True, kw_only=True)
class AskInSession(Request):
    number: int


@dataclass(frozen=True, kw_only=True)
class TellOne(Request):
    number: int


@dataclass(frozen=True, kw_only=True)
class TellFive(Request):
    number: int


@dataclass(frozen=True, kw_only=True)
class HeardByOne(DomainEvent):
    number: int


@dataclass(frozen=True, kw_only=True)
class HeardByFive(DomainEvent):
    number: int


@dataclass(frozen=True, kw_only=True)
class HeardByTen(DomainEvent):
    number: int


class Answer(RequestHandler[Ask, None]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        return self._events

    async def handle(self, request: Ask) -> None:
        self._effects.count += 1


class AnswerInSession(RequestHandler[AskInSession, None]):
    def __init__(self, session: Session) -> None:
        self._session = session
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        return self._events

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
        self._events.append(HeardByOne(number=request.number))


class TellMore(RequestHandler[TellFive, None]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        return self._events

    async def handle(self, request: TellFive) -> None:
        self._events.append(HeardByFive(number=request.number))


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


async def pairs() -> Pairs:
    effects = Effects()
    services = rodi.Container()
    services.add_instance(effects)
    services.add_scoped(Session)
    for handler in (Answer, AnswerInSession, Tell, TellMore, *HEARERS):
        services.add_transient(handler)
    container = RodiContainer()
    container.attach_external_container(services)
    requests, events = RequestMap(), EventMap()
    requests.bind(Ask, Answer)
    requests.bind(AskInSession, AnswerInSession)
    requests.bind(TellOne, Tell)
    requests.bind(TellFive, TellMore)
    events.bind(HeardByOne, HEARERS[0])
    for hearer in HEARERS[:5]:
        events.bind(HeardByFive, hearer)
    for hearer in HEARERS:
        events.bind(HeardByTen, hearer)
    emitter = EventEmitter(events, container, message_broker=None)
    mediator = Mediator(requests, container, emitter)
    chain = MiddlewareChain()
    for middleware in (first, second, third):
        chain.add(middleware)
    through = Mediator(requests, container, emitter, chain)

    ask, in_session = Ask(number=1), AskInSession(number=1)
    tell_one, tell_five = TellOne(number=1), TellFive(number=1)
    ten = HeardByTen(number=1)
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
            mediator.send,
            in_session,
        ),
    }


if __name__ == "__main__":
    main(pairs)
