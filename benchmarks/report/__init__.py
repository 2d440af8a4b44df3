"""Results as tables in Markdown, for the terminal and for docs/benchmarks.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmarks.durable import SENDS, SENDS_TARGET, Flow
from benchmarks.peers.environment import PeerResults
from benchmarks.report.brokers import brokers
from benchmarks.report.markdown import at_most, ratio, spread, table
from benchmarks.report.storage import storage
from benchmarks.results import Results
from benchmarks.scenarios import SCENARIOS
from benchmarks.timing import quartiles

_INTRODUCTION = """# Benchmarks

This page is written by `python -m benchmarks --write`; `make bench` prints the same for your machine. No figure in it
was typed by a person.

A ratio compares Headrace with the same work written by hand, in the same process and the same run: the same handler
classes, constructed and awaited in plain code (`await Handler(dependency).handle(request)`). Both sides take turns,
sample by sample, so that what else the machine does hits both. Given are the median of the rounds' ratios and, in
parentheses, their quartiles; in the process the time is that of the processor, elsewhere that of the clock. What a
ratio means in time can be told from the column of the work by hand.
"""

_IN_PROCESS = """## In the process

Handlers do nothing but count. The loop around the calls is the same on both sides and calls nothing else.
"""

_PEERS = """The other frameworks run in environments of their own, by the same interpreter, each with its own classes, and each
beside the same work by hand in its own process. What they do for their time differs: python-cqrs is assembled by its
own bootstrap, whose logging is set to WARNING, with the faster of its containers; diator gets its handlers from rodi;
mediatorx brings no container and dispatches no events of a handler, so its handlers publish them themselves. "n/a"
means that there is no such feature.
"""

_SQL = """## On SQLite, with sql://

One process, one file, WAL, `synchronous=FULL`: each commit waits for the disk. A transaction is one upsert, in an
`AsyncSession`; by hand it is `async with AsyncSession(engine) as session, session.begin():` on an engine made by
`create_async_engine`. The disk of the run made {before:,.0f} writes of 4 KiB durable per second before these figures
and {after:,.0f} after them; no commit is faster than that, and figures of disks that answer before the data is safe
cannot be compared with others.
"""

_FLOW = """### From `send` to effect

Each event is sent by a command in a transaction of its own, goes through outbox, relay and topic, and has its effect,
an upsert, with inbox and position in a transaction of the consumer: one each (batch 1) or up to a hundred together
(`Subscription(batch=100)`). Events per second, the median of {runs} runs and their range; each stage alone, then all
of them in one process, from the first `send` until the last effect is committed.
"""


def page(results: Results) -> str:
    """The page of the documentation."""
    return f"{_INTRODUCTION}\n{tables(results)}"


def tables(results: Results) -> str:
    """All tables, with what one needs to read them."""
    parts = [f"Measured: {results.machine}.\n"]
    if results.in_process or results.peers:
        parts += [_IN_PROCESS, _scenarios(results)]
    if results.peers:
        parts.append(_PEERS)
        parts += [f"{_name(p)} was not measured: {p.failed}.\n" for p in results.peers if p.failed]
    if results.sends:
        before, after = results.fsyncs
        parts += [_SQL.format(before=before, after=after), _sends(results)]
    if results.flows:
        parts += [_FLOW.format(runs=results.scale.flows), _flows(results)]
    if results.latencies:
        parts.append(_latency(results.latencies))
    if results.storage is not None:
        parts += storage(results.storage)
    if results.brokers is not None:
        parts += brokers(results.brokers)
    return "\n".join(parts)


def _scenarios(results: Results) -> str:
    head = ["", "by hand", "Headrace", "target", *(_name(p) for p in results.peers)]
    rows: list[list[str]] = []
    for scenario in SCENARIOS:
        ours = results.in_process.get(scenario.name)
        rows.append(
            [
                scenario.label,
                f"{min(ours.by_hand) * 1e6:.2f} µs" if ours else "",
                f"**{ratio(ours)}** {spread(ours)}" if ours else "",
                at_most(ours, scenario.target),
                *(_of_peer(peer, scenario.name) for peer in results.peers),
            ]
        )
    return table(head, rows)


def _of_peer(peer: PeerResults, scenario: str) -> str:
    found = peer.compared.get(scenario)
    if found is not None:
        return ratio(found)
    return "not measured" if peer.failed else "n/a"


def _sends(results: Results) -> str:
    rows = [
        [
            label,
            f"{1 / statistics.median(found.by_hand):,.0f}/s",
            f"{1 / statistics.median(found.framework):,.0f}/s",
            f"**{ratio(found)}** {spread(found)}",
            at_most(found, SENDS_TARGET.get(kind)),
        ]
        for kind, label in SENDS.items()
        if (found := results.sends.get(kind)) is not None
    ]
    return table(["", "compared with", "Headrace", "ratio of the times", "target"], rows)


def _flows(results: Results) -> str:
    stages: Sequence[tuple[str, Callable[[Flow], float]]] = (
        ("`send`, alone", lambda f: f.send),
        ("relay, alone", lambda f: f.relay),
        ("consume, alone", lambda f: f.consume),
        ("from `send` to effect, all at once", lambda f: f.through),
    )
    batches = sorted(results.flows)
    rows = [
        [label, *(_rate([rate(flow) for flow in results.flows[batch]]) for batch in batches)]
        for label, rate in stages
    ]
    return table(["", *(f"batch {batch}" for batch in batches)], rows)


def _rate(rates: Sequence[float]) -> str:
    middle = f"**{statistics.median(rates):,.0f}/s**"
    return middle if len(rates) < 2 else f"{middle} ({min(rates):,.0f} to {max(rates):,.0f})"


def _latency(found: Sequence[float]) -> str:
    lower, upper = quartiles(found)
    middle, late = statistics.median(found), found[int(len(found) * 0.95)]
    return (
        f"In an idle process an event's handler has run {middle * 1e3:.1f} ms after `send` was called (median of {len(found)}; "
        f"quartiles {lower * 1e3:.1f} and {upper * 1e3:.1f} ms, 95 % within {late * 1e3:.1f} ms).\n"
    )


def _name(results: PeerResults) -> str:
    return f"{results.peer.name} {results.peer.version}"
