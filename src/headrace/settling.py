"""Settling: waiting until all that was sent has had its effects."""

from __future__ import annotations

import asyncio
from typing import Protocol

from headrace.after_commit import AfterCommit
from headrace.broker import Broker
from headrace.consumer import Consumer
from headrace.errors import DrainTimeout
from headrace.groups import Group
from headrace.mediator import RequestMediator
from headrace.relay import Relay
from headrace.storage import Storage, group_queue, outbox_queue
from headrace.telemetry import Telemetry

POLL_SECONDS = 0.01
"""How often the backlogs are looked at. Counting them is cheap, and tests wait for it."""


class Flow(Protocol):
    """What settling looks at: the parts of an app."""

    @property
    def mediator(self) -> RequestMediator: ...
    @property
    def storage(self) -> Storage | None: ...
    @property
    def bookkeeping(self) -> Storage: ...
    @property
    def broker(self) -> Broker | None: ...
    @property
    def groups(self) -> tuple[Group, ...]: ...
    @property
    def relay(self) -> Relay | None: ...
    @property
    def consumers(self) -> list[Consumer]: ...
    @property
    def after_commit(self) -> AfterCommit: ...
    @property
    def telemetry(self) -> Telemetry: ...


async def settle(flow: Flow, timeout_seconds: float) -> None:
    """Wait until nothing is left to publish, to handle or to retry. Dead letters and what they hold count as settled.

    Raises:
        DrainTimeout: it took longer than `timeout_seconds`; tells what is left.
    """
    left: list[str] = ["nothing was looked at yet"]
    try:
        async with asyncio.timeout(timeout_seconds):
            quiet = 0
            seen: dict[object, int] = {}
            # Twice in a row, with no count moved in between: one look passes the queues one after another, and a message
            # could slip from one that was not yet looked at to one that was.
            while quiet < 2:
                left = await _left(flow)
                counts: dict[object, int] = dict(flow.telemetry.counts)
                quiet = quiet + 1 if not left and counts == seen else int(not left)
                seen = counts
                if quiet < 2:
                    await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise DrainTimeout(
            f"not settled after {timeout_seconds:g} s: {'; '.join(left) or 'still moving'}."
        ) from None


async def _left(flow: Flow) -> list[str]:
    left: list[str] = []
    if flow.mediator.active:
        left.append(f"{flow.mediator.active} sends under way")
    if flow.after_commit.running:
        left.append(f"{flow.after_commit.running} after-commit handlers under way")
    if flow.storage is not None and flow.relay is not None:
        queue = outbox_queue(flow.telemetry.app)
        if await flow.storage.ready(queue, range(flow.relay.partitions), limit=1):
            left.append("the outbox has messages to publish")
    if flow.broker is None or not flow.consumers:
        return left
    for group in flow.groups:
        for topic in group.subscription.topics:
            left.extend(await _left_of(flow.bookkeeping, flow.broker, group.name, topic))
    return left


async def _left_of(storage: Storage, broker: Broker, group: str, topic: str) -> list[str]:
    queue = group_queue(group, topic)
    partitions = range(await broker.partitions(topic))
    positions = await storage.positions(queue)
    behind = await broker.backlog(topic, {p: positions.get(p) for p in partitions})
    left = [f"group {group!r} is {behind} messages behind on topic {topic!r}"] if behind else []
    if await storage.due_in(queue, partitions) is not None:
        left.append(f"group {group!r} has retries pending on topic {topic!r}")
    return left
