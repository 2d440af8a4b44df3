"""The benchmarks compare like with like, and say what they could not measure."""

import asyncio
import sys
from pathlib import Path

import pytest

from benchmarks import durable, in_process
from benchmarks.brokers import figures as broker_figures
from benchmarks.brokers import measuring
from benchmarks.machine import description, fsync_rate
from benchmarks.peers.environment import PEERS, ROOT, Peer, PeerResults, measure
from benchmarks.report import page, tables
from benchmarks.results import Results, Scale
from benchmarks.scenarios import SCENARIOS, variants
from benchmarks.storage import consumers, processes, relays, sends
from benchmarks.storage import figures as storage_figures
from benchmarks.storage.databases import fresh
from benchmarks.storage.rivals import RIVALS, RivalResult
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


async def test_a_relay_and_the_loop_by_hand_take_what_was_stored(tmp_path: Path) -> None:
    """Both sides drain as many messages as were filled in, and the outboxes are empty afterwards (G5)."""
    async with fresh("sqlite", tmp_path) as bench:
        found = await relays.to_nobody(bench, count=1_000, rounds=1)
        assert min(*found.by_hand, *found.framework) > 0
        assert await bench.waiting() == 0


async def test_a_backlog_is_filled_up_again(tmp_path: Path) -> None:
    """The cost at a backlog is that of rounds behind which a backlog stands."""
    async with fresh("sqlite", tmp_path) as bench:
        found = await relays.at_backlogs(bench, [3_000, 5_000], count=1_000)
    assert list(found) == [3_000, 5_000]
    assert all(len(seconds) >= 2 and min(seconds) > 0 for seconds in found.values())


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_sends_on_servers_have_the_effects_of_those_by_hand(
    kind: str, tmp_path: Path
) -> None:
    """A committed send and the transaction by hand are compared in as many samples as were asked for."""
    async with fresh(kind, tmp_path) as bench:
        found = await sends.measure(bench, calls=2, rounds=2)
        assert await bench.waiting() == 0
    assert set(found) == set(sends.LABELS)
    assert all(len(one.by_hand) == len(one.framework) == 2 for one in found.values())


async def test_a_consumer_and_the_one_by_hand_handle_all(tmp_path: Path) -> None:
    """With and without an inbox, alone and in batches, both sides leave one effect for each message (G7)."""
    async with fresh("postgresql", tmp_path) as bench:
        await consumers.from_memory(bench, batches={0: 20, 1: 20, 100: 50}, rounds=1)
        # Each side, once to warm up and once measured; of a batch, by hand with and without a session for each message.
        assert await sends.effects(bench) == 4 * (20 + 20 + 2 * 50)


async def test_a_broker_is_compared_in_all_kinds_of_work(tmp_path: Path) -> None:
    """Publishing, reading, a relay and a consumer are measured on the driver and on the log by hand."""
    async with fresh("postgresql", tmp_path) as bench:
        work = measuring.Work(count=1_000, rounds=1)
        found, client = await measuring.measure(bench, measuring.BROKERS["sql"], bench.url, work)
    assert set(found) == {"publish", "read", "relay", "consume"}
    assert client.startswith("asyncpg ")


def test_disorder_between_relays_is_found() -> None:
    """A message that is missing, or first published before an earlier one of its key, ends the run; a repeat does not (G6)."""
    in_order = [(1.0, "k", "r-0-1"), (2.0, "k", "r-0-2"), (3.0, "k", "r-0-1")]
    assert processes.taken(in_order, 2) == 0.5
    with pytest.raises(processes.Disorder, match="2 messages were stored and 1"):
        processes.taken(in_order[:1], 2)
    with pytest.raises(processes.Disorder, match="published after"):
        processes.taken([(1.0, "k", "r-0-2"), (2.0, "k", "r-0-1")], 2)


async def test_relays_in_processes_of_their_own_publish_all(tmp_path: Path) -> None:
    """One relay, and two that share an outbox, publish each message in the order of its key (G6)."""
    async with fresh("postgresql", tmp_path) as bench:
        found = await processes.relays(bench, count=1_000, rounds=1)
    assert min(*found.by_hand, *found.framework) > 0


async def test_the_memory_of_a_process_is_read_at_each_mark(tmp_path: Path) -> None:
    """A process with relay and consumer tells what it has resident after so many messages (G11)."""
    async with fresh("postgresql", tmp_path) as bench:
        found = await processes.memory(bench, [500, 1_000])
    assert list(found) == [500, 1_000]
    assert min(found.values()) > 2**20


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
    results.storage = storage_figures.Figures(
        storage_figures.Work(),
        servers={"PostgreSQL": "15"},
        missing={"MariaDB": "no server"},
        sends={"PostgreSQL": {"notified": Comparison([1e-3], [1.3e-3])}},
        relays={"PostgreSQL": Comparison([1e-5], [4e-5])},
        rivals=[RivalResult(RIVALS[0], [4e-4]), RivalResult(RIVALS[1], failed="no index")],
        consumers={(0, True): measured, (100, True): Comparison([1e-4], [1.25e-4])},
        backlogs={1_000: [1e-5], 1_000_000: [1.1e-5]},
        two_relays=Comparison([1e-5], [0.8e-5]),
        memory={200_000: 100 * 2**20, 1_000_000: 101 * 2**20},
        fsyncs=(2000.0, 1900.0),
    )
    results.brokers = broker_figures.Figures(
        measuring.Work(),
        missing={"Kafka protocol": "no wheel"},
        compared={"Redis Streams": {"relay": Comparison([1e-5], [1.25e-5])}},
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
        "MariaDB was not measured: no server.",
        "| **1.30** (1.30 to 1.30) | 1.25, missed",
        "20,000/s, reached",
        "10.0 ",
        "txoutbox 0.2.2 was not measured: no index.",
        "| **80%** (80% to 80%) | 70%, reached",
        "| **50%** (50% to 50%) | 70%, missed",
        "1.10 ",
        "take **0.80** times",
        "100 MiB after 200,000, 101 MiB after 1,000,000",
        "Kafka protocol was not measured: no wheel.",
        "Redis Streams",
    ):
        assert part in shown


def test_the_machine_is_described(tmp_path: Path) -> None:
    """Figures come with date, machine, versions and the speed of the disk."""
    assert "CPython" in description()
    assert "UTC" in description()
    assert fsync_rate(tmp_path, seconds=0.01) > 0
