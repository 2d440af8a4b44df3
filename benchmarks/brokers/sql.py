"""sql:// on PostgreSQL: a log by hand in the same database, on asyncpg: INSERT of a batch, SELECT behind a position."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import asyncpg
from sqlalchemy.engine import make_url

from benchmarks.brokers.by_hand import Opened, headers_of
from benchmarks.storage.by_hand import BATCH, Row
from benchmarks.storage.consumers import PARTITIONS, Taken
from headrace.broker import stable_hash
from headrace.drivers.sql import SqlBroker


class Hand:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._after = 0

    async def publish(self, rows: Sequence[Row]) -> None:
        await self._connection.executemany(
            "INSERT INTO hand_log (partition, key, headers, body) VALUES ($1, $2, $3, $4)",
            [
                (stable_hash(key) % PARTITIONS, key, headers, body)
                for _, _, key, headers, body in rows
            ],
        )

    async def resume(self) -> None:
        pass

    async def read(self) -> Sequence[Taken]:
        rows = await self._connection.fetch(
            f"SELECT id, partition, headers, body FROM hand_log WHERE id > $1 ORDER BY id LIMIT {BATCH}",
            self._after,
        )
        if rows:
            self._after = rows[-1]["id"]
        return [
            Taken(partition, headers_of(headers)["ce_id"], body)
            for _, partition, headers, body in rows
        ]

    async def settle(self) -> None:
        await self._connection.execute(
            "UPDATE hand_position SET position = $1 WHERE partition = 0", str(self._after)
        )

    async def pause(self) -> None:
        pass


@asynccontextmanager
async def opened(url: str, topic: str) -> AsyncGenerator[Opened]:
    """The driver and a log by hand in the database at `url`, which is fresh and goes with all that is in it."""
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("DELETE FROM headrace_log")
        await connection.execute("DELETE FROM hand_log")
        yield Opened(SqlBroker(), Hand(connection), "ce_", f"asyncpg {version('asyncpg')}")
    finally:
        await connection.close()
