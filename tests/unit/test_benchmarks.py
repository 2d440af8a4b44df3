"""The benchmarks compare like with like, and say what they could not measure."""

import asyncio
import sys
from pathlib import Path

import pytest

from benchmarks import durable, in_process
from benchmarks.machine import description, fsync_rate
from benchmarks.peers.environment import PEERS, ROOT, Peer, PeerResults, measure
from benchmarks.report import page, tables
from benchmarks.results import Results, Scale
from benchmarks.scenarios import SCENARIOS, variants
from benchmarks.timing import Comparison, Effort, Pair, compare

SCENARIO_NAMES = [scenario.name for scenario in SCENARIOS]
SMALL = Effort(rounds=2, sample_seconds=0.0001)


async def effects_of(pair: Pair, calls: int) -> tuple[int, int]:
    counts: list[int] = []
    for loop in (pair.by_hand, pair.framework):
        before = pair.effects()
        await loop(calls)
        counts.append(pair.effects() - before)
    return counts[0], counts[1]


@pytest.mark.parametrize("name", SCENARIO_NAMES)
async def test_the_work_by_hand_is_the_work_of_the_framework(name: str) -> None:
    """Both sides of each scenario in the process have the same number of effects, and some (G1, G3)."""
    async with in_process.pairs() as pairs:
        by_hand, framework = await effects_of(pairs[name], 7)
    assert by_hand == framework
    assert by_hand in (7, 35, 70)


async def test_every_scenario_has_its_pair() -> None:
    """What the table lists is what is measured, no more and no less."""
    async with in_process.pairs() as pairs:
        assert list(pairs) == SCENARIO_NAMES


@pytest.mark.parametrize("kind", list(durable.SENDS))
async def test_committed_sends_write_what_the_transaction_by_hand_writes(
    kind: str, tmp_path: Path
) -> None:
    """Both sides of each committed send leave the same rows on the disk (G4)."""
    async with durable.sends(tmp_path, calls=5) as pairs:
        assert await effects_of(pairs[kind], 5) == (5, 5)


@pytest.mark.parametrize("batch", [1, 100])
async def test_every_event_of_a_flow_has_its_effect(batch: int, tmp_path: Path) -> None:
    """A flow is measured until all effects are committed, and refuses to answer if one is missing (G5, G7)."""
    found = await durable.flow(tmp_path, batch=batch, sends=4, backlog=6)
    assert min(found.send, found.relay, found.consume, found.through) > 0
    assert durable.counted(tmp_path / f"stages-{batch}.db", "seen") == 10
    assert durable.counted(tmp_path / f"through-{batch}.db", "seen") == 4


async def test_a_latency_is_measured_for_each_event(tmp_path: Path) -> None:
    """The time from send to effect is taken for each event, and they come sorted."""
    found = await durable.latencies(tmp_path, 3)
    assert len(found) == 3
    assert list(found) == sorted(found)
    assert found[0] > 0


async def test_rounds_alternate() -> None:
    """The side that begins a round changes, so that neither always comes first."""
    order: list[str] = []

    async def by_hand(count: int) -> None:
        order.append("by hand")

    async def framework(count: int) -> None:
        order.append("framework")

    found = await compare(Pair(by_hand, framework, lambda: 0, calls=1), Effort(rounds=2))
    assert order == ["by hand", "framework", "framework", "by hand"]
    assert len(found.by_hand) == len(found.framework) == 2


def test_a_comparison_gives_median_best_and_quartiles() -> None:
    """The ratio is the median of the rounds; the best is that of the fastest samples."""
    found = Comparison(by_hand=[1.0, 1.0, 2.0, 1.0], framework=[2.0, 3.0, 8.0, 1.0])
    assert found.ratio == 2.5
    assert found.best == 1.0
    assert found.spread == (1.75, 3.25)


def test_variants_of_a_handler_share_no_code() -> None:
    """Each copy of a handler has code of its own, so that the interpreter specializes each for itself."""
    made = variants(in_process.Hear, 3)
    codes = {id(vars(one)["handle"].__code__) for one in (*made, in_process.Hear)}
    assert len(codes) == 4
    assert [one.__name__ for one in made] == ["Hear0", "Hear1", "Hear2"]


async def test_a_peer_that_cannot_be_installed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a package index the run goes on, and the result says why there are no figures."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    found = await measure(Peer("mediatorx", "1.0.1", "mediatorx"), SMALL, tmp_path / "bench")
    assert not found.compared
    assert found.failed
    assert "mediatorx" in tables(Results("somewhere", Scale(), peers=[found]))


async def test_a_peer_runs_without_headrace() -> None:
    """What a peer's interpreter imports besides its adapter needs the standard library alone."""
    script = (
        "import sys\n"
        "import benchmarks.peers.child, benchmarks.scenarios, benchmarks.timing, benchmarks.by_hand\n"
        "assert 'headrace' not in sys.modules"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", script, cwd=ROOT)
    assert await process.wait() == 0


def test_the_page_shows_what_is_known_and_what_is_not() -> None:
    """Targets are marked as reached or missed, absent features as n/a, failed peers with their reason."""
    measured = Comparison([1e-6, 1e-6], [2e-6, 2e-6])
    results = Results(
        "a machine",
        Scale(),
        in_process={"send": measured, "event": Comparison([1e-6], [1.2e-6])},
        peers=[
            PeerResults(PEERS[0], {"send": Comparison([1e-6], [4e-5])}, {"scoped": "none"}),
            PeerResults(PEERS[1], failed="no index"),
        ],
        sends={"notified": Comparison([1e-3], [1.2e-3])},
        flows={1: [durable.Flow(1, 1000, 20000, 500, 300)]},
        latencies=[0.002, 0.003],
        fsyncs=[2000.0, 1900.0],
    )
    shown = page(results)
    for part in (
        "Measured: a machine.",
        "| **2.00** (2.00 to 2.00) | 1.9, missed",
        "1.5, reached",
        "| 40 ",
        "n/a",
        "diator 0.1.2 was not measured: no index.",
        "1.25, reached",
        "2,000 writes of 4 KiB",
        "**20,000/s**",
        "2.5 ms",
    ):
        assert part in shown


def test_the_machine_is_described(tmp_path: Path) -> None:
    """Figures come with date, machine, versions and the speed of the disk."""
    assert "CPython" in description()
    assert "UTC" in description()
    assert fsync_rate(tmp_path, seconds=0.01) > 0
