"""Two consumer processes of one group on Kafka, with a fault in the middle: effects once, in order per key."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.unit.drivers_kafka.place import Place, Proxy

PROGRAM = Path(__file__).with_name("app.py")
COUNT = 400
KEYS = 7


@asynccontextmanager
async def running(role: str, database: Path, place: Place) -> AsyncGenerator[Process]:
    """A process of the app that has started."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        role,
        str(database),
        place.servers,
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
            process.kill()
        await process.communicate()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE effects (key TEXT, number INTEGER)")
        connection.commit()
    return path


def effects(database: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        return connection.execute("SELECT key, number FROM effects ORDER BY rowid").fetchall()


async def until(database: Path, count: int) -> None:
    async with asyncio.timeout(50):
        while len(effects(database)) < count:  # noqa: ASYNC110 - other processes make them
            await asyncio.sleep(0.1)


def check(database: Path) -> None:
    found = effects(database)
    for key in range(KEYS):
        numbers = [number for of, number in found if of == f"k{key}"]
        assert numbers == list(range(key, COUNT, KEYS)), f"k{key}"


async def test_a_take_over_in_the_middle(place: Place, database: Path) -> None:
    """When one of two consumers is killed, each message has its effect once, in order per key (G7, G8)."""
    async with (
        running("consume", database, place) as first,
        running("consume", database, place),
        running("send", database, place) as sender,
    ):
        await until(database, COUNT // 4)
        os.kill(first.pid, signal.SIGKILL)
        await until(database, COUNT)
        assert await sender.wait() == 0
        await asyncio.sleep(0.5)  # for what would come twice
    check(database)


async def test_cut_connections_in_the_middle(place: Place, proxy: Proxy, database: Path) -> None:
    """While all connections are cut again and again, each message has its effect once, in order per key (G5 to G8)."""
    async with (
        running("consume", database, place),
        running("consume", database, place),
        running("send", database, place) as sender,
    ):
        for _ in range(10):
            await asyncio.sleep(0.2)
            proxy.cut()
        await until(database, COUNT)
        assert await sender.wait() == 0
    check(database)
