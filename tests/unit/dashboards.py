"""An app with dead letters, and a client of its dashboard: what the tests of the dashboard share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from headrace import (
    Command,
    Events,
    Headrace,
    Module,
    NotificationEvent,
    Retry,
    Sensitive,
    Subscription,
)
from headrace.dashboard import Action, Dashboard

HOST = "ops.test"
ORIGIN = f"http://{HOST}"


class Charge(Command[None]):
    order: str
    amount: int


class Charged(NotificationEvent, type="payments.charged.v1", topic="payments", key="order"):
    order: str
    amount: int
    email: Annotated[str, Sensitive] = "ada@example.com"


def make_app(storage: str | None = "memory://") -> Headrace:
    """Amounts below zero become dead letters of the group."""
    payments = Module("payments")

    @payments.handler(raises=[Charged])
    async def charge(request: Charge, events: Events) -> None:
        events.append(Charged(request.order, request.amount))

    @payments.handler(raises=[])
    async def book(event: Charged) -> None:
        if event.amount < 0:
            raise ValueError(f"{event.email} would owe <b>{event.amount}</b>")

    return Headrace(
        "shop",
        modules=[payments],
        storage=storage,
        broker="memory://",
        subscriptions=[Subscription(retry=Retry.NEVER)],
    )


async def charge(app: Headrace, *amounts: int, order: str = "o1") -> None:
    """Charge them, and wait for what comes of it."""
    for amount in amounts:
        await app.send(Charge(order, amount))
    await app.settle()


def ada(_: object, action: Action) -> str | None:
    """A hook that lets Ada do everything."""
    return "ada"


@asynccontextmanager
async def client_of(
    pages: ASGIApp, *, prefix: str = "", headers: dict[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at the dashboard, mounted below a prefix."""
    app = Starlette(routes=[Mount(prefix, pages)]) if prefix else pages
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url=f"{ORIGIN}{prefix}/", headers=headers
    ) as client:
        yield client


async def post(
    client: httpx.AsyncClient,
    path: str,
    fields: dict[str, Any],
    *,
    token: str | None = None,
    **headers: str,
) -> httpx.Response:
    """Send a form as a browser does: with its token, and with the origin of the page."""
    if token is None:
        token = client.cookies.get("headrace_form") or ""
    sent = {"origin": ORIGIN, "sec-fetch-site": "same-origin"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return await client.post(
        path,
        data={"form_token": token, **fields},
        headers={name: value for name, value in sent.items() if value},
    )


async def position_of(app: Headrace, number: int = 0) -> int:
    """The position of a dead letter."""
    return (await app.dead_letters.list())[number].position


__all__ = [
    "HOST",
    "ORIGIN",
    "Charge",
    "Charged",
    "Dashboard",
    "ada",
    "charge",
    "client_of",
    "make_app",
    "position_of",
    "post",
]
