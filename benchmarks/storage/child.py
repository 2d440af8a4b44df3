"""A process of its own: a relay that writes down what it published, or relay and consumer whose memory is watched.

python -m benchmarks.storage.child relay|flow URL [...]: tells on its output, a line each; ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.storage.app import NAME, PARTITIONS, TOPIC, app_on, metadata
from benchmarks.storage.null_broker import NullBroker
from headrace import Topic
from headrace.broker import Rejected
from headrace.drivers.memory import MemoryBroker
from headrace.drivers.sql import SqlStorage
from headrace.envelope import Message
from headrace.telemetry import Count


class WritingBroker(NullBroker):
    """Keeps when each message was confirmed, by the clock that all processes of a machine share."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str, str]] = []

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        now = time.monotonic()
        self.seen += [(now, one.key or "", one.envelope.id) for one in messages]
        return ()


async def relay(url: str) -> None:
    """Publish until the input ends; then print when which message was published."""
    broker = WritingBroker()
    async with app_on(SqlStorage(url, metadata=metadata), broker, "relay") as app:
        ending = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        owned: int | None = None
        while not ending.done():
            # Asking counts the outbox: not while it is worked.
            status = (await app.status()).relay if not broker.seen else None
            if status is not None and len(status.partitions) != owned:
                owned = len(status.partitions)
                print(owned, flush=True)
            await asyncio.sleep(0.1)
    print(json.dumps(broker.seen), flush=True)


async def flow(url: str, marks: Sequence[int]) -> None:
    """Relay and consume; at each number of handled messages print it and the resident memory in bytes."""
    broker = MemoryBroker(max_messages=5_000)
    # Known to the broker before the first message, so that what is handled is forgotten.
    async with app_on(
        SqlStorage(url, metadata=metadata), broker, "relay", "consume", batch=500, effects=False
    ) as app:
        await broker.declare([Topic(TOPIC, partitions=PARTITIONS)])
        for mark in marks:
            while app.telemetry.counts[Count.CONSUMED] < mark:  # noqa: ASYNC110 - a count tells nobody
                await asyncio.sleep(0.01)
            print(f"{mark} {resident()}", flush=True)
        print(f"{NAME} has handled all", flush=True)


def resident() -> int:
    """The memory of this process that is in use, in bytes."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * 4096


if __name__ == "__main__":
    logging.getLogger("headrace").setLevel(logging.ERROR)
    what, url, *rest = sys.argv[1:]
    asyncio.run(relay(url) if what == "relay" else flow(url, [int(one) for one in rest]))
