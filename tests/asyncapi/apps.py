"""An app whose messages are of every kind that the codec writes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import attrs
import msgspec
from pydantic import BaseModel, Field

from headrace import (
    Command,
    Event,
    Events,
    Headrace,
    Module,
    NotificationEvent,
    Query,
    Subscription,
    Topic,
    notification,
)


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Line:
    article: str
    count: int
    size: Size = Size.SMALL


class Address(BaseModel):
    """Where somebody lives."""

    street_name: str = Field(alias="streetName")
    next_one: Address | None = None


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: float


class Place(Command[str]):
    """Place an order."""

    number: str
    lines: list[Line]


class Find(Query[list[str]]):
    number: str


class Ordered(NotificationEvent, type="shop.ordered.v1", topic="orders", key="number"):
    """An order was placed.

    Nothing is paid yet.
    """

    number: str
    lines: list[Line]
    place: tuple[int, str]
    id: UUID
    at: datetime
    total: Decimal
    by: Address | None = None
    prefixItems: list[int] = field(default_factory=list)
    raw: bytes = b""


@notification(type="shop.paid.v1", topic="orders", key="number")
class Paid(BaseModel, Event):
    number: str
    on_day: date = Field(alias="onDay")
    address: Address
    pair: tuple[int, str] = (1, "")
    amount: Annotated[int, Field(gt=0)] = 1


@notification(type="shop.drawn/v1", topic="shapes")
class Drawn(msgspec.Struct, Event, rename="camel"):
    main_shape: Circle | Square
    all_shapes: tuple[Circle | Square, ...] = ()
    anything: object = None


@notification(type="shop.packed.v1", topic="shapes", key=lambda event: None)
@attrs.define
class Packed(Event):
    lines: list[Line]
    weights: dict[str, float] = attrs.Factory(dict)


def make(broker: str) -> Headrace:
    """An app on a broker; it is never started."""
    module = Module("shop", subscriptions=[Subscription(group="a group/1", topics=("shapes",))])

    @module.handler(raises=[Ordered, Paid])
    async def place(request: Place, events: Events) -> str:
        return request.number

    @module.handler(raises=[])
    async def find(request: Find) -> list[str]:
        return []

    @module.handler(raises=[Drawn])
    async def ordered(event: Ordered, events: Events) -> None:
        pass

    @module.handler(raises=[])
    async def draw(event: Drawn | Packed) -> None:
        pass

    return Headrace(
        "shop",
        modules=[module],
        storage="memory://",
        broker=broker,
        topics=[Topic("orders", partitions=4)],
    )
