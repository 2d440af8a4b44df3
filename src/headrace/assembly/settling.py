"""Settling: waiting until all that was sent has had its effects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from headrace.broker import Broker
from headrace.errors import DrainTimeout
from headrace.storage import Storage, group_queue
from headrace.telemetry import Count, Telemetry

POLL_SECONDS = 0.01
"""The pause between two looks at the backlogs, at least: tests wait for it."""

POLL_SHARE = 10
"""And so many times as long as the look took: looking at long backlogs must not slow what works them off."""

POLL_MOST_SECONDS = 1.0
"""But no longer than this: some brokers take seconds to tell a backlog, and what moves is long done then."""


async def settle(
    pending: Callable[[], Awaitable[list[str]]], telemetry: Telemetry, timeout_seconds: float
) -> None:
    """Wait until nothing is pending.

    Args:
        pending: answers what is left to publish, to handle or to retry, each as a clause of a sentence.
        telemetry: whose counts tell that something moved.
        timeout_seconds: how long to wait at most.

    Raises:
        DrainTimeout: it took longer; tells what is left.
    """
    clock = asyncio.get_running_loop().time
    left: list[str] = ["nothing was looked at yet"]
    quiet = False
    seen: dict[Count, int] = {}
    try:
        async with asyncio.timeout(timeout_seconds):
            # Twice in a row, with no count moved in between: one look passes the queues one after another, and a message
            # could slip from one that was not yet looked at to one that was.
            while True:
                began = clock()
                left = await pending()
                took = clock() - began
                counts = dict(telemetry.counts)
                if not left and quiet and counts == seen:
                    return
                quiet, seen = not left, counts
                await asyncio.sleep(pause_after(took, quiet=quiet))
    except TimeoutError:
        raise DrainTimeout(
            f"not settled after {timeout_seconds:g} s: {'; '.join(left) or 'still moving'}."
        ) from None


def pause_after(took: float, *, quiet: bool) -> float:
    """The seconds until the next look, after one that took so long; `quiet` if it found nothing, so that nothing is slowed."""
    return POLL_SECONDS if quiet else max(POLL_SECONDS, min(POLL_SHARE * took, POLL_MOST_SECONDS))


async def pending_of(storage: Storage, broker: Broker, group: str, topic: str) -> list[str]:
    """What a group has still to handle of a topic. Dead letters and what they hold are not pending."""
    queue = group_queue(group, topic)
    partitions = range(await broker.partitions(topic))
    positions = await storage.positions(queue)
    behind = await broker.backlog(group, topic, {p: positions.get(p) for p in partitions})
    left = [f"group {group!r} is {behind} messages behind on topic {topic!r}"] if behind else []
    if await storage.due_in(queue, partitions) is not None:
        left.append(f"group {group!r} has retries pending on topic {topic!r}")
    return left
