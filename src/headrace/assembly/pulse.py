"""The pulse of a process: what it does, told to the storage at intervals, so that whoever looks sees all processes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from headrace.assembly.probing import paused
from headrace.backoff import Outage
from headrace.storage import group_queue, outbox_queue
from headrace.telemetry import Count
from headrace.worker import Worker, infrastructure

if TYPE_CHECKING:
    from headrace.assembly.parts import Parts
    from headrace.storage import Storage
    from headrace.stored import Pulse

FIRST_SECONDS = 1.0
"""How long a process runs before it is told of: one that ends sooner is nothing to look at."""


class ProcessPulse(msgspec.Struct, frozen=True, kw_only=True):
    """What one process of an app has last said of itself.

    Args:
        process: its name, as in the ownership of partitions.
        pid: of the operating system.
        host: the machine's name.
        roles: what it does, sorted.
        started_at: seconds since the epoch, by its clock.
        at: when it said this, in the same way.
        counts: since it started, as `Telemetry.snapshot` answers.
        partitions: those that it owns, by queue.
        paused: what of it is paused now and why, each a sentence.
        age_seconds: since it said this, by the storage's clock.
    """

    process: str = ""
    pid: int
    host: str
    roles: tuple[str, ...]
    started_at: float
    at: float
    counts: dict[str, int]
    partitions: dict[str, tuple[int, ...]] = {}
    paused: tuple[str, ...] = ()
    age_seconds: float = 0.0


def read_pulses(pulses: Iterable[Pulse]) -> tuple[ProcessPulse, ...]:
    """What `Storage.pulses` answered, as data. What another version of Headrace wrote and this cannot read is left out."""
    found: list[ProcessPulse] = []
    for pulse in pulses:
        with suppress(msgspec.MsgspecError, RecursionError):
            said = _decoder.decode(pulse.data)
            found.append(
                msgspec.structs.replace(said, process=pulse.process, age_seconds=pulse.age_seconds)
            )
    return tuple(found)


def rates(before: Mapping[str, int], after: Mapping[str, int], seconds: float) -> dict[str, float]:
    """By how much each count grew, a second. One that has become smaller began anew, with its process."""
    if seconds <= 0:
        return {}
    return {
        name: (amount - before.get(name, 0) if amount >= before.get(name, 0) else amount) / seconds
        for name, amount in after.items()
    }


class Rates:
    """The rates of all processes together, from looks at their pulses however often.

    Each process tells at its own times: its rate is that between the last two things that it said. One that was seen once
    has none yet, and the rate of one that has gone goes with it.
    """

    def __init__(self) -> None:
        self._last: dict[str, ProcessPulse] = {}
        self._rates: dict[str, dict[str, float]] = {}

    def look(self, pulses: Iterable[ProcessPulse]) -> dict[str, float]:
        """The counts that grow, each with its rate a second, summed over the processes."""
        seen: set[str] = set()
        for pulse in pulses:
            seen.add(pulse.process)
            before = self._last.get(pulse.process)
            if before is not None and pulse.at > before.at:
                grown = rates(before.counts, pulse.counts, pulse.at - before.at)
                self._rates[pulse.process] = {name: rate for name, rate in grown.items() if rate}
            self._last[pulse.process] = pulse
        for gone in self._last.keys() - seen:
            del self._last[gone]
            self._rates.pop(gone, None)
        total: dict[str, float] = {}
        for one in self._rates.values():
            for name, rate in one.items():
                total[name] = total.get(name, 0.0) + rate
        return total


class PulseWriter:
    """Writes the pulse of this process, three times within the time for which it holds.

    Args:
        parts: of the app.
        storage: of the app.
        owner: the name of this process.
        now: seconds since the epoch; another clock in tests.
        first_seconds: how long it waits before the first.
    """

    def __init__(
        self,
        parts: Parts,
        storage: Storage,
        owner: str,
        *,
        now: Callable[[], float] = time.time,
        first_seconds: float = FIRST_SECONDS,
    ) -> None:
        self._parts = parts
        self._storage = storage
        self._owner = owner
        self._now = now
        self._seconds = parts.settings.limits.lease_seconds
        self._first = first_seconds
        self._started_at = now()
        telemetry = parts.telemetry
        outage = Outage("Telling what this process does", Count.PULSE_MISSED, telemetry, _never)
        self._worker = Worker(f"headrace pulse {parts.settings.name}", self._step, outage)

    def start(self) -> None:
        """Begin, in the background."""
        self._worker.start()

    async def stop(self) -> None:
        """End, and be gone from the pulses at once."""
        told = self._first <= 0
        await self._worker.stop(drain_seconds=5.0)
        if told:
            with suppress(Exception):  # it expires by itself
                await self._write(seconds=0.0)

    async def _step(self) -> float:
        if self._first > 0:
            wait, self._first = self._first, 0.0
            return min(wait, self._seconds / 3)
        try:
            await self._write(seconds=self._seconds)
        except Exception as error:
            if not infrastructure(self._storage, error):
                raise
            # Those whose work it is tell that the storage is away, or busy. This is worth no wait and no record.
            self._parts.telemetry.count(Count.PULSE_MISSED)
        return self._seconds / 3

    async def _write(self, *, seconds: float) -> None:
        app = self._parts.settings.name
        await self._storage.pulse(app, self._owner, _encode(self.pulse()), seconds=seconds)

    def pulse(self) -> ProcessPulse:
        """What there is to say now; does no I/O."""
        parts = self._parts
        return ProcessPulse(
            pid=os.getpid(),
            host=socket.gethostname(),
            roles=tuple(sorted(parts.settings.roles)),
            started_at=self._started_at,
            at=self._now(),
            counts=parts.telemetry.snapshot(),
            partitions=_partitions(parts),
            paused=tuple(paused(parts)),
        )


def _partitions(parts: Parts) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    if parts.relay is not None:
        found[outbox_queue(parts.settings.name)] = parts.relay.status.partitions
    for consumer in parts.consumers:
        for topic, partitions in consumer.status.partitions.items():
            found[group_queue(consumer.group, topic)] = partitions
    if parts.deliveries is not None and parts.deliveries.running:
        found[parts.deliveries.queue] = parts.deliveries.partitions
    return found


def _never(error: BaseException) -> bool:
    return False


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(ProcessPulse)
