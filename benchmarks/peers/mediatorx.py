"""mediatorx, with the resolver that comes with it.

Its `send` dispatches no events: the handler publishes them itself, which is measured as its way of doing the same.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mediatorx import ICommand, ICommandHandler, INotification, INotificationHandler, Mediator
from mediatorx.resolvers import DictResolver

from benchmarks import by_hand
from benchmarks.peers.child import Pairs, main
from benchmarks.scenarios import variants
from benchmarks.timing import Loop, Pair


class Effects:
    def __init__(self) -> None:
        self.count = 0


@dataclass(frozen=True)
class Ask(ICommand[int]):
    number: int


@dataclass(frozen=True)
class TellOne(ICommand[None]):
    number: int


@dataclass(frozen=True)
class TellFive(ICommand[None]):
    number: int


@dataclass(frozen=True)
class HeardByOne(INotification):
    number: int


@dataclass(frozen=True)
class HeardByFive(INotification):
    number: int


@dataclass(frozen=True)
class HeardByTen(INotification):
    number: int


class Answer(ICommandHandler[Ask, int]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    async def handle(self, command: Ask) -> int:
        self._effects.count += 1
        return command.number


class Tell(ICommandHandler[TellOne, None]):
    def __init__(self, mediator: Mediator) -> None:
        self._mediator = mediator

    async def handle(self, command: TellOne) -> None:
        await self._mediator.publish(HeardByOne(command.number))


class TellMore(ICommandHandler[TellFive, None]):
    def __init__(self, mediator: Mediator) -> None:
        self._mediator = mediator

    async def handle(self, command: TellFive) -> None:
        await self._mediator.publish(HeardByFive(command.number))


class Collect(ICommandHandler[Any, None]):
    """What `Tell` and `TellMore` do, for the work by hand: there is nothing to publish to."""

    kind: type = HeardByOne

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self.events: list[INotification] = []

    async def handle(self, command: Any) -> None:
        self.events.append(self.kind(command.number))


class CollectMore(Collect):
    kind = HeardByFive


class Hear(INotificationHandler[INotification]):
    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    async def handle(self, notification: INotification) -> None:
        self._effects.count += 1


HEARERS = variants(Hear)


async def first(message, call_next):
    return await call_next(message)


async def second(message, call_next):
    return await call_next(message)


async def third(message, call_next):
    return await call_next(message)


class Around:
    """A behavior: mediatorx calls the next without the message."""

    async def handle(self, message, next):  # noqa: A002 - the framework's name
        return await next()


async def pairs() -> Pairs:
    effects = Effects()
    resolver = DictResolver()
    mediator, through = Mediator(resolver), Mediator(resolver)
    resolver.add_factory(Answer, lambda: Answer(effects))
    resolver.add_factory(Tell, lambda: Tell(mediator))
    resolver.add_factory(TellMore, lambda: TellMore(mediator))
    for hearer in HEARERS:
        resolver.add_factory(hearer, lambda hearer=hearer: hearer(effects))
    mediator.register(Ask, Answer).register(TellOne, Tell).register(TellFive, TellMore)
    mediator.register_notification(HeardByOne, HEARERS[0])
    for hearer in HEARERS[:5]:
        mediator.register_notification(HeardByFive, hearer)
    for hearer in HEARERS:
        mediator.register_notification(HeardByTen, hearer)
    through.register(Ask, Answer)
    for behavior in variants(Around, 3):
        resolver.add_instance(behavior, behavior())
        through.add_behavior(behavior)
    ask, tell_one, tell_five, ten = Ask(1), TellOne(1), TellFive(1), HeardByTen(1)
    five = HEARERS[:5]

    def pair(plain: Loop, call: Callable[[Any], Awaitable[Any]], message: object) -> Pair:
        async def loop(count: int) -> None:
            for _ in range(count):
                await call(message)

        return Pair(plain, loop, lambda: effects.count)

    return {
        "send": pair(by_hand.send(Answer, effects, ask), mediator.send, ask),
        "one_event": pair(
            by_hand.one_event(Collect, HEARERS[0], effects, tell_one), mediator.send, tell_one
        ),
        "five_handlers": pair(
            by_hand.five_handlers(CollectMore, five, effects, tell_five),
            mediator.send,
            tell_five,
        ),
        "event": pair(by_hand.ten_handlers(HEARERS, effects, ten), mediator.publish, ten),
        "middlewares": pair(
            by_hand.middlewares((first, second, third), Answer, effects, ask), through.send, ask
        ),
        "scoped": "it has no scopes",
    }


if __name__ == "__main__":
    main(pairs)
