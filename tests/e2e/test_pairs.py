"""From command to consumed event on every pair of storage and broker, on real servers."""

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import engines
from headrace import (
    Command,
    DomainEvent,
    Envelope,
    Events,
    Headrace,
    Limits,
    Module,
    NotificationEvent,
    Query,
    Retry,
    Subscription,
)
from headrace.app import Role
from headrace.drivers.sql import SqlStorage
from tests.e2e.leftovers import remove

PAIRS = [
    pytest.param((storage, broker), id=f"{storage}-{broker}")
    for storage in ("sqlite", "postgresql", "mariadb")
    for broker in ("sql", "kafka", "rabbitmq", "nats", "redis")
]
# A topic belongs to a class: the servers may still hold what an earlier run left in one of the same name.
RUN = secrets.token_hex(3)
LIMITS = Limits(poll_seconds=0.1, lease_seconds=5.0)


class Base(DeclarativeBase):
    metadata = MetaData()


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    customer: Mapped[str] = mapped_column(String(40))


# Without a unique constraint: a repeat must be seen by the test, not undone by the database.
parcels = Table(
    "parcels",
    Base.metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("customer", String(40), nullable=False),
    Column("order_id", String(40), nullable=False),
)


class PlaceOrder(Command[str]):
    id: str
    customer: str


class OrderPlaced(DomainEvent):
    id: str
    customer: str


class OrderAnnounced(
    NotificationEvent, type="shop.order-placed.v1", topic=f"orders-{RUN}", key="customer"
):
    id: str
    customer: str


class Packed(Query[list[tuple[str, str]]]):
    """Customers and their orders, in the order in which they were packed."""


class OutOfBoxes(Exception):
    """No parcel can be packed for this customer, for now."""


@dataclass
class Shelf:
    """What packing needs and what it saw."""

    without_boxes: set[str] = field(default_factory=set)
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    """The tenant and the correlation id of each message."""


shop = Module("shop")
warehouse = Module("warehouse")


@shop.handler
async def place(request: PlaceOrder, session: AsyncSession, events: Events) -> str:
    session.add(Order(id=request.id, customer=request.customer))
    events.append(OrderPlaced(request.id, request.customer))
    if request.customer.startswith("nobody"):
        raise LookupError("nobody is no customer")
    return request.id


@shop.handler
async def announce(event: OrderPlaced, events: Events) -> None:
    events.append(OrderAnnounced(event.id, event.customer))


@warehouse.handler
async def pack(
    event: OrderAnnounced, connection: AsyncConnection, shelf: Shelf, envelope: Envelope
) -> None:
    await connection.execute(insert(parcels).values(customer=event.customer, order_id=event.id))
    if event.customer in shelf.without_boxes:
        raise OutOfBoxes(event.customer)
    shelf.seen.append((envelope.metadata["tenant"], envelope.correlationid))


@warehouse.handler
async def packed(query: Packed, connection: AsyncConnection) -> list[tuple[str, str]]:
    rows = await connection.execute(select(parcels).order_by(parcels.c.number))
    return [(row.customer, row.order_id) for row in rows]


@dataclass
class Pair:
    """An app for one pair of engines; each call makes another process's.

    A broker keeps what other tests left in the topic, and a new group reads it too: `group` is in the names of a test's
    customers, so that it finds its own.
    """

    group: str
    make: Callable[..., Headrace]

    def of(self, customer: str, found: list[tuple[str, str]]) -> list[str]:
        """The orders of a customer, in the order in which they were packed."""
        return [order for who, order in found if who == self.named(customer)]

    def named(self, customer: str) -> str:
        """The name of a customer of this test."""
        return f"{customer}-{self.group}"


@pytest.fixture
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """The engines of a pair, with a database and a group of the test's own."""
    storage, broker = request.param
    url, drop = f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}", None
    try:
        where = "sql://" if broker == "sql" else engines.shared(broker).url
        if storage != "sqlite":
            url, drop = engines.shared(storage).fresh_database()
    except engines.EngineMissing as error:
        pytest.skip(f"{storage} with {broker}: {error}")
    group = secrets.token_hex(3)

    def make(shelf: Shelf, roles: Collection[Role] = ("send", "relay", "consume")) -> Headrace:
        retry = Retry(attempts=2, initial_seconds=0.01)
        return Headrace(
            f"shop-{group}",
            modules=[shop, warehouse],
            providers=[shelf],
            storage=SqlStorage(url, metadata=Base.metadata),
            broker=where,
            subscriptions=[Subscription(retry=retry, batch=10)],
            limits=LIMITS,
            roles=roles,
        )

    yield Pair(group, make)
    asyncio.run(remove(broker, where, f"orders-{RUN}", [f"shop-{group}"]))
    if drop is not None:
        drop()


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_from_command_to_effect(pair: Pair) -> None:
    """Commands commit, their events reach the consumer once, in order per key, with what the caller passed along (G4 to G8)."""
    shelf, tenant = Shelf(), f"açme {pair.group}"
    async with pair.make(shelf) as app:
        orders = [(f"o{n}", pair.named(f"c{n % 4}")) for n in range(40)]
        for order, customer in orders:
            answer = await app.send(
                PlaceOrder(order, customer), correlation_id="Ümläut 1", metadata={"tenant": tenant}
            )
            assert answer == order
        with pytest.raises(LookupError):
            await app.send(PlaceOrder("lost", pair.named("nobody")), metadata={"tenant": tenant})
        await app.settle(30)
        found = await app.send(Packed())
        for customer in ("c0", "c1", "c2", "c3"):
            assert pair.of(customer, found) == [o for o, c in orders if c == pair.named(customer)]
        assert not pair.of("nobody", found)
        assert {one for one in shelf.seen if one[0] == tenant} == {(tenant, "Ümläut 1")}
        assert await app.dead_letters.list() == []
        status = await app.status()
        assert status.outbox is not None
        assert status.outbox.ready == 0


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_a_failing_key_holds_itself_alone(pair: Pair) -> None:
    """What fails becomes a dead letter with its key behind it, others flow; a redrive runs them in order (G8, G9)."""
    shelf = Shelf(without_boxes={pair.named("bad")})
    async with pair.make(shelf) as app:
        for n in range(6):
            for customer in ("bad", "good"):
                await app.send(
                    PlaceOrder(f"{customer}{n}", pair.named(customer)), metadata={"tenant": "a"}
                )
        await app.settle(30)
        found = await app.send(Packed())
        assert pair.of("good", found) == [f"good{n}" for n in range(6)]
        assert not pair.of("bad", found)
        (letter,) = await app.dead_letters.list()
        assert "OutOfBoxes" in str(letter)
        shelf.without_boxes.clear()
        await app.dead_letters.redrive_all()
        await app.settle(30)
        assert pair.of("bad", await app.send(Packed())) == [f"bad{n}" for n in range(6)]


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
async def test_a_restart_goes_on_where_it_was(pair: Pair) -> None:
    """What one process committed or left half read, the next one handles; nothing is handled again (G5, G7, G10)."""
    shelf = Shelf()
    async with pair.make(shelf, roles={"send"}) as sender:
        for n in range(10):
            await sender.send(PlaceOrder(f"o{n}", pair.named("c")), metadata={"tenant": pair.group})
    async with pair.make(shelf) as app:
        await app.settle(30)
    async with pair.make(shelf) as app:
        await app.send(PlaceOrder("o10", pair.named("c")), metadata={"tenant": pair.group})
        await app.settle(30)
        assert pair.of("c", await app.send(Packed())) == [f"o{n}" for n in range(11)]
    assert len([one for one in shelf.seen if one[0] == pair.group]) == 11
