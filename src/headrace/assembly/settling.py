"""Settling: waiting until all that was sent has had its effects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import Struct

from headrace.errors import DrainTimeout
from headrace.storage import group_queue, outbox_queue
from headrace.telemetry import Count

if TYPE_CHECKING:
    from headrace.assembly.parts import Parts

POLL_SECONDS = 0.01
"""The pause between two looks at the backlogs, at least: tests wait for it."""

POLL_SHARE = 10
"""And so many times as long as the look took: looking at long backlogs must not slow what works them off."""

POLL_MOST_SECONDS = 1.0
"""But no longer than this: some brokers take seconds to tell a backlog, and what moves is long done then."""


async def settle(parts: Parts, timeout_seconds: float) -> None:
    """Wait until nothing is left to publish, to handle or to retry.

    Args:
        parts: of the app; its counts tell that something moved.
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
                left = (await look(parts)).left
                took = clock() - began
                counts = dict(parts.telemetry.counts)
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


class Look(Struct, frozen=True):
    """What is left to do, looked at once.

    Args:
        now: what may be done now, each a clause of a sentence.
        later: what waits for its time.
        due_seconds: how long until the first of these is due; None if nothing waits.
    """

    now: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    due_seconds: float | None = None

    @property
    def left(self) -> list[str]:
        """All of it."""
        return [*self.now, *self.later]


async def look(parts: Parts) -> Look:
    """What an app has left to publish, to handle and to retry. Dead letters and what they hold are not left."""
    now: list[str] = []
    later: dict[str, float] = {}
    if parts.mediator.active:
        now.append(f"{parts.mediator.active} sends are under way")
    if parts.after_commit.running:
        now.append(f"{parts.after_commit.running} after-commit handlers are under way")
    storage = parts.storage
    if storage is not None and parts.relay is not None:
        queue = outbox_queue(parts.settings.name)
        if await storage.ready(queue, range(parts.relay.partitions), limit=1):
            now.append("the outbox has messages to publish")
    if parts.deliveries is not None and parts.deliveries.running:
        due = await parts.deliveries.due_in()
        if due == 0:
            now.append("after-commit handlers have deliveries to handle")
        elif due is not None:
            later["after-commit handlers have retries pending"] = due
    if parts.broker is not None and parts.consumers:
        for group in parts.groups:
            for topic in group.subscription.topics:
                queue = group_queue(group.name, topic)
                partitions = range(await parts.broker.partitions(topic))
                behind = await _behind(parts, group.name, topic, partitions)
                if behind:
                    now.append(
                        f"group {group.name!r} is {behind} messages behind on topic {topic!r}"
                    )
                due = await parts.bookkeeping.due_in(queue, partitions)
                text = f"group {group.name!r} has retries pending on topic {topic!r}"
                if due == 0:
                    now.append(text)
                elif due is not None:
                    later[text] = due
    return Look(tuple(now), tuple(later), min(later.values(), default=None))


async def _behind(parts: Parts, group: str, topic: str, partitions: range) -> int:
    positions = await parts.bookkeeping.positions(group_queue(group, topic))
    after = {p: positions.get(p) for p in partitions}
    return await parts.broker.backlog(group, topic, after) if parts.broker is not None else 0


def at_work(parts: Parts) -> list[str]:
    """What of the app is known to be under way in this process, each a clause; asks no server, so it may be asked often."""
    found: list[str] = []
    if parts.mediator.active:
        found.append(f"{parts.mediator.active} sends are under way")
    if parts.after_commit.running:
        found.append(f"{parts.after_commit.running} after-commit handlers are under way")
    if parts.relay is not None and not parts.relay.idle:
        found.append("the relay is publishing")
    found += [f"group {one.group!r} is at work" for one in parts.consumers if not one.idle]
    if parts.deliveries is not None and not parts.deliveries.idle:
        found.append("after-commit handlers are at work")
    if parts.retention is not None and not parts.retention.idle:
        found.append("old inbox rows are being forgotten")
    return found
