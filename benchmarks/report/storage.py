"""The tables of the part "storage"."""

from __future__ import annotations

import statistics

from benchmarks.report.markdown import at_least, at_most, missing, rate, ratio, share, spread, table
from benchmarks.storage.figures import Figures
from benchmarks.storage.relays import RELAY_AIM
from benchmarks.storage.sends import LABELS, TARGETS
from benchmarks.timing import quartiles

CONSUMER_AIM = 0.7

_HEAD = """## On PostgreSQL, MariaDB and SQLite

{servers}. Clients: SQLAlchemy on asyncpg, asyncmy and aiosqlite. The servers run on the same machine and share its cores.
Bodies have 1 KiB. The disk made {before:,.0f} writes of 4 KiB durable per second before these figures and {after:,.0f} after
them.
"""

_SENDS = """A transaction is one insert in an `AsyncSession`, one after another on one connection.
"""

_RELAYS = """### A relay to nobody

From an outbox of 1 KiB messages to a broker that confirms at once. By hand it is `SELECT` of the oldest 500 and `DELETE` by
their ids on the raw driver, without a look into what was read: the floor that no relay can be below.
"""

_RIVALS = """The outboxes of others on the same PostgreSQL in the same run, to nobody too, each in an environment of its own, in
batches of 500: python-cqrs by its `EventProducer`, which sets the status of each row; txoutbox by its relay, which deletes;
faststream-outbox by a subscriber of four workers, which deletes a hundred at once.
"""

_CONSUMERS = """### A consumer

From a broker in memory to PostgreSQL, one insert for each message, eight partitions side by side on both sides. By hand it
is, for each transaction, the inbox in one statement, each body decoded and its insert through an `AsyncSession`, the position,
the commit. Headrace gives each message of a batch a session of its own, so that no handler meets what another has loaded; the
target is against the same by hand. One session for the whole batch, which is quicker, stands below it. Without an inbox each
message is a transaction of the handler's own.
"""

_BACKLOGS = """### Backlogs

What a message costs one relay on PostgreSQL while so many are in the outbox, from the first call of `publish` to the next.
Before each of them the table has a `VACUUM (ANALYZE)` and the server a `CHECKPOINT`, for what the filling leaves it to do.
"""


def storage(figures: Figures) -> list[str]:
    """All of it."""
    before, after = figures.fsyncs
    servers = ", ".join(f"{name} {version}" for name, version in figures.servers.items())
    parts = [_HEAD.format(servers=servers, before=before, after=after), *missing(figures.missing)]
    if figures.sends:
        parts += [_SENDS, _sends(figures)]
    if figures.relays:
        parts += [_RELAYS, _relays(figures)]
    if figures.rivals:
        parts += [_RIVALS, _rivals(figures)]
        parts += [
            f"{one.peer.name} {one.peer.version} was not measured: {one.failed}.\n"
            for one in figures.rivals
            if one.failed
        ]
    if figures.consumers:
        parts += [_CONSUMERS, _consumers(figures)]
    if figures.backlogs:
        parts += [_BACKLOGS, _backlogs(figures)]
    if figures.two_relays is not None:
        parts.append(_two(figures))
    if figures.memory:
        parts.append(_memory(figures))
    return parts


def _sends(figures: Figures) -> str:
    rows = [
        [
            f"{name}: {LABELS[kind]}",
            rate(found.by_hand),
            rate(found.framework),
            f"**{ratio(found)}** {spread(found)}",
            at_most(found, TARGETS.get(kind)),
        ]
        for name, kinds in figures.sends.items()
        for kind, found in kinds.items()
    ]
    return table(["", "by hand", "Headrace", "ratio of the times", "target"], rows)


def _relays(figures: Figures) -> str:
    rows: list[list[str]] = []
    for name, found in figures.relays.items():
        aim = ""
        if name == "PostgreSQL":
            reached = 1 / statistics.median(found.framework) >= RELAY_AIM
            aim = f"{RELAY_AIM:,}/s, {'reached' if reached else 'missed'}"
        rows.append([name, rate(found.by_hand), f"**{rate(found.framework)}**", share(found), aim])
    return table(["", "by hand", "Headrace", "of the floor", "target"], rows)


def _rivals(figures: Figures) -> str:
    ours = statistics.median(figures.relays["PostgreSQL"].framework)
    rows = [
        [
            f"{one.peer.name} {one.peer.version}",
            rate(one.seconds),
            f"{statistics.median(one.seconds) / ours:.1f}",
        ]
        for one in figures.rivals
        if one.seconds
    ]
    return table(["", "", "times the time of Headrace"], rows)


def _consumers(figures: Figures) -> str:
    rows = [
        [
            _consumer(batch, apart),
            rate(found.by_hand),
            rate(found.framework),
            share(found),
            at_least(found, CONSUMER_AIM) if apart else "",
        ]
        for (batch, apart), found in figures.consumers.items()
    ]
    return table(["", "by hand", "Headrace", "of by hand", "target"], rows)


def _consumer(batch: int, apart: bool) -> str:
    if not batch:
        return "without inbox, 1 a transaction"
    by_hand = "" if batch == 1 else ", by hand a session each" if apart else ", by hand one session"
    return f"with inbox, {batch} a transaction{by_hand}"


def _backlogs(figures: Figures) -> str:
    smallest = statistics.median(next(iter(figures.backlogs.values())))
    rows: list[list[str]] = []
    for size, seconds in figures.backlogs.items():
        middle = statistics.median(seconds)
        lower, upper = quartiles(seconds)
        rows.append(
            [
                f"{size:,} messages",
                f"**{middle * 1e6:.0f} µs** ({lower * 1e6:.0f} to {upper * 1e6:.0f})",
                f"{middle / smallest:.2f}",
            ]
        )
    return table(["in the outbox", "a message", "times the first"], rows)


def _two(figures: Figures) -> str:
    found = figures.two_relays
    assert found is not None
    return (
        f"Two relays in processes of their own on one outbox of {figures.work.shared:,} messages take **{ratio(found)}** times "
        f"{spread(found)} the time of one ({rate(found.framework)} against {rate(found.by_hand)}). Each message was published, "
        "and those of each key in their order: the run fails otherwise.\n"
    )


def _memory(figures: Figures) -> str:
    resident = ", ".join(
        f"{size / 2**20:.0f} MiB after {mark:,}" for mark, size in figures.memory.items()
    )
    return (
        "A process with a relay and a consumer (inbox, batch 500, a handler without effect), given all messages at once, "
        f"has resident: {resident}.\n"
    )
