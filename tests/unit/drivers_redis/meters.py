"""An app on SQLite and Redis, as a process of its own: python meters.py read|send DATABASE URL PREFIX COUNT."""

from __future__ import annotations

import asyncio
import os
import sys

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

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
from headrace.drivers.redis import RedisBroker
from headrace.errors import StorageBusy


class Report(Command[None]):
    first: int
    last: int


class Reported(NotificationEvent, type="meters.reported.v1", topic="meters", key="meter"):
    meter: str
    value: int


class ReportHandler(RequestHandler[Report, None]):
    async def handle(self, request: Report) -> None:
        for value in range(request.first, request.last):
            self.events.append(Reported(f"m{value % 9}", value))


class Keep(EventHandler[Reported]):
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def handle(self, event: Reported) -> None:
        await self._connection.execute(
            text("INSERT INTO readings (meter, value, process) VALUES (:meter, :value, :process)"),
            {"meter": event.meter, "value": event.value, "process": os.getpid()},
        )


async def main(role: str, database: str, url: str, prefix: str, count: str) -> None:
    requests, events = RequestMap(), EventMap()
    requests.bind(Report, ReportHandler)
    events.bind(Reported, Keep)
    app = Headrace(
        "meters",
        requests=requests,
        events=events,
        storage=f"sqlite+aiosqlite:///{database}",
        broker=RedisBroker(url, prefix=prefix, client_name=prefix),
        roles={"consume"} if role == "read" else {"send", "relay"},
        topics=[Topic("meters", 4)],
        limits=Limits(lease_seconds=1.0),
    )
    async with app:
        print("ready", flush=True)
        if role == "read":
            await asyncio.Event().wait()
        for first in range(0, int(count), 25):
            await send(app, Report(first, min(first + 25, int(count))))
        # The parent ends this process when all has arrived.
        await asyncio.Event().wait()


async def send(app: Headrace, request: Report) -> None:
    """Send it; three processes share one writer of SQLite, which is not fair among them."""
    while True:
        try:
            return await app.send(request)
        except StorageBusy:
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
