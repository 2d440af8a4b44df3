"""A committed send with one notification, against the transaction by hand, without an outbox."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from benchmarks.storage.app import INSERT, Put, PutQuietly, app_on
from benchmarks.storage.databases import KEYS, Bench
from benchmarks.storage.null_broker import NullBroker
from benchmarks.timing import Comparison, Effort, Pair, compare

LABELS: Final[Mapping[str, str]] = {
    "notified": "send with 1 notification / the transaction by hand, without an outbox",
    "quiet": "send without a notification / the transaction by hand",
}
TARGETS: Final[Mapping[str, float]] = {"notified": 1.25}


async def measure(bench: Bench, *, calls: int, rounds: int) -> Mapping[str, Comparison]:
    """Seconds for each commit, one after another on one connection."""
    engine = create_async_engine(bench.url)
    try:
        async with app_on(bench.storage(), NullBroker(), "send") as app:

            async def by_hand(count: int) -> None:
                for number in range(count):
                    async with AsyncSession(engine) as session, session.begin():
                        await session.execute(INSERT, {"k": f"k{number % KEYS}"})

            async def notified(count: int) -> None:
                for number in range(count):
                    await app.send(Put(f"k{number % KEYS}"))

            async def quiet(count: int) -> None:
                for number in range(count):
                    await app.send(PutQuietly(f"k{number % KEYS}"))

            found: dict[str, Comparison] = {}
            for kind, framework in (("notified", notified), ("quiet", quiet)):
                await by_hand(calls)
                await framework(calls)
                pair = Pair(by_hand, framework, lambda: 0, calls, perf_counter)
                found[kind] = await compare(pair, Effort(rounds=rounds))
            return found
    finally:
        await engine.dispose()
        await bench.empty()


async def effects(bench: Bench) -> int:
    """How many rows the app and the work by hand have written."""
    async with bench.engine.begin() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM effect"))).scalar_one())
