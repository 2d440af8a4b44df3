"""A FastAPI service on PostgreSQL and RabbitMQ: a unit for a route, and a COMMIT that the database refuses."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from headrace import Command, Envelope, Events, Headrace, Module, NotificationEvent
from headrace.drivers.sql import SqlStorage
from headrace.integrations.fastapi import Provided, Send, Unit, add_problems, lifespan
from tests.e2e.leftovers import remove
from tests.e2e.shop import client
from tests.servers import engine

TOPIC = f"web-{uuid4().hex[:12]}"


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"

    name: Mapped[str] = mapped_column(primary_key=True)


class Bill(Base):
    __tablename__ = "bill"

    number: Mapped[str] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(
        ForeignKey("customer.name", deferrable=True, initially="DEFERRED")
    )


class SendBill(Command[str]):
    number: str
    customer: str


class BillSent(NotificationEvent, type="bills.sent.v1", topic=TOPIC, key="number"):
    number: str


class Service:
    """The web app and what a consumer heard by way of RabbitMQ."""

    def __init__(self, storage: str, broker: str) -> None:
        self.heard: list[tuple[str, str | None]] = []
        module = Module(TOPIC)

        @module.handler
        async def bill(request: SendBill, session: AsyncSession, events: Events) -> str:
            session.add(Bill(number=request.number, customer=request.customer))
            events.append(BillSent(request.number))
            return request.number

        @module.handler
        async def hear(event: BillSent, envelope: Envelope) -> None:
            self.heard.append((event.number, envelope.correlationid))

        self.app = Headrace(
            TOPIC,
            modules=[module],
            storage=SqlStorage(storage, metadata=Base.metadata),
            broker=broker,
        )
        self.api = FastAPI(lifespan=lifespan(self.app))
        add_problems(self.api, {IntegrityError: 409})

        @self.api.post("/bills/{number}")
        async def send_bill(
            number: str, customer: str, unit: Unit, session: Provided[AsyncSession]
        ) -> str:
            if customer != "nobody":
                session.add(Customer(name=customer))
            return await unit.send(SendBill(number, customer))

        @self.api.post("/late/{number}")
        async def late(number: str, send: Send) -> str:
            return await send(SendBill(number, "ada"))


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    broker = engine("rabbitmq").url
    storage, drop = engine("postgresql").fresh_database()
    try:
        yield Service(storage, broker)
    finally:
        await asyncio.to_thread(drop)
        await remove("rabbitmq", broker, TOPIC, [TOPIC])


async def bills(http: httpx.AsyncClient, service: Service) -> int:
    """How many there are, committed."""
    async with service.app.unit_of_work(read_only=True) as unit:
        session = await unit.get(AsyncSession)
        return await session.scalar(select(func.count()).select_from(Bill)) or 0


async def test_a_service_on_postgresql_and_rabbitmq(service: Service) -> None:
    """G4, G5: the route's unit commits with its notification; one whose COMMIT is refused is a 409 and leaves nothing."""
    async with client(service.api) as http:
        answer = await http.post("/bills/b1?customer=ada", headers={"x-correlation-id": "c1"})
        assert (answer.status_code, answer.json()) == (200, "b1")
        # Only COMMIT itself finds that there is no such customer: the constraint is deferred.
        answer = await http.post("/bills/b2?customer=nobody")
        assert (answer.status_code, answer.json()["title"]) == (409, "Conflict")
        assert await bills(http, service) == 1
        assert (await http.post("/late/b3", headers={"x-correlation-id": "c3"})).json() == "b3"
        await service.app.settle()
    assert sorted(service.heard) == [("b1", "c1"), ("b3", "c3")]
