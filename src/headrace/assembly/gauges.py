"""The gauges of an app: read from the storage at intervals, and only where metrics are collected."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.assembly.status import AppStatus, status_of
from headrace.backoff import Outage
from headrace.storage import Backlog, after_queue, group_queue, outbox_queue
from headrace.telemetry import Count
from headrace.telemetry.names import (
    LAG,
    OLDEST_AGE,
    OWNED,
    QUEUE_MESSAGES,
    UNOWNED,
    Attribute,
    Metric,
)
from headrace.worker import Worker, infrastructure

if TYPE_CHECKING:
    from headrace.assembly.parts import Parts
    from headrace.storage import Storage
    from headrace.telemetry.metering import Found, Metering

SECONDS = 15.0
"""Between two readings: half of what collectors take between two of theirs."""

SHARE = 50
"""And so many times as long as a reading took: counting a long backlog is not to slow the work on it."""


class Gauges:
    """Reads backlogs, lag and ownership for the metrics of one process.

    Each process tells of what its roles work: of the outbox if it relays, of groups if it consumes.

    Args:
        parts: of the app.
        storage: of the app.
        metering: takes the readings; its callbacks do no I/O.
    """

    def __init__(self, parts: Parts, storage: Storage, metering: Metering) -> None:
        self._parts = parts
        self._metering = metering
        outage = Outage(
            "Reading backlogs for metrics",
            Count.GAUGES_MISSED,
            parts.telemetry,
            lambda error: infrastructure(storage, error),
        )
        self._worker = Worker("headrace gauges", self._step, outage)

    def start(self) -> None:
        """Read in the background."""
        self._worker.start()

    async def stop(self) -> None:
        """Read no more, and forget what was read: an old gauge is a wrong one."""
        await self._worker.stop(drain_seconds=1.0)
        self._metering.gauges = {}

    async def _step(self) -> float:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            self._metering.gauges = self.read(await status_of(self._parts))
        except BaseException:
            self._metering.gauges = {}
            raise
        return max(SECONDS, SHARE * (clock() - began))

    def read(self, status: AppStatus) -> dict[tuple[Metric, Found], float]:
        """A status as gauges."""
        app, roles = self._parts.settings.name, self._parts.settings.roles
        found: dict[tuple[Metric, Found], float] = {}
        if status.outbox is not None and "relay" in roles:
            _queue(found, outbox_queue(app), status.outbox)
        if "consume" in roles:
            for one in status.groups:
                _queue(found, group_queue(one.group, one.topic), one.backlog)
                if one.behind is not None:
                    of = (
                        (Attribute.GROUP.value, one.group),
                        (Attribute.DESTINATION.value, one.topic),
                    )
                    found[LAG, of] = one.behind
            if status.after_commit is not None:
                _queue(found, after_queue(app), status.after_commit.backlog)
        for queue, owned in _owned(app, status).items():
            found[OWNED, _of(queue)] = owned
        for ownership in status.ownership:
            found[UNOWNED, _of(ownership.queue)] = len(ownership.ownerless)
        return found


def _owned(app: str, status: AppStatus) -> dict[str, int]:
    found: dict[str, int] = {}
    if status.relay is not None:
        found[outbox_queue(app)] = len(status.relay.partitions)
    for consumer in status.consumers:
        for topic, partitions in consumer.partitions.items():
            found[group_queue(consumer.group, topic)] = len(partitions)
    if status.after_commit is not None and status.after_commit.running:
        found[after_queue(app)] = len(status.after_commit.partitions)
    return found


def _queue(found: dict[tuple[Metric, Found], float], queue: str, backlog: Backlog) -> None:
    for state in ("ready", "waiting", "held", "dead"):
        found[QUEUE_MESSAGES, (*_of(queue), (Attribute.STATE.value, state))] = getattr(
            backlog, state
        )
    found[OLDEST_AGE, _of(queue)] = backlog.oldest_seconds


def _of(queue: str) -> Found:
    return ((Attribute.QUEUE.value, queue),)
