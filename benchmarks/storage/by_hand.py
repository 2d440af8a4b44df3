"""The outbox of one who writes it by hand: a table, `SELECT ... LIMIT 500` and `DELETE` by ids, on the raw driver."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from time import perf_counter
from typing import Any, Final, Protocol

import aiosqlite
import asyncmy
import asyncpg
from sqlalchemy.engine import make_url

from benchmarks.storage.databases import Bench

BATCH: Final = 500
_OLDEST: Final = (
    f"SELECT id, topic, `key`, headers, body FROM hand_outbox ORDER BY id LIMIT {BATCH}"
)

Row = tuple[int, str, str, bytes, bytes]
"""id, topic, key, headers as JSON, body"""

Publish = Callable[[Sequence[Row]], Awaitable[None]]


class HandOutbox(Protocol):
    """One connection, in autocommit."""

    async def oldest(self) -> Sequence[Row]:
        """The oldest 500 rows."""
        ...

    async def delete(self, ids: Sequence[int]) -> None:
        """Delete these."""
        ...


async def drain(outbox: HandOutbox, count: int, publish: Publish | None = None) -> float:
    """Relay so many messages: select, publish with one wait, delete. Returns the seconds for each."""
    done = 0
    began = perf_counter()
    while done < count:
        rows = await outbox.oldest()
        if publish is not None:
            await publish(rows)
        await outbox.delete([row[0] for row in rows])
        done += len(rows)
    return (perf_counter() - began) / count


class _OnAsyncpg:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def oldest(self) -> Sequence[Row]:
        found: Sequence[Row] = await self._connection.fetch(_OLDEST.replace("`", ""))
        return found

    async def delete(self, ids: Sequence[int]) -> None:
        await self._connection.execute(
            "DELETE FROM hand_outbox WHERE id = ANY($1::bigint[])", list(ids)
        )


class _OnAsyncmy:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def oldest(self) -> Sequence[Row]:
        async with self._connection.cursor() as cursor:
            await cursor.execute(_OLDEST)
            found: Sequence[Row] = await cursor.fetchall()
        return found

    async def delete(self, ids: Sequence[int]) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.execute(f"DELETE FROM hand_outbox WHERE id IN ({','.join(map(str, ids))})")


class _OnAiosqlite:
    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def oldest(self) -> Sequence[Row]:
        found: Any = await self._connection.execute_fetchall(_OLDEST)
        return found  # type: ignore[no-any-return]

    async def delete(self, ids: Sequence[int]) -> None:
        await self._connection.execute(
            f"DELETE FROM hand_outbox WHERE id IN ({','.join(map(str, ids))})"
        )


@asynccontextmanager
async def hand_outbox(bench: Bench) -> AsyncGenerator[HandOutbox]:
    """A connection of the raw driver to the outbox by hand."""
    url = make_url(bench.url)
    if bench.kind == "postgresql":
        connection = await asyncpg.connect(
            url.set(drivername="postgresql").render_as_string(hide_password=False)
        )
        try:
            yield _OnAsyncpg(connection)
        finally:
            await connection.close()
    elif bench.kind == "mariadb":
        with closing(
            await asyncmy.connect(
                host=url.host,
                port=url.port or 3306,
                user=url.username,
                password=url.password or "",
                database=url.database,
                autocommit=True,
            )
        ) as maria:
            yield _OnAsyncmy(maria)
    else:
        async with aiosqlite.connect(url.database or "", isolation_level=None) as sqlite:
            yield _OnAiosqlite(sqlite)
