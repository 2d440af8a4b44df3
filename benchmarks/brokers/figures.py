"""All figures of the part "brokers"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import engines
from benchmarks.brokers.measuring import BROKERS, Work, measure
from benchmarks.machine import fsync_rate
from benchmarks.storage.databases import fresh
from benchmarks.timing import Comparison
from engines import EngineMissing

NAMES: Mapping[str, str] = {
    "kafka": "Kafka protocol",
    "rabbitmq": "RabbitMQ",
    "nats": "NATS JetStream",
    "redis": "Redis Streams",
    "sql": "sql://",
}
QUICK = Work(count=1_000, rounds=1)


@dataclass(slots=True)
class Figures:
    """What was measured; what was left out is empty.

    Args:
        work: how much was done.
        servers: by name, their versions and the client by hand.
        missing: by name, why a broker was not measured.
        compared: seconds for each message, by broker and kind of work.
        fsyncs: of the disk, each second, before and after.
    """

    work: Work
    servers: dict[str, str] = field(default_factory=dict[str, str])
    missing: dict[str, str] = field(default_factory=dict[str, str])
    compared: dict[str, Mapping[str, Comparison]] = field(
        default_factory=dict[str, Mapping[str, Comparison]]
    )
    fsyncs: tuple[float, float] = (0.0, 0.0)


async def measure_all(
    work: Work, folder: Path, fsync_seconds: float, tell: Callable[[str], None]
) -> Figures:
    """Measure every broker that this machine has, with PostgreSQL."""
    found = Figures(work)
    before = fsync_rate(folder, fsync_seconds)
    for name in BROKERS:
        tell(f"{NAMES[name]} with PostgreSQL")
        try:
            server = await asyncio.to_thread(engines.shared, name) if name != "sql" else None
            async with fresh("postgresql", folder) as bench:
                url = server.url if server is not None else bench.url
                compared, client = await measure(bench, BROKERS[name], url, work)
        except EngineMissing as missing:
            found.missing[NAMES[name]] = str(missing)
        else:
            found.compared[NAMES[name]] = compared
            found.servers[NAMES[name]] = f"{server.version if server else bench.version}, {client}"
    found.fsyncs = (before, fsync_rate(folder, fsync_seconds))
    return found
