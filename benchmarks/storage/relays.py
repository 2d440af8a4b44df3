"""A relay to a broker that keeps nothing, against SELECT and DELETE by hand; and what it costs at a backlog."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.storage.app import TOPIC, app_on
from benchmarks.storage.by_hand import BATCH, drain, hand_outbox
from benchmarks.storage.databases import Bench
from benchmarks.storage.null_broker import NullBroker, Timed
from benchmarks.timing import Comparison, in_turns

RELAY_AIM = 20_000
"""Messages a second that one relay on PostgreSQL is to reach."""


async def to_nobody(bench: Bench, *, count: int, rounds: int) -> Comparison:
    """Seconds for each message: by hand, and through a relay."""
    broker = Timed(NullBroker())
    async with hand_outbox(bench) as outbox, app_on(bench.storage(), broker, "relay"):

        async def by_hand() -> float:
            await bench.fill_by_hand(count, TOPIC)
            return await drain(outbox, count)

        async def relay() -> float:
            broker.expect(count)
            await bench.fill(count)
            return await broker.relayed()

        await by_hand()
        await relay()
        return await in_turns(by_hand, relay, rounds)


async def at_backlogs(
    bench: Bench, sizes: Sequence[int], *, count: int
) -> Mapping[int, Sequence[float]]:
    """Seconds for each message, a number for each round of 500, with so many messages in the outbox.

    Args:
        bench: where.
        sizes: of the outbox; what a relay took is put back before it goes on. More than four rounds of 500, because it
            reads one half of the partitions while it publishes the other, and rounds that are not full cost more.
        count: messages for each size, at least.
    """
    found: dict[int, Sequence[float]] = {}
    for size in sizes:
        await bench.empty()
        # Before, too: else these rows would stand behind the room of a million that were deleted.
        await bench.settle()
        await bench.fill(size)
        await bench.settle()
        broker = Timed(NullBroker())
        async with app_on(bench.storage(), broker, "relay"):
            once = min(5_000, size - 4 * BATCH)
            samples: list[float] = []
            # The first time warms up.
            while len(samples) * BATCH < count + once:
                broker.expect(once)
                samples += await broker.rounds()
                # The relay may have taken more than it was asked for: its rounds are not to become smaller.
                await bench.fill(size - await bench.waiting())
            # Let the call that waits through, so that the relay can stop.
            broker.expect(BATCH)
            found[size] = samples[once // BATCH :]
    return found


def rate(seconds: Sequence[float]) -> float:
    """Messages a second, the median."""
    return 1 / statistics.median(seconds)
