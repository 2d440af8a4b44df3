"""Two consumer processes of one group on RabbitMQ: one is killed in the middle, the other takes over."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from headrace.broker import Reading, Topic
from tests.servers import engine
from tests.unit.drivers_rabbitmq.place import Place

PROGRAM = Path(__file__).with_name("consumer_app.py")
COUNT = 400
KEYS = 7


@asynccontextmanager
async def running(role: str, storage: str, place: Place) -> AsyncGenerator[Process]:
    """A process of the app that has started."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        role,
        storage,
        place.url,
        place.prefix,
        str(COUNT),
        stdout=PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"started\n"
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.communicate()


async def effects(database: AsyncEngine) -> list[tuple[str, int]]:
    async with database.connect() as connection:
        rows = await connection.execute(text("SELECT key, number FROM effects ORDER BY id"))
        return [(row[0], row[1]) for row in rows]


async def until(database: AsyncEngine, count: int) -> None:
    """Wait for so many effects."""
    async with asyncio.timeout(50):
        while len(await effects(database)) < count:  # noqa: ASYNC110 - another process makes them
            await asyncio.sleep(0.1)


async def taken_over(place: Place, storage: str, column: str, sign: signal.Signals) -> None:
    """Send with two consumers, one of which gets the signal in the middle, and judge the effects."""
    place.topics.add("sent")
    place.readings.add(("takeover", "sent"))
    # The group is to be known before anything is published.
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("sent", 4)], [Reading("takeover", "sent")])
    database = create_async_engine(storage)
    try:
        async with database.begin() as connection:
            await connection.execute(
                text(f"CREATE TABLE effects ({column}, key TEXT, number INTEGER)")
            )
        async with (
            running("consume", storage, place) as first,
            running("consume", storage, place),
            running("send", storage, place) as sender,
        ):
            await until(database, COUNT // 4)
            os.kill(first.pid, sign)
            await until(database, COUNT)
            assert await sender.wait() == 0
            # The one that hung goes on where it was, and finds that others have its partitions.
            if first.returncode is None:
                first.send_signal(signal.SIGCONT)
            await asyncio.sleep(1.0)  # for what would come twice
        found = await effects(database)
    finally:
        await database.dispose()
    for key in {key for key, _ in found}:
        numbers = [number for of, number in found if of == key]
        assert numbers == [n for n in range(COUNT) if f"k{n % KEYS}" == key]


async def test_a_killed_consumer_is_taken_over(place: Place, tmp_path: Path) -> None:
    """When one of two consumers is killed each message has its effect once, in order per key (G7, G8)."""
    storage = f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"
    await taken_over(place, storage, "id INTEGER PRIMARY KEY AUTOINCREMENT", signal.SIGKILL)


async def test_a_hung_consumer_is_taken_over(place: Place) -> None:
    """When one of two consumers hangs, and comes back, each message has its effect once, in order per key (G7, G8)."""
    database = await asyncio.to_thread(engine("postgresql").fresh_database)
    try:
        await taken_over(place, database.url, "id BIGSERIAL PRIMARY KEY", signal.SIGSTOP)
    finally:
        await asyncio.to_thread(database.drop)
