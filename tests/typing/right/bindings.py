"""Handlers in every spelling, bound in every way: no checker complains."""

from dataclasses import dataclass

import msgspec
from pydantic import BaseModel

from headrace import (
    Command,
    DomainEvent,
    Envelope,
    Event,
    EventHandler,
    EventMap,
    Events,
    Module,
    NotificationEvent,
    Query,
    Request,
    RequestHandler,
    RequestMap,
)


class Meetings: ...


class Receipt: ...


class PaperReceipt(Receipt): ...


class Join(Command[None]):
    user_id: str


class Count(Query[int]): ...


class Pay(BaseModel, Request[Receipt]):
    amount: int


class StructPay(msgspec.Struct, Request[Receipt]):
    amount: int


class Joined(DomainEvent):
    user_id: str


class Announced(NotificationEvent, type="meetings.announced.v1", topic="meetings"):
    user_id: str


class Foreign: ...


class JoinHandler(RequestHandler[Join, None]):
    def __init__(self, meetings: Meetings) -> None:
        self._meetings = meetings

    async def handle(self, request: Join) -> None:
        self.events.append(Joined(request.user_id))
        self.events.extend([Announced(request.user_id)])


class ExplicitHandler(RequestHandler[Join, None]):
    def __init__(self) -> None:
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        return self._events

    async def handle(self, request: Join) -> None:
        self._events.append(Joined(request.user_id))


class CountHandler(RequestHandler[Count, int]):
    async def handle(self, query: Count) -> int:
        return 1


@dataclass(frozen=True)
class PayHandler(RequestHandler[Pay, Receipt]):
    meetings: Meetings

    async def handle(self, request: Pay) -> PaperReceipt:
        return PaperReceipt()


class OnJoined(EventHandler[Joined]):
    async def handle(self, event: Joined) -> None:
        self.events.append(Announced(event.user_id))


class OnAny(EventHandler[Event]):
    async def handle(self, event: Event) -> None: ...


class OnEither(EventHandler[Joined | Announced]):
    async def handle(self, event: Joined | Announced) -> None: ...


async def join(request: Join, meetings: Meetings, events: Events, envelope: Envelope) -> None:
    events.append(Joined(request.user_id))


async def struct_pay(request: StructPay, *, meetings: Meetings | None = None) -> PaperReceipt:
    return PaperReceipt()


async def on_joined(event: Joined, meetings: Meetings) -> None: ...


async def on_foreign(event: Foreign) -> None: ...


requests = RequestMap()
requests.bind(Join, JoinHandler)
requests.bind(Join, ExplicitHandler, raises=[Joined])
requests.bind(Join, join, raises=[Joined, Announced])
requests.bind(Count, CountHandler)
requests.bind(Pay, PayHandler)
requests.bind(StructPay, struct_pay)

events = EventMap()
events.bind(Joined, OnJoined, raises=[Announced])
events.bind(Joined, OnAny)
events.bind(Event, OnAny)
events.bind(Announced, OnEither)
events.bind(Joined, on_joined, phase="after_commit")
events.bind(Foreign, on_foreign)

module = Module("meetings", providers=[Meetings, Meetings()])
module.bind(Join, JoinHandler)
module.bind(Join, join, raises=[Joined])
module.bind(Joined, OnJoined)
module.bind(Joined, on_joined, phase="after_commit")


@module.handler
async def count(query: Count, meetings: Meetings) -> int:
    return 1


@module.handler(raises=[Announced], phase="after_commit")
async def on_either(event: Joined | Announced, events: Events) -> None: ...


@module.handler(kind="request")
async def on_foreign_request(request: Foreign) -> int:
    return 1


@module.handler
class AlsoOnJoined(EventHandler[Joined]):
    async def handle(self, event: Joined) -> None: ...


@module.handler(raises=[])
class AlsoJoins(RequestHandler[Join, None]):
    async def handle(self, request: Join) -> None: ...


async def use_by_hand() -> list[Event]:
    handler = JoinHandler(Meetings())
    await handler.handle(Join("u1"))
    await AlsoJoins().handle(Join("u1"))
    await count(Count(), Meetings())
    return handler.events
