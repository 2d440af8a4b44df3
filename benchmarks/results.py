"""Run all benchmarks, one after another: two at once would measure each other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from benchmarks import durable, in_process
from benchmarks.brokers import figures as broker_figures
from benchmarks.brokers import measuring
from benchmarks.machine import description, fsync_rate
from benchmarks.peers.environment import PEERS, ROOT, PeerResults, measure
from benchmarks.storage import figures as storage_figures
from benchmarks.timing import Comparison, Effort, compare

Part = Literal["in-process", "peers", "sql", "storage", "brokers"]
PARTS: Final[Sequence[Part]] = get_args(Part)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done.

    Args:
        in_process: for each scenario in the process, of Headrace and of each peer.
        commits: for each kind of committed send; a sample is `calls` sends.
        calls: sends of a sample.
        sends: events of a flow that are sent one by one.
        backlog: events of a flow that are sent beforehand, for relay and consumer to work on.
        flows: how often each flow is repeated, each time on new files.
        latencies: how many events are timed one by one.
        fsync_seconds: how long the disk is measured, before and after.
        storage: on each database.
        brokers: for each broker.
    """

    in_process: Effort = field(default_factory=lambda: Effort(rounds=40, sample_seconds=0.04))
    commits: int = 20
    calls: int = 100
    sends: int = 1500
    backlog: int = 3000
    flows: int = 3
    latencies: int = 100
    fsync_seconds: float = 1.0
    storage: storage_figures.Work = field(default_factory=storage_figures.Work)
    brokers: measuring.Work = field(default_factory=measuring.Work)


QUICK: Final = Scale(
    in_process=Effort(rounds=5, sample_seconds=0.01),
    commits=3,
    calls=50,
    sends=200,
    backlog=500,
    flows=1,
    latencies=10,
    fsync_seconds=0.2,
    storage=storage_figures.QUICK,
    brokers=broker_figures.QUICK,
)


@dataclass(slots=True)
class Results:
    """What was measured; what was left out is empty.

    Args:
        machine: what on, and when.
        scale: how much was done.
        in_process: Headrace, by scenario.
        peers: the others.
        sends: committed sends, by kind.
        flows: by the consumer's batch, one for each repetition.
        latencies: seconds from `send` to effect, sorted.
        fsyncs: per second, before and after the durable figures.
        storage: of the databases.
        brokers: of the brokers.
    """

    machine: str
    scale: Scale
    in_process: Mapping[str, Comparison] = field(default_factory=dict[str, Comparison])
    peers: Sequence[PeerResults] = ()
    sends: Mapping[str, Comparison] = field(default_factory=dict[str, Comparison])
    flows: Mapping[int, Sequence[durable.Flow]] = field(
        default_factory=dict[int, Sequence[durable.Flow]]
    )
    latencies: Sequence[float] = ()
    fsyncs: Sequence[float] = ()
    storage: storage_figures.Figures | None = None
    brokers: broker_figures.Figures | None = None


async def run(scale: Scale, parts: Collection[Part], tell: Callable[[str], None]) -> Results:
    """Measure these parts; `tell` hears what is under way."""
    results = Results(description(), scale)
    if "in-process" in parts:
        tell("Headrace in the process")
        results.in_process = await _in_process(scale)
    if "peers" in parts:
        peers: list[PeerResults] = []
        for peer in PEERS:
            tell(f"{peer.name} {peer.version}, in an environment of its own")
            peers.append(await measure(peer, scale.in_process))
        results.peers = peers
    if not {"sql", "storage", "brokers"}.isdisjoint(parts):
        folder = ROOT / "build" / "bench"  # on the disk of the project: /tmp may be memory
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as files:
            if "sql" in parts:
                await _sql(results, Path(files), tell)
            if "storage" in parts:
                results.storage = await storage_figures.measure(
                    scale.storage, Path(files), scale.fsync_seconds, tell
                )
            if "brokers" in parts:
                results.brokers = await broker_figures.measure_all(
                    scale.brokers, Path(files), scale.fsync_seconds, tell
                )
    return results


async def _in_process(scale: Scale) -> Mapping[str, Comparison]:
    async with in_process.pairs() as pairs:
        return {name: await compare(pair, scale.in_process) for name, pair in pairs.items()}


async def _sql(results: Results, folder: Path, tell: Callable[[str], None]) -> None:
    scale = results.scale
    before = fsync_rate(folder, scale.fsync_seconds)
    tell("committed sends on SQLite")
    async with durable.sends(folder, calls=scale.calls) as pairs:
        effort = Effort(rounds=scale.commits)
        results.sends = {name: await compare(pair, effort) for name, pair in pairs.items()}
    tell("latency over sql://")
    results.latencies = await durable.latencies(folder, scale.latencies)
    flows: dict[int, list[durable.Flow]] = {1: [], 100: []}
    for number in range(scale.flows):
        for batch, found in flows.items():
            tell(f"flow over sql://, batch {batch}, run {number + 1} of {scale.flows}")
            with tempfile.TemporaryDirectory(dir=folder) as fresh:
                found.append(
                    await durable.flow(
                        Path(fresh), batch=batch, sends=scale.sends, backlog=scale.backlog
                    )
                )
    results.flows = flows
    results.fsyncs = (before, fsync_rate(folder, scale.fsync_seconds))
