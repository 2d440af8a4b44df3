"""Two consuming processes of one group on Redis, one of which dies or hangs in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.unit.drivers_redis.place import Place

PROGRAM = Path(__file__).with_name("meters.py")
COUNT = 600


@asynccontextmanager
async def process(role: str, database: Path, place: Place) -> AsyncIterator[Process]:
    """A process of the app that is ready; killed at the end."""
    arguments = [role, str(database), place.url, place.prefix, str(COUNT)]
    made = await asyncio.create_subprocess_exec(sys.executable, PROGRAM, *arguments, stdout=PIPE)
    try:
        assert made.stdout is not None
        assert await made.stdout.readline() == b"ready\n"
        yield made
    finally:
        if made.returncode is None:
            made.kill()
        await made.communicate()


def readings(database: Path) -> list[tuple[str, int, int]]:
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        return connection.execute(
            "SELECT meter, value, process FROM readings ORDER BY n"
        ).fetchall()


async def arrived(database: Path, count: int, of: int = 1) -> list[tuple[str, int, int]]:
    """What has arrived, when it is so much, from so many processes."""
    async with asyncio.timeout(45):
        while True:
            found = readings(database)
            if len(found) >= count and len({process for _, _, process in found}) >= of:
                return found
            await asyncio.sleep(0.05)


async def strike(victim: Process, sign: signal.Signals, database: Path) -> None:
    """Send the signal; a process that is stopped inside a transaction stops SQLite's file, so it is stopped outside one."""
    while True:
        os.kill(victim.pid, sign)
        if sign == signal.SIGKILL:
            return
        with closing(sqlite3.connect(database, timeout=0.5, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                return
            except sqlite3.OperationalError:
                os.kill(victim.pid, signal.SIGCONT)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_process_that_dies_or_hangs_is_taken_over(
    place: Place, tmp_path: Path, sign: signal.Signals
) -> None:
    """Each message has its effect once and in order per key, though its consumer dies, hangs and comes back (G7, G8)."""
    database = tmp_path / "meters.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(
            "CREATE TABLE readings (n INTEGER PRIMARY KEY, meter TEXT, value INTEGER, process INTEGER)"
        )
        connection.commit()
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(process("read", database, place)) for _ in range(2)
        ]
        await stack.enter_async_context(process("send", database, place))
        before = await arrived(database, COUNT // 5, of=1)
        await strike(first, sign, database)
        found = await arrived(database, COUNT)
        assert len(before) < COUNT
        assert second.pid in {process for _, _, process in found}
        if sign == signal.SIGSTOP:
            os.kill(first.pid, signal.SIGCONT)
            # It finds its leases lost; what it still holds must have no effect.
            async with place.client() as client:
                await client.xadd(f"{place.prefix}:{{meters}}:0", {"noise": "1"})
            await asyncio.sleep(0.5)
            found = readings(database)
    for meter in range(9):
        values = [value for name, value, _ in found if name == f"m{meter}"]
        assert values == list(range(meter, COUNT, 9))
