"""Leases: who works a partition, noticed in time, given back when idle."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from headrace.drivers.memory import MemoryDatabase
from headrace.errors import LeaseLost
from headrace.leases import Leases, clock
from headrace.telemetry import Count, Telemetry
from tests.unit.flow import Clock, Storage, until

QUEUE = "outbox:test"


class Owners:
    """Owners of one queue on one storage, with one clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.storage = Storage(MemoryDatabase(clock=self.clock))
        self.telemetry = Telemetry("test")
        self.made: list[Leases] = []

    def leases(
        self, owner: str, *, seconds: float = 15.0, partitions: int = 4, queue: str = QUEUE
    ) -> Leases:
        leases = Leases(
            self.storage,
            queue,
            owner,
            partitions=partitions,
            telemetry=self.telemetry,
            seconds=seconds,
            now=self.clock,
        )
        self.made.append(leases)
        leases.start()
        return leases

    def beat(self) -> None:
        """Let a third of a lease pass."""
        self.clock.at += 5.0
        for leases in self.made:
            leases._worker.wake()


@pytest.fixture
async def owners() -> AsyncIterator[Owners]:
    owners = Owners()
    await owners.storage.start("test", partitions=4)
    yield owners
    owners.storage.down = False
    for leases in owners.made:
        await leases.stop()
    await owners.storage.stop()


def test_the_clock_never_goes_back() -> None:
    """The clock of leases is monotonic."""
    assert clock() <= clock()


async def test_a_single_owner_holds_all(owners: Owners) -> None:
    """Alone, a process takes every partition (G6)."""
    leases = owners.leases("one")
    await until(lambda: len(leases.held()) == 4)
    assert all(leases.usable(lease) for lease in leases.held().values())


async def test_surplus_is_given_back_only_when_idle(owners: Owners) -> None:
    """A partition that another process should have stays until nobody works in it (G6, G8)."""
    one = owners.leases("one")
    await until(lambda: len(one.held()) == 4)
    with one.working(range(4)):
        two = owners.leases("two")
        await until(lambda: owners.storage.calls["lease"] == 2)
        owners.beat()
        await until(lambda: len(one.held()) == 2)
        assert two.held() == {}
        surplus = [p for p in range(4) if p not in one.held()]
    await until(lambda: not one._leaving)
    owners.beat()
    await until(lambda: len(two.held()) == 2)
    assert sorted(two.held()) == surplus
    assert not any(lease.unclean for lease in two.held().values())


async def test_a_lease_is_not_used_up_to_its_deadline(owners: Owners) -> None:
    """A lease that was not renewed is not offered any more, with a margin, counted once (G6, G13)."""
    leases = owners.leases("one", partitions=1)
    await until(lambda: len(leases.held()) == 1)
    lease = leases.held()[0]
    owners.storage.down = True
    owners.clock.at += 13.0
    assert leases.usable(lease)
    owners.clock.at += 1.0
    assert not leases.usable(lease)
    assert leases.held() == {}
    assert leases.held() == {}
    assert owners.telemetry.counts[Count.LEASE_LOST] == 1
    owners.storage.down = False
    owners.beat()
    await until(lambda: len(leases.held()) == 1)
    assert leases.held()[0].token == lease.token
    assert leases.usable(lease)


async def test_a_taken_partition_is_lost(owners: Owners, caplog: pytest.LogCaptureFixture) -> None:
    """What another process took over while this one slept is lost, logged and counted once (G6, G13)."""
    one = owners.leases("one", partitions=1)
    await until(lambda: len(one.held()) == 1)
    lease = one.held()[0]
    owners.clock.at += 60.0
    grant = await owners.storage.lease(QUEUE, "two", partitions=1, seconds=15)
    assert [new.unclean for new in grant.held] == [True]
    with caplog.at_level(logging.WARNING, logger="headrace"):
        one._worker.wake()
        await until(lambda: not one._held)
    with pytest.raises(LeaseLost, match="no longer leased to 'one'"):
        one.usable(lease)
    assert owners.telemetry.counts[Count.LEASE_LOST] == 1
    assert "lease of partition 0" in caplog.text


async def test_a_refused_token_is_believed(owners: Owners) -> None:
    """A worker that was refused by the storage ends the lease here at once (G7)."""
    leases = owners.leases("one", partitions=1)
    await until(lambda: len(leases.held()) == 1)
    lease = leases.held()[0]
    owners.storage.down = True
    leases.lost(lease)
    leases.lost(lease)
    assert leases.held() == {}
    assert owners.telemetry.counts[Count.LEASE_LOST] == 1


async def test_stopping_gives_all_back_cleanly(owners: Owners) -> None:
    """After a stop the next process takes all at once, and not as after a crash (G10)."""
    one = owners.leases("one")
    await until(lambda: len(one.held()) == 4)
    await one.stop()
    grant = await owners.storage.lease(QUEUE, "two", partitions=4, seconds=15)
    assert [lease.unclean for lease in grant.held] == [False] * 4


async def test_where_somebody_still_works_nothing_is_given_back(owners: Owners) -> None:
    """A stop leaves partitions with work under way to run out, so that the takeover counts as unclean (G9)."""
    one = owners.leases("one")
    await until(lambda: len(one.held()) == 4)
    with one.working([2]):
        await one.stop()
    grant = await owners.storage.lease(QUEUE, "two", partitions=4, seconds=15)
    assert [lease.partition for lease in grant.held] == [0, 1, 3]


async def test_a_storage_that_is_away_is_asked_again(
    owners: Owners, caplog: pytest.LogCaptureFixture
) -> None:
    """Signs of life go on through an outage that is logged once (G13)."""
    owners.storage.faults["lease"] = 3
    leases = owners.leases("one")
    await until(lambda: len(leases.held()) == 4)
    assert owners.storage.calls["lease"] == 4
    assert caplog.text.count("is paused by") == 1
    assert leases.error is None


@pytest.mark.parametrize(
    ("queue", "count"),
    [
        ("outbox:test", Count.RELAY_PAUSED),
        ("group:test/orders", Count.CONSUMER_PAUSED),
        ("after:test", Count.CONSUMER_PAUSED),
    ],
)
async def test_an_outage_counts_for_whose_work_it_is(
    owners: Owners, queue: str, count: Count
) -> None:
    """Leases that cannot be kept pause the relay, or who consumes and runs after-commit handlers (G13)."""
    owners.storage.down = True
    owners.leases("a", queue=queue)
    await until(lambda: owners.telemetry.counts.total() > 0)
    assert dict(owners.telemetry.counts) == {count: 1}


async def test_a_takeover_names_who_died(owners: Owners, caplog: pytest.LogCaptureFixture) -> None:
    """Partitions of a process that gave no sign of life are taken over with one record that names it (G13)."""
    await owners.storage.lease(QUEUE, "died", partitions=4, seconds=15.0)
    owners.clock.at += 16.0
    leases = owners.leases("one")
    await until(lambda: len(leases.held()) == 4)
    owners.beat()
    await until(lambda: owners.storage.calls["lease"] == 3)
    text = "Partitions 0, 1, 2 and 3 of queue 'outbox:test' taken over from died, which gave no sign of life for 15 s"
    assert caplog.text.count(text) == 1
    assert owners.telemetry.counts[Count.TAKEN_OVER] == 4


async def test_leases_that_lapse_together_are_one_record(
    owners: Owners, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that hung lost all its leases at once: one warning for the queue, each counted (G13)."""
    leases = owners.leases("one")
    await until(lambda: len(leases.held()) == 4)
    owners.storage.down = True
    owners.clock.at += 14.0
    assert leases.held() == {}
    lost = [r for r in caplog.records if "is lost: it was not renewed" in r.getMessage()]
    assert len(lost) == 1
    assert "The lease of partitions 0, 1, 2 and 3 of queue" in lost[0].getMessage()
    assert owners.telemetry.counts[Count.LEASE_LOST] == 4
