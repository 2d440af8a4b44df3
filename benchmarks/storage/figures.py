"""All figures of the part "storage"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import fsync_rate
from benchmarks.storage import consumers, processes, relays, rivals, sends
from benchmarks.storage.databases import DATABASES, NAMES, Bench, fresh
from benchmarks.timing import Comparison
from engines import EngineMissing


@dataclass(frozen=True, slots=True)
class Work:
    """How much is done.

    Args:
        rounds: samples of each side, for all figures that take turns.
        calls: committed sends of a sample.
        relayed: messages of a relay's sample, a multiple of 500.
        consumed: messages of a consumer's sample, by the batch; 0 is without an inbox.
        backlogs: messages in the outbox when its cost is measured, in growing order.
        shared: messages that two relays, or one, are given at once.
        memory: after how many messages the memory is read.
    """

    rounds: int = 7
    calls: int = 100
    relayed: int = 10_000
    consumed: Mapping[int, int] = field(
        default_factory=lambda: {0: 500, 1: 500, 100: 4_000, 500: 8_000}
    )
    backlogs: Sequence[int] = (5_000, 100_000, 1_000_000)
    shared: int = 40_000
    memory: Sequence[int] = (50_000, 200_000, 400_000, 600_000, 800_000, 1_000_000)


QUICK = Work(
    rounds=2,
    calls=20,
    relayed=2_000,
    consumed={0: 50, 1: 50, 100: 1_000, 500: 2_000},
    backlogs=(5_000, 20_000),
    shared=5_000,
    memory=(2_000, 5_000),
)


@dataclass(slots=True)
class Figures:
    """What was measured; what was left out is empty.

    Args:
        work: how much was done.
        servers: by name, their versions.
        missing: by name, why a database was not measured.
        sends: committed sends, by database and kind.
        relays: a relay to a null broker against by hand, by database.
        rivals: outboxes of others, by name: messages a second, or why there is no figure.
        consumers: by messages of one transaction, 0 being without an inbox, and whether each has a session by hand.
        backlogs: seconds for each message, by messages in the outbox.
        two_relays: one relay, and two.
        memory: resident bytes, by messages handled.
        fsyncs: of the disk, each second, before and after.
    """

    work: Work
    servers: dict[str, str] = field(default_factory=dict[str, str])
    missing: dict[str, str] = field(default_factory=dict[str, str])
    sends: dict[str, Mapping[str, Comparison]] = field(
        default_factory=dict[str, Mapping[str, Comparison]]
    )
    relays: dict[str, Comparison] = field(default_factory=dict[str, Comparison])
    rivals: Sequence[rivals.RivalResult] = ()
    consumers: Mapping[consumers.Kind, Comparison] = field(
        default_factory=dict[consumers.Kind, Comparison]
    )
    backlogs: Mapping[int, Sequence[float]] = field(default_factory=dict[int, Sequence[float]])
    two_relays: Comparison | None = None
    memory: Mapping[int, int] = field(default_factory=dict[int, int])
    fsyncs: tuple[float, float] = (0.0, 0.0)


async def measure(
    work: Work, folder: Path, fsync_seconds: float, tell: Callable[[str], None]
) -> Figures:
    """Measure on every database that this machine has."""
    figures = Figures(work)
    before = fsync_rate(folder, fsync_seconds)
    for kind in DATABASES:
        try:
            async with fresh(kind, folder) as bench:
                figures.servers[NAMES[kind]] = bench.version
                await _on(bench, figures, tell)
        except EngineMissing as missing:
            figures.missing[NAMES[kind]] = str(missing)
    figures.fsyncs = (before, fsync_rate(folder, fsync_seconds))
    return figures


async def _on(bench: Bench, figures: Figures, tell: Callable[[str], None]) -> None:
    work, name = figures.work, NAMES[bench.kind]
    if bench.kind != "sqlite":  # the part "sql" has SQLite's
        tell(f"committed sends on {name}")
        figures.sends[name] = await sends.measure(bench, calls=work.calls, rounds=work.rounds)
    tell(f"a relay on {name}")
    figures.relays[name] = await relays.to_nobody(bench, count=work.relayed, rounds=work.rounds)
    if bench.kind != "postgresql":
        return
    tell("the outboxes of others on PostgreSQL, in environments of their own")
    figures.rivals = await rivals.measure(bench, work.relayed // 5)
    tell("a consumer on PostgreSQL")
    figures.consumers = await consumers.from_memory(
        bench, batches=work.consumed, rounds=work.rounds
    )
    await bench.empty()
    tell("two relays against one")
    figures.two_relays = await processes.relays(
        bench, count=work.shared, rounds=min(work.rounds, 3)
    )
    tell(f"a relay at backlogs of up to {work.backlogs[-1]:,} messages")
    figures.backlogs = await relays.at_backlogs(bench, work.backlogs, count=4 * work.relayed)
    tell(f"the memory over {work.memory[-1]:,} messages")
    await bench.empty()
    figures.memory = await processes.memory(bench, work.memory)
