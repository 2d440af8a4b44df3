"""How the health of a process is found: from what it knows, and by one short query, within a time (G13)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.assembly.parts import OUTBOX_PARTITIONS, Parts
from headrace.errors import StorageBusy
from headrace.health import Health
from headrace.leases import named
from headrace.storage import outbox_queue
from headrace.text import said_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.storage import Storage, Stored


class Probe:
    """Answers for the health of one process, and never waits longer than it may.

    Args:
        parts: of the app.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._asking: asyncio.Task[Sequence[Stored]] | None = None

    async def stop(self) -> None:
        """Give up a question that the storage has not answered."""
        task, self._asking = self._asking, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=_GRACE_SECONDS)

    async def health(self, *, running: bool, timeout_seconds: float, strict: bool) -> Health:
        """The health now; see `Headrace.health`."""
        settings = self._parts.settings
        reasons: list[str] = []
        notes: list[str] = []
        if not running:
            reasons.append(f"The app {settings.name!r} is not running.")
        else:
            relays = "relay" in settings.roles
            if self._parts.storage is not None:
                await self._ask(
                    self._parts.storage, timeout_seconds, reasons, reasons if relays else notes
                )
            # What hinders the relay is no fault of a process that does not relay.
            (reasons if relays else notes).extend(self._ownerless(outbox=True))
            notes.extend(self._ownerless(outbox=False))
            notes.extend(paused(self._parts))
        return Health(
            app=settings.name,
            roles=tuple(sorted(settings.roles)),
            live=running,
            ready=not reasons and not (strict and notes),
            reasons=tuple([*reasons, *notes] if strict else reasons),
            notes=() if strict else tuple(notes),
        )

    async def _ask(
        self, storage: Storage, seconds: float, failing: list[str], unsent: list[str]
    ) -> None:
        """Ask for the oldest unsent event. At most one question is open, however many probes come and however long it hangs."""
        task = self._asking
        if task is None or task.done():
            task = self._asking = asyncio.ensure_future(self._oldest(storage))
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            failing.append(f"The storage did not answer within {seconds:g} s.")
            return
        if task.cancelled():
            failing.append("The question to the storage was cut off.")
            return
        error = task.exception()
        if isinstance(error, StorageBusy):
            return  # it is there, and somebody writes
        if error is not None:
            failing.append(f"The storage cannot be used: {type(error).__name__}: {said_by(error)}")
            return
        for stored in task.result():
            unsent.extend(self._late(stored))

    async def _oldest(self, storage: Storage) -> Sequence[Stored]:
        queue = outbox_queue(self._parts.settings.name)
        return await storage.ready(queue, range(OUTBOX_PARTITIONS), limit=1)

    def _late(self, stored: Stored) -> Iterator[str]:
        envelope, most = stored.message.envelope, self._parts.settings.limits.unsent_seconds
        age = (datetime.now(UTC) - datetime.fromisoformat(envelope.time)).total_seconds()
        if age > most:
            yield (
                f"The oldest unsent event, {envelope.type} for topic {stored.message.topic!r}, was raised {age:.0f} s ago; "
                f"Limits(unsent_seconds=...) allows {most:g}. {self._why(stored)}"
            )

    def _why(self, stored: Stored) -> str:
        relay = self._parts.relay
        status = relay.status if relay is not None else None
        if status is not None and status.last_error is not None:
            return f"The relay is paused by {status.last_error}"
        if status is not None and stored.message.topic in status.paused_topics:
            return "Its topic is paused; the log tells why."
        return "Look whether the relay runs, and whether the broker takes what it publishes."

    def _ownerless(self, *, outbox: bool) -> Iterator[str]:
        watch = self._parts.watch
        if watch is None:
            return
        for queue, partitions in watch.ownerless.items():
            if (queue == outbox_queue(self._parts.settings.name)) is outbox:
                yield (
                    f"Nobody works {named(partitions)} of queue {queue!r}, for longer than a takeover takes: what is there "
                    "waits."
                )


def paused(parts: Parts) -> Iterator[str]:
    """What of this process is paused now, and why, each a sentence; does no I/O."""
    relay = parts.relay.status if parts.relay is not None else None
    if relay is not None and relay.last_error is not None:
        yield f"The relay is paused by {relay.last_error}"
    for consumer in parts.consumers:
        if (error := consumer.status.last_error) is not None:
            yield f"Group {consumer.group!r} is paused by {error}"
    if parts.deliveries is not None and (error := parts.deliveries.last_error) is not None:
        yield f"The running of after-commit handlers is paused by {error}"


_GRACE_SECONDS = 1.0
"""How long a stop waits for a question that was given up: a driver that hangs may not end at once."""
