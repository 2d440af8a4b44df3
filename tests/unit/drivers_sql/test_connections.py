"""Connections for all: units of work do not take those that Headrace itself lives by (G8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from headrace.drivers.sql import SqlStorage
from headrace.errors import StorageBusy
from tests.conformance import postgres
from tests.unit.drivers_sql.steps import session_of

QUEUE = "group:g/orders"


@pytest.fixture(params=["asyncpg", "psycopg"])
async def storage(request: pytest.FixtureRequest) -> AsyncIterator[SqlStorage]:
    name = await postgres.create()
    storage = SqlStorage(postgres.url(request.param, name), connections=4, busy_seconds=0.5)
    await storage.start("app", partitions=4)
    yield storage
    await storage.stop()
    await postgres.drop(name)


async def test_slow_units_do_not_let_leases_run_out(storage: SqlStorage) -> None:
    """However many units there are, signs of life reach the database; units beyond the number hear that all is busy."""
    units = [storage.transaction() for _ in range(4)]
    begun = await asyncio.gather(
        *(session_of(storage, unit).execute(text("SELECT 1")) for unit in units),
        return_exceptions=True,
    )
    for _ in range(3):
        grant = await storage.lease(QUEUE, "me", partitions=4, seconds=5.0)
        assert len(grant.held) == 4
        assert await storage.runnable(QUEUE, range(4), limit=1) == []
    busy = [error for error in begun if isinstance(error, StorageBusy)]
    assert len(busy) == 2
    assert "SqlStorage(connections=...)" in str(busy[0])
    for unit in units:
        await unit.rollback()


async def test_a_place_comes_free_however_a_unit_ends(storage: SqlStorage) -> None:
    """Commit, rollback and a lost connection each leave room for the next unit."""
    for _ in range(3):
        for end in ("commit", "rollback", "lost"):
            unit = storage.transaction()
            session = session_of(storage, unit)
            await session.execute(text("SELECT 1"))
            if end == "commit":
                await unit.commit()
                continue
            if end == "lost":
                with pytest.raises(Exception, match="connection"):
                    await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
            await unit.rollback()
