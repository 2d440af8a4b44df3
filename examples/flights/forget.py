"""Starting over: the tables of an earlier replay go away. What a broker still holds of it does not."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import create_async_engine

from examples.flights import tables
from examples.flights.settings import Settings
from headrace.drivers.sql import headrace_metadata


async def forget(settings: Settings) -> None:
    """Delete the SQLite file, or drop the tables of the example and of Headrace in a database of the user's."""
    if not settings.storage:
        for ending in ("", "-wal", "-shm"):
            settings.database.with_name(settings.database.name + ending).unlink(missing_ok=True)
        return
    engine = create_async_engine(settings.storage)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(tables.metadata.drop_all)
            await connection.run_sync(headrace_metadata.drop_all)
    finally:
        await engine.dispose()
