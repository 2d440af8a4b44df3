"""An app on RabbitMQ, as a process: python consumer_app.py consume|send STORAGE URL PREFIX [COUNT]."""

from __future__ import annotations

import asyncio
import sys

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from headrace import (
    Command,
    EventHandler,
    EventMap,
    Headrace,
    Limits,
    NotificationEvent,
    RequestHandler,
    RequestMap,
)
from headrace.broker import Topic
from headrace.drivers.rabbitmq import RabbitBroker

KEYS = 7
LIMITS = Limits(lease_seconds=1.0, poll_seconds=0.05)


class Send(Command[None]):
    first: int
    count: int


class Sent(NotificationEvent, type="takeover.sent.v1", topic="sent", key="key"):
    key: str
    number: int


class SendHandler(RequestHandler[Send, None]):
    async def handle(self, request: Send) -> None:
        for number in range(request.first, request.first + request.count):
            self.events.append(Sent(f"k{number % KEYS}", number))


class Note(EventHandler[Sent]):
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: Sent) -> None:
        await self._session.execute(
            text("INSERT INTO effects (key, number) VALUES (:key, :number)"),
            {"key": event.key, "number": event.number},
        )


async def main(role: str, storage: str, url: str, prefix: str, count: str = "0") -> None:
    requests, events = RequestMap(), EventMap()
    requests.bind(Send, SendHandler)
    events.bind(Sent, Note)
    app = Headrace(
        "takeover",
        requests=requests,
        events=events,
        storage=storage,
        broker=RabbitBroker(url, prefix=prefix, heartbeat_seconds=2),
        roles={"consume"} if role == "consume" else {"send", "relay"},
        topics=[Topic("sent", 4)],
        limits=LIMITS,
    )
    async with app:
        print("started", flush=True)
        if role == "consume":
            await asyncio.Event().wait()
        for first in range(0, int(count), 20):
            await app.send(Send(first, 20))
            await asyncio.sleep(0.03)
        while (outbox := (await app.status()).outbox) is None or outbox.ready:  # noqa: ASYNC110 - a relay has no event for it
            await asyncio.sleep(0.05)


asyncio.run(main(*sys.argv[1:]))
