"""An app on SQLite and Kafka, as a process of its own: python app.py send|consume DATABASE SERVERS PREFIX COUNT."""

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
from headrace.drivers.kafka import KafkaBroker

KEYS = 7


class Note(Command[None]):
    first: int
    count: int


class Noted(NotificationEvent, type="takeover.noted.v1", topic="noted", key="key"):
    key: str
    number: int


class NoteHandler(RequestHandler[Note, None]):
    async def handle(self, request: Note) -> None:
        for number in range(request.first, request.first + request.count):
            self.events.append(Noted(f"k{number % KEYS}", number))


class Keep(EventHandler[Noted]):
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def handle(self, event: Noted) -> None:
        await self._session.execute(
            text("INSERT INTO effects (key, number) VALUES (:key, :number)"),
            {"key": event.key, "number": event.number},
        )


async def main(role: str, database: str, servers: str, prefix: str, count: str) -> None:
    requests, events = RequestMap(), EventMap()
    requests.bind(Note, NoteHandler)
    events.bind(Noted, Keep)
    app = Headrace(
        "takeover",
        requests=requests,
        events=events,
        storage=f"sqlite+aiosqlite:///{database}",
        broker=KafkaBroker(servers, prefix=prefix, config={"fetch.wait.max.ms": 10}),
        roles={"consume"} if role == "consume" else {"send", "relay"},
        topics=[Topic("noted", 4)],
        limits=Limits(lease_seconds=1.0, poll_seconds=0.05),
    )
    async with app:
        print("started", flush=True)
        if role == "consume":
            await asyncio.Event().wait()
        for first in range(0, int(count), 20):
            await app.send(Note(first, 20))
            await asyncio.sleep(0.03)  # so that the fault falls into the middle
        while (outbox := (await app.status()).outbox) is None or outbox.ready:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
