"""faststream-outbox: its subscriber of the outbox with a handler that does nothing, claims and deletions in batches."""

import asyncio
import logging
from time import perf_counter

from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData, insert
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.peers.relaying import BODY, main


async def measure(url: str, count: int, rounds: int) -> list[float]:
    metadata = MetaData()
    table = make_outbox_table(metadata, table_name="rival_faststream")
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    broker = OutboxBroker(engine, outbox_table=table, logger=None)
    done, began = 0, 0.0
    all_done = asyncio.Event()

    @broker.subscriber(
        "puts",
        max_workers=4,
        fetch_batch_size=500,
        min_fetch_interval=0.01,
        max_fetch_interval=0.1,
        terminal_flush_batch_size=100,
    )
    async def handle(body: dict[str, str]) -> None:
        nonlocal done, began
        began = began or perf_counter()
        done += 1
        if done == count:
            all_done.set()

    found: list[float] = []
    await broker.start()
    for _ in range(rounds + 1):
        done, began = 0, 0.0
        all_done.clear()
        async with engine.begin() as connection:
            await connection.execute(insert(table), [{"queue": "puts", "payload": BODY}] * count)
        await all_done.wait()
        found.append((perf_counter() - began) / count)
    await broker.stop()
    await engine.dispose()
    return found[1:]


if __name__ == "__main__":
    logging.getLogger("faststream").setLevel(logging.WARNING)
    main(lambda *given: asyncio.run(measure(*given)))
