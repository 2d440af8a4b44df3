"""Messages of every kind, and requests sent: no checker complains."""

import dataclasses
from abc import ABC
from typing import Generic, TypeVar, assert_type

import attrs
import msgspec
from pydantic import BaseModel

from headrace import (
    Command,
    DomainEvent,
    Event,
    Headrace,
    NotificationEvent,
    Query,
    Request,
    RequestMediator,
    notification,
)

R = TypeVar("R")


class Receipt: ...


class Join(Command[None]):
    user_id: str
    seats: int = 1
    tags: list[str] = dataclasses.field(default_factory=list[str])


class Count(Query[int], kw_only=True):
    meeting_id: str = ""
    since: int


class OfMeeting(Command[R], ABC, Generic[R]):
    meeting_id: str


class Close(OfMeeting[Receipt]):
    reason: str


class PydanticPay(BaseModel, Request[Receipt]):
    amount: int


class StructPay(msgspec.Struct, Request[Receipt], frozen=True):
    amount: int


@attrs.frozen
class AttrsPay(Request[Receipt]):
    amount: int


@dataclasses.dataclass(frozen=True, slots=True)
class DataclassPay(Request[Receipt]):
    amount: int


class Joined(DomainEvent):
    user_id: str


class Announced(NotificationEvent, type="meetings.announced.v1", topic="meetings", key="user_id"):
    user_id: str


class Keyed(NotificationEvent, type="a.v1", topic="a", key=lambda e: e.user_id, kw_only=True):
    user_id: str


def room_of(event: "Moved") -> str:
    return event.room


class Moved(NotificationEvent, type="meetings.moved.v1", topic="meetings", key=room_of):
    room: str


@notification(type="meetings.paid.v1", topic="meetings", key="amount")
class Paid(BaseModel, Event):
    amount: int


@notification(type="meetings.seen.v1", topic="meetings")
class Seen(msgspec.Struct, Event, frozen=True):
    amount: int


assert_type(Join("u1").tags, list[str])
assert_type(Count(since=3).since, int)
assert_type(Close("m1", "late").meeting_id, str)
assert_type(Keyed(user_id="u1").user_id, str)
assert_type(Paid(amount=3), Paid)
events: list[Event] = [Joined("u1"), Announced("u1"), Paid(amount=1), Seen(1), Moved("r1")]


async def send(app: Headrace, mediator: RequestMediator) -> None:
    await app.send(Join("u1"))
    assert_type(await app.send(Count(since=1)), int)
    assert_type(await app.send(Close("m1", "late")), Receipt)
    assert_type(await app.send(PydanticPay(amount=3), metadata={"tenant": "acme"}), Receipt)
    assert_type(await app.send(StructPay(3), correlation_id="c1"), Receipt)
    assert_type(await app.send(AttrsPay(3)), Receipt)
    assert_type(await app.send(DataclassPay(3)), Receipt)
    assert_type(await mediator.send(Count(since=1)), int)
    print(
        await app.send(Count(since=1)), await mediator.send(Count(since=1))
    )  # where any object is expected
    wider: int | None = await app.send(Count(since=1))
    assert wider
