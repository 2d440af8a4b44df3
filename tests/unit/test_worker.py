"""The loop beneath relay, consumers and leases lets others live."""

from __future__ import annotations

import asyncio

from headrace.backoff import Outage
from headrace.telemetry import Count, Telemetry
from headrace.worker import Worker


def outage() -> Outage:
    return Outage("The work", Count.CONSUMER_PAUSED, Telemetry("test"), lambda _: True)


async def test_a_step_that_wakes_itself_does_not_freeze_the_loop() -> None:
    """A step that never waits and asks for the next one each time leaves all other tasks their turns."""
    steps = 0

    async def step() -> float:
        nonlocal steps
        steps += 1
        assert steps < 10_000, "nobody else had a turn"
        worker.wake()
        return 60.0

    worker = Worker("test", step, outage())
    worker.start()
    for _ in range(100):
        await asyncio.sleep(0)
    assert steps <= 101
    assert await worker.stop(1.0)


async def test_a_step_that_ends_as_cancelled_by_itself_is_repeated() -> None:
    """A client whose connection is closed may cancel what is awaited: that ends no loop (G13)."""
    failed, again = False, asyncio.Event()

    async def step() -> float:
        nonlocal failed
        if not failed:
            failed = True
            raise asyncio.CancelledError
        again.set()
        return 60.0

    worker = Worker("test", step, outage())
    worker.start()
    async with asyncio.timeout(10):
        await again.wait()
    assert await worker.stop(1.0)
