"""The tables of the part "brokers"."""

from __future__ import annotations

from benchmarks.brokers.figures import Figures
from benchmarks.brokers.measuring import AIM, AIMED, LABELS
from benchmarks.report.markdown import at_least, missing, rate, share, table

_HEAD = """## Brokers

Each driver beside the maintained client of its broker by hand, with the same headers, keys and bodies of 1 KiB, on the same
server in the same run: {servers}. The relay by hand is, on asyncpg, `SELECT` of 500, publish with one wait, `DELETE`; its
outbox has the headers ready. The consumer by hand is that of the table above, which acknowledges to the broker after its
commits. Where a driver cannot promise that a failure lets no message pass an earlier one of its key (RabbitMQ, NATS), the
relay waits for confirmations between two of a key, and by hand it does not. A consumer of Kafka by hand fetches ahead in C
while it works; so does the driver. Do not quote the row of reading alone from Kafka: by hand the consumer is paused between
two samples, which seems to throw away what it had fetched, so that side is slower than it need be.
The disk made {before:,.0f} writes of 4 KiB durable per second before these figures and
{after:,.0f} after them.
"""


def brokers(figures: Figures) -> list[str]:
    """All of it."""
    before, after = figures.fsyncs
    servers = "; ".join(f"{name}: {version}" for name, version in figures.servers.items())
    parts = [_HEAD.format(servers=servers or "none", before=before, after=after)]
    parts += missing(figures.missing)
    rows = [
        [
            name if number == 0 else "",
            LABELS[kind],
            rate(found.by_hand),
            rate(found.framework),
            share(found),
            at_least(found, AIM) if kind in AIMED else "",
        ]
        for name, kinds in figures.compared.items()
        for number, (kind, found) in enumerate(kinds.items())
    ]
    if rows:
        parts.append(table(["", "", "by hand", "Headrace", "of by hand", "target"], rows))
    return parts
