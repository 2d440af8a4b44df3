"""A shop for the tests of web frameworks: one table, a command, a notification, and what was consumed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette

from headrace import Command, Envelope, Events, Headrace, Module, NotificationEvent, Query
from headrace.drivers.sql import SqlStorage


@asynccontextmanager
async def client(
    api: Starlette, around: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the web app while it runs; errors that nobody answers are answered as a server does."""
    transport = httpx.ASGITransport(app=api, raise_app_exceptions=False)
    async with (
        (around or api.router.lifespan_context)(api),
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        yield http


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    number: Mapped[str] = mapped_column(primary_key=True)


class PlaceOrder(Command[str]):
    number: str


class Numbers(Query[list[str]]):
    pass


class OrderPlaced(NotificationEvent, type="orders.placed.v1", topic="orders", key="number"):
    number: str


class Refused(Exception):
    """A rule of the shop."""


class Basket:
    """A request-scoped dependency."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session


@dataclass(frozen=True)
class Told:
    """What a consumer was told."""

    number: str
    correlation_id: str | None
    tenant: str | None
    causation_id: str | None
    traceparent: str | None


class Shop:
    """The app, and what came out at its far end."""

    def __init__(self, path: Path, name: str = "shop", container: object | None = None) -> None:
        self.told: list[Told] = []
        self.baskets: list[Basket] = []
        module = Module(name, providers=[] if container is not None else [Basket])

        @module.handler
        async def place(request: PlaceOrder, basket: Basket, events: Events) -> str:
            self.baskets.append(basket)
            if request.number == "13":
                raise Refused("no order has the number 13")
            basket.session.add(Order(number=request.number))
            events.append(OrderPlaced(request.number))
            return f"order {request.number}"

        @module.handler
        async def numbers(request: Numbers, session: AsyncSession) -> list[str]:
            return list(await session.scalars(select(Order.number).order_by(Order.number)))

        @module.handler
        async def tell(event: OrderPlaced, envelope: Envelope) -> None:
            self.told.append(
                Told(
                    event.number,
                    envelope.correlationid,
                    envelope.metadata.get("tenant"),
                    envelope.causationid,
                    envelope.traceparent,
                )
            )

        self.app = Headrace(
            name,
            modules=[module],
            container=container,
            storage=SqlStorage(f"sqlite+aiosqlite:///{path / name}.db", metadata=Base.metadata),
            broker="sql://",
        )

    async def placed(self) -> list[str]:
        """The orders that consumers were told of, when all has settled."""
        await self.app.settle()
        return sorted(told.number for told in self.told)
