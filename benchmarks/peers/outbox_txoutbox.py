"""txoutbox: its relay in batches of 500, keys in order, deleting what is published."""

import asyncio
from time import perf_counter

from txoutbox import OutboxMessage, Relay, RelayConfig
from txoutbox.adapters.postgres import PostgresStorage

from benchmarks.peers.relaying import BODY, KEYS, main, plain


async def publish(message: OutboxMessage) -> None:
    """To nobody."""


async def measure(url: str, count: int, rounds: int) -> list[float]:
    storage = await PostgresStorage.connect(plain(url), table="rival_txoutbox", delete_on_ack=True)
    await storage.create_schema()
    # As many keys side by side as it is given: publishing takes no time here.
    relay = Relay(storage, publish, config=RelayConfig(batch_size=500, concurrency=100))
    found: list[float] = []
    for _ in range(rounds + 1):
        await storage.pool.executemany(
            "INSERT INTO rival_txoutbox (topic, key, payload) VALUES ('puts', $1, $2)",
            [(f"k{number % KEYS}", BODY) for number in range(count)],
        )
        began, done = perf_counter(), 0
        while done < count:
            done += (await relay.run_once()).published
        found.append((perf_counter() - began) / count)
    await storage.close()
    return found[1:]


if __name__ == "__main__":
    main(lambda *given: asyncio.run(measure(*given)))
