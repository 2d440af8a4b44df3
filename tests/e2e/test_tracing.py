"""One trace from the command to the consumer, with a real OpenTelemetry SDK, on real engines and across processes' roles."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from headrace import Command, DomainEvent, Events, Headrace, Limits, Module, NotificationEvent
from headrace.app import Role
from tests.e2e.leftovers import remove
from tests.servers import engine
from tests.unit.spans import Collected

RUN = secrets.token_hex(3)
TOPIC = f"traced-{RUN}"


class Place(Command[None]):
    order: str


class Placed(DomainEvent):
    order: str


class Announced(NotificationEvent, type="traced.placed.v1", topic=TOPIC, key="order"):
    order: str


shop = Module("shop")


@shop.handler
async def place(request: Place, connection: AsyncConnection, events: Events) -> None:
    await connection.execute(text("select 1"))
    events.append(Placed(request.order))


@shop.handler
async def announce(event: Placed, events: Events) -> None:
    events.append(Announced(event.order))


@shop.handler
async def pack(event: Announced, connection: AsyncConnection) -> None:
    await connection.execute(text("select 1"))


@pytest.fixture(params=["sqlite-sql", "postgresql-rabbitmq"])
def engines_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """URLs of a storage and a broker, and what the broker is called in spans."""
    if request.param == "sqlite-sql":
        yield f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}", "sql://", "sql"
        return
    storage, drop = engine("postgresql").fresh_database()
    broker = engine("rabbitmq").url
    yield storage, broker, "rabbitmq"
    asyncio.run(remove("rabbitmq", broker, TOPIC, ["shop"]))
    drop()


async def test_one_trace_shows_command_to_consumer(engines_of: tuple[str, str, str]) -> None:
    """Section 2: a web process sends; a relay publishes and a worker consumes, and all of it is one tree."""
    storage, broker, system = engines_of
    told = Collected()

    def process(*roles: Role) -> Headrace:
        limits = Limits(poll_seconds=0.05)
        return told.watch(
            Headrace(
                *("shop",),
                modules=[shop],
                storage=storage,
                broker=broker,
                roles=roles,
                limits=limits,
            )
        )

    async with process("relay") as relay, process("consume") as worker, process("send") as web:
        await web.send(Place("o1"), correlation_id="checkout-1")
        async with asyncio.timeout(30):
            while not told.named("handle pack"):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        await relay.settle()
        await worker.settle()
    tree = ["send Place", f"publish {TOPIC}", f"process {TOPIC}", "handle pack"]
    assert told.path(told.one("handle pack")) == tree
    assert told.path(told.one("handle announce")) == ["send Place", "handle announce"]
    process_span, receive = told.one(f"process {TOPIC}"), told.named(f"receive {TOPIC}")[0]
    assert [link.context.span_id for link in process_span.links] == [receive.context.span_id]
    attributes = process_span.attributes or {}
    assert attributes["messaging.system"] == system
    assert attributes["messaging.consumer.group.name"] == "shop"
    assert attributes["messaging.message.conversation_id"] == "checkout-1"
    assert attributes["headrace.message.outcome"] == "handled"
    published = told.numbers("headrace.relay.published")
    assert list(published.values()) == [1]
