"""Small words and makers for the tests of the in-process flow: messages, an app from bindings, storages to choose from."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from headrace import (
    Command,
    DomainEvent,
    EventDispatcher,
    EventEmitter,
    EventMap,
    Headrace,
    NotificationEvent,
    Query,
    RequestMap,
    RequestMediator,
)
from headrace.container import Container
from headrace.container.dishka import DishkaContainer
from headrace.messages import is_event


class Join(Command[str]):
    user: str = "u1"


class Leave(Command[str]):
    user: str = "u1"


class Find(Query[str]):
    user: str = "u1"


class Joined(DomainEvent):
    user: str = "u1"


class Greeted(DomainEvent):
    user: str = "u1"


class Seated(DomainEvent):
    user: str = "u1"


class Announced(NotificationEvent, type="meetings.announced.v1", topic="meetings", key="user"):
    user: str = "u1"


@dataclass
class Log(list[object]):
    """What happened, in order: an app-scoped dependency for handlers to write into."""


class Opened:
    """Counts the scopes that a container opens; a fake around the real one."""

    def __init__(self, inner: Container) -> None:
        self.inner = inner
        self.scopes = 0
        self.fetched: list[object] = []

    def lifetime(self, key: object) -> Any:
        return self.inner.lifetime(key)

    def faults(self, needs: Any) -> list[str]:
        return self.inner.faults(needs)

    async def start(self) -> None:
        await self.inner.start()

    async def stop(self) -> None:
        await self.inner.stop()

    async def get(self, key: object) -> object:
        self.fetched.append(key)
        return await self.inner.get(key)

    def scope(self, unit: Any) -> Any:
        self.scopes += 1
        return self.inner.scope(unit)


def maps(*bindings: tuple[type, Any]) -> tuple[RequestMap, EventMap]:
    requests, events = RequestMap(), EventMap()
    for message, handler in bindings:
        (events if is_event(message) else requests).bind(message, handler)
    return requests, events


def make_app(*bindings: tuple[type, Any], name: str = "meetings", **settings: Any) -> Headrace:
    requests, events = maps(*bindings)
    return Headrace(name, requests=requests, events=events, **settings)


def by_hand(
    *bindings: tuple[type, Any],
    providers: tuple[object, ...] = (),
    concurrency: int = 1,
    storage: Any = None,
    broker: Any = None,
    middlewares: Any = (),
    event_middlewares: Any = (),
    unhandled: Any = "ignore",
    cycle_depth: int = 100,
) -> RequestMediator:
    """A mediator without an app around it."""
    requests, events = maps(*bindings)
    kinds = tuple(storage.provides) if storage is not None else ()
    container = DishkaContainer(providers, kinds=kinds, mediator=RequestMediator)
    dispatcher = EventDispatcher(
        events, container, concurrency=concurrency, middlewares=event_middlewares
    )
    emitter = EventEmitter(dispatcher, broker, unhandled=unhandled, cycle_depth=cycle_depth)
    return RequestMediator(requests, container, emitter, storage=storage, middlewares=middlewares)


def raising(*raised: Any) -> Callable[..., Awaitable[str]]:
    """A handler of any message that raises these events and answers with what it was sent."""

    async def handler(message: object, events: Any) -> str:
        events.extend(raised)
        return getattr(message, "user", "")

    from headrace import Events

    handler.__annotations__["events"] = Events
    return handler


class Gate:
    """A handler waits here until it is let through; the test awaits that it has come."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.opened.wait()
