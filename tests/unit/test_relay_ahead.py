"""Reading ahead: a backlog is read while it is published, and no row is passed over or repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from headrace.errors import BrokerUnavailable
from headrace.relay.ahead import Halves
from headrace.storage import Lease, State, Stored
from tests.unit.flow import message

BATCH = 4


class Outbox:
    """Rows of four partitions, and what was done with them."""

    def __init__(self, count: int) -> None:
        self.rows = {n: n % 4 for n in range(count)}
        self.published: list[int] = []
        self.log: list[str] = []
        self.down = False
        self.halves = Halves(self.read, self.publish, BATCH)

    async def read(self, leases: Mapping[int, Lease]) -> Sequence[Stored]:
        self.log.append(f"read {sorted(leases)}")
        found = [n for n, partition in sorted(self.rows.items()) if partition in leases][:BATCH]
        await asyncio.sleep(0)
        return [
            Stored(n, "q", self.rows[n], message(n), State.READY, 0, None, None, 0.0) for n in found
        ]

    async def publish(self, rows: Sequence[Stored], leases: Mapping[int, Lease]) -> None:
        assert all(row.partition in leases for row in rows)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if self.down:
            raise BrokerUnavailable("nobody listens")
        self.log.append(f"published {sorted(leases)}")
        self.published += [row.position for row in rows]
        for row in rows:
            del self.rows[row.position]

    async def drain(self, leases: Mapping[int, Lease]) -> None:
        more = True
        while more:
            _, more = await self.halves.round(leases)

    def in_order(self) -> bool:
        return all(
            (own := [n for n in self.published if n % 4 == partition]) == sorted(own)
            for partition in range(4)
        )


def leases(token: int = 1, partitions: int = 4) -> Mapping[int, Lease]:
    return {p: Lease("q", p, token, "me", deadline=0.0) for p in range(partitions)}


async def test_a_half_is_read_while_the_other_is_published() -> None:
    """In a backlog the reading of one half ends before the publishing of the other does (G6: partitions go in parallel)."""
    outbox = Outbox(30)
    await outbox.drain(leases())
    assert outbox.log[:6] == [
        "read [0, 1, 2, 3]",
        "published [0, 1, 2, 3]",
        "read [0, 2]",
        "read [1, 3]",
        "published [0, 2]",
        "read [0, 2]",
    ]
    assert outbox.log[6] == "published [1, 3]"


@pytest.mark.parametrize("count", [0, 1, BATCH, BATCH + 1, 30, 31])
async def test_each_row_is_published_once_and_in_order(count: int) -> None:
    """Whatever is left over when the rounds are no longer full is published, too (G5, G6)."""
    outbox = Outbox(count)
    await outbox.drain(leases())
    assert sorted(outbox.published) == list(range(count))
    assert outbox.in_order()


async def test_without_a_backlog_all_partitions_are_read_together() -> None:
    """A round that is not full costs one read."""
    outbox = Outbox(BATCH - 1)
    assert await outbox.halves.round(leases()) == (BATCH - 1, False)
    assert outbox.log == ["read [0, 1, 2, 3]", "published [0, 1, 2, 3]"]


async def test_after_an_error_the_next_round_begins_at_the_oldest_row() -> None:
    """What was read ahead is forgotten when a call of the broker fails, so nothing passes what is to be repeated (G6)."""
    outbox = Outbox(30)
    for _ in range(3):
        await outbox.halves.round(leases())
    outbox.down = True
    with pytest.raises(BrokerUnavailable):
        await outbox.halves.round(leases())
    outbox.down = False
    outbox.log.clear()
    await outbox.drain(leases())
    assert outbox.log[0] == "read [0, 1, 2, 3]"
    assert sorted(outbox.published) == list(range(30))
    assert outbox.in_order()


async def test_rows_read_under_an_older_lease_are_read_anew() -> None:
    """Another process may have published them since the lease was lost (G6)."""
    outbox = Outbox(30)
    for _ in range(2):
        await outbox.halves.round(leases())
    for n in sorted(n for n in outbox.rows if n % 4 in {1, 3})[:BATCH]:
        # By the other process.
        outbox.rows.pop(n)
        outbox.published.append(n)
    await outbox.drain(leases(token=2))
    assert sorted(outbox.published) == list(range(30))
    assert outbox.in_order()


async def test_one_partition_has_no_other_half() -> None:
    """A relay that owns one partition reads, publishes and deletes by turns."""
    outbox = Outbox(0)
    outbox.rows = dict.fromkeys(range(10), 0)
    await outbox.drain(leases(partitions=1))
    assert outbox.published == list(range(10))
