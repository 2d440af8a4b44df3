"""A checkout on real engines, and its dashboard in a web server: what the tests with a browser look at."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from headrace import (
    Command,
    DomainEvent,
    Events,
    Headrace,
    Limits,
    Module,
    NotificationEvent,
    Query,
    Retry,
    Sensitive,
    Subscription,
)
from headrace.app import Role
from headrace.dashboard import Dashboard
from tests.e2e.leftovers import remove
from tests.servers import engine

PICTURES = os.environ.get("HEADRACE_PICTURES") == "1"
"""Make the pictures of the docs: with plain names, so not beside another run on the same broker."""

_RUN = "" if PICTURES else f"-{secrets.token_hex(3)}"
PAYMENTS = f"payments{_RUN}"
PARCELS = f"parcels{_RUN}"


class PlaceOrder(Command[None]):
    order: str
    amount: int


class FindOrder(Query[str]):
    order: str


class OrderPlaced(DomainEvent):
    order: str
    amount: int


class CardCharged(NotificationEvent, type="payments.card-charged.v1", topic=PAYMENTS, key="order"):
    order: str
    amount: int
    email: Annotated[str, Sensitive] = "ada@example.com"


class ParcelBooked(NotificationEvent, type="parcels.booked.v1", topic=PARCELS, key="order"):
    order: str


class AddressUnknown(Exception):
    """A rule of the shop."""

    __module__ = "checkout.errors"


class MailboxFull(Exception):
    """What the mail server says."""

    __module__ = "checkout.errors"


orders = Module("orders")
parcels = Module("parcels", subscriptions=[Subscription(group="parcels", retry=Retry.NEVER)])
mails = Module("mails", subscriptions=[Subscription(group="mails", retry=Retry.NEVER)])


@orders.handler(raises=[OrderPlaced])
async def place_order(request: PlaceOrder, events: Events) -> None:
    events.append(OrderPlaced(request.order, request.amount))


@orders.handler(raises=[])
async def find_order(request: FindOrder) -> str:
    return request.order


@orders.handler(raises=[CardCharged])
async def charge_card(event: OrderPlaced, events: Events) -> None:
    events.append(CardCharged(event.order, event.amount))


@parcels.handler(raises=[ParcelBooked])
async def book_parcel(event: CardCharged, events: Events) -> None:
    if event.amount < 0:
        raise AddressUnknown(f"no address for {event.order} of {event.email}")
    events.append(ParcelBooked(event.order))


@mails.handler(raises=[])
async def send_receipt(event: CardCharged) -> None:
    if event.amount > 9_000:
        raise MailboxFull("mail.example.com refused the receipt: 452 mailbox full")


@mails.handler(raises=[])
async def send_tracking(event: ParcelBooked) -> None: ...


@dataclass(frozen=True, slots=True)
class Urls:
    """Where storage and broker are."""

    storage: str
    broker: str


@contextmanager
def urls() -> Iterator[Urls]:
    """A database of one's own on PostgreSQL, and topics on RabbitMQ that are gone afterwards."""
    storage, drop = engine("postgresql").fresh_database()
    broker = engine("rabbitmq").url
    try:
        yield Urls(storage, broker)
    finally:
        for topic in (PAYMENTS, PARCELS):
            asyncio.run(remove("rabbitmq", broker, topic, ["checkout", "mails", "parcels"]))
        drop()


def make(at: Urls, *roles: Role) -> Headrace:
    """A process of the app."""
    return Headrace(
        "checkout",
        modules=[orders, parcels, mails],
        storage=at.storage,
        broker=at.broker,
        roles=roles or ("send", "relay", "consume"),
        limits=Limits(poll_seconds=0.05, lease_seconds=3),
    )


@dataclass(frozen=True, slots=True)
class Site:
    """A dashboard that is served.

    Args:
        url: of its first page.
        web: the process that shows it, and sends.
        worker: the other process of the app.
        server: that serves it.
    """

    url: str
    web: Headrace
    worker: Headrace
    server: uvicorn.Server

    async def settle(self) -> None:
        """Wait until all that was sent has had its effects."""
        await self.worker.settle()


@asynccontextmanager
async def site(at: Urls, *, by: str | None = "ada") -> AsyncIterator[Site]:
    """A web process with the dashboard below /ops/flow, and a worker; both of one app."""
    web, worker = make(at, "send"), make(at, "relay", "consume")
    worker.telemetry.observe_sends = True  # as `headrace worker` does
    pages = Dashboard(web, authorize=(lambda request, action: by) if by else None)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(Starlette(routes=[Mount("/ops/flow", pages)]), log_level="warning")
        )
        async with worker, web:
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                yield Site(f"http://127.0.0.1:{port}/ops/flow/", web, worker, server)
            finally:
                server.should_exit = True
                async with asyncio.timeout(10):  # however many pages are open
                    await serving


@asynccontextmanager
async def orders_coming_in(app: Headrace, *, seconds: float = 0.02) -> AsyncIterator[None]:
    """Orders come in as long as the block lasts."""

    async def send() -> None:
        number = 0
        while True:
            number += 1
            await app.send(PlaceOrder(f"order-{number}", 100 + number % 900))
            await asyncio.sleep(seconds)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def fail(at: Site, *orders_of: str, amount: int = -1, behind: int = 0) -> None:
    """Orders that become dead letters, with others held behind them."""
    for order in orders_of:
        await at.web.send(PlaceOrder(order, amount))
        for _ in range(behind):
            await at.web.send(PlaceOrder(order, 10))
    await at.settle()
