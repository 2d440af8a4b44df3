"""Who is cancelled while a connection is taken gives it back, on an engine of the user's."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from sqlalchemy import AsyncAdaptedQueuePool
from sqlalchemy.ext.asyncio import create_async_engine

from headrace.drivers.sql import SqlStorage
from tests.servers import engine

TRIES = 60


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
async def test_a_cancelled_unit_leaves_no_connection_behind(name: str) -> None:
    """Whichever of its steps it was at: the pool would run empty, and SQLAlchemy warns of each that is lost."""
    url, drop = engine(name).fresh_database()
    users = create_async_engine(url, pool_size=2, max_overflow=0, pool_timeout=20)
    storage = SqlStorage(users)
    try:
        await storage.start("app", partitions=1)
        assert isinstance(users.pool, AsyncAdaptedQueuePool)
        for ticks in range(TRIES):
            task = asyncio.create_task(storage.backlog("outbox:app"))
            for _ in range(ticks):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            async with asyncio.timeout(10):
                # What gives it back may go on in the background.
                while users.pool.checkedout():  # noqa: ASYNC110 - a pool tells nobody
                    await asyncio.sleep(0.001)
        await storage.stop()
    finally:
        await users.dispose()
        await asyncio.to_thread(drop)
