"""Who works which partition is told, and it is said when nobody does (G13)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace import EventMap, Headrace, Limits
from headrace.assembly.ownership import OwnershipWatch, Watched
from headrace.drivers.memory import MemoryBroker, MemoryDatabase, MemoryStorage
from headrace.storage import group_queue, outbox_queue
from headrace.telemetry import Count, Telemetry
from tests.unit.flow import Clock, Storage, until
from tests.unit.heart import Announced, Join, Joined, make_app, raising

OUTBOX = outbox_queue("shop")
GROUP = group_queue("billing", "orders")


class Watching:
    """A watch on one storage, whose clock is moved by hand."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.storage = Storage(MemoryDatabase(clock=self.clock))
        self.telemetry = Telemetry("shop")
        self.watch = OwnershipWatch(
            self.storage,
            [Watched(OUTBOX, "relay", 2), Watched(GROUP, "consume")],
            self.telemetry,
            lease_seconds=15.0,
            now=self.clock,
        )

    async def after(self, seconds: float) -> None:
        """Let time pass and the watch look."""
        self.clock.at += seconds
        await self.watch._step()

    async def lease(self, queue: str, partitions: int, *, owner: str = "one") -> None:
        await self.storage.lease(queue, owner, partitions=partitions, seconds=15.0)


@pytest.fixture
async def watching() -> AsyncIterator[Watching]:
    watching = Watching()
    await watching.storage.start("shop", partitions=2)
    yield watching
    await watching.storage.stop()


async def test_owners_are_told(watching: Watching) -> None:
    """The owners of each queue can be asked for: a name, or None where nobody gives a sign of life."""
    await watching.lease(OUTBOX, 2)
    await watching.lease(GROUP, 3, owner="two")
    outbox, group = await watching.watch.now()
    assert (outbox.queue, outbox.owners, outbox.ownerless) == (OUTBOX, {0: "one", 1: "one"}, ())
    assert group.owners == {0: "two", 1: "two", 2: "two"}
    watching.clock.at += 16.0
    outbox, group = await watching.watch.now()
    assert outbox.ownerless == (0, 1)
    assert group.ownerless == (0, 1, 2)


async def test_a_queue_that_nobody_ever_worked_is_ownerless(watching: Watching) -> None:
    """Also what was never owned is seen: a group that no process consumes has at least one partition."""
    outbox, group = await watching.watch.now()
    assert (outbox.ownerless, group.ownerless) == ((0, 1), (0,))


async def test_it_is_said_once_when_it_lasts_and_when_it_is_over(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    """A partition without an owner for two leases is a warning, once, and counted; and its end is said."""
    await watching.lease(OUTBOX, 2)
    await watching.lease(GROUP, 1)
    with caplog.at_level(logging.INFO, logger="headrace"):
        await watching.after(0.0)
        await watching.after(16.0)
        await watching.lease(GROUP, 1)
        await watching.after(15.0)
        await watching.lease(GROUP, 1)
        await watching.after(15.0)
        assert not caplog.records
        assert watching.watch.ownerless == {}
        await watching.lease(GROUP, 1)
        await watching.after(1.0)
        await watching.after(1.0)
        assert len(caplog.records) == 1
        assert "Nobody has worked partitions 0 and 1 of queue 'outbox:shop' for 30" in caplog.text
        assert "Start a process with the role 'relay'" in caplog.text
        assert watching.watch.ownerless == {OUTBOX: (0, 1)}
        assert watching.telemetry.counts[Count.OWNERLESS] == 2
        await watching.lease(OUTBOX, 2)
        await watching.after(1.0)
        await watching.after(1.0)
    assert len(caplog.records) == 2
    assert "Somebody works partitions 0 and 1 of queue 'outbox:shop' again." in caplog.text
    assert watching.watch.ownerless == {}


async def test_a_takeover_in_time_is_no_news(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    """A partition that changes hands within two leases is not said to be without an owner."""
    for owner in "abc":
        await watching.lease(OUTBOX, 2, owner=owner)
        await watching.lease(GROUP, 1, owner=owner)
        for _ in range(5):
            await watching.after(7.5)
    assert not caplog.records


async def test_a_process_that_only_sends_watches_too(caplog: pytest.LogCaptureFixture) -> None:
    """Who has storage and a broker says that nobody relays or consumes, though it does neither."""
    storage = MemoryStorage()
    app = make_app(
        (Join, raising(Announced())),
        (Announced, raising()),
        storage=storage,
        broker=MemoryBroker(),
        roles={"send"},
        limits=Limits(lease_seconds=0.02),
    )
    async with app:
        await until(lambda: app.telemetry.counts[Count.OWNERLESS] == 9)
        status = await app.status()
        assert status.ownerless["outbox:meetings"] == tuple(range(8))
        assert status.ownerless["group:meetings/meetings"] == (0,)
        assert [one.queue for one in status.ownership] == [
            "outbox:meetings",
            "group:meetings/meetings",
        ]
    assert "Start a process with the role 'consume'" in caplog.text


async def test_status_names_the_owners(tmp_path: Path) -> None:
    """A process that does all owns all, and its status says so, on a database as well."""
    app = make_app(
        (Join, raising(Announced())),
        (Announced, raising()),
        storage=f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
        broker="sql://",
    )
    async with app:
        await app.send(Join())
        await app.settle()
        status = await app.status()
    outbox, group = status.ownership
    assert len(set(outbox.owners.values())) == 1
    assert outbox.owners == group.owners
    assert (outbox.ownerless, group.ownerless, status.ownerless) == ((), (), {})


async def test_deliveries_are_watched_without_a_broker() -> None:
    """After-commit handlers that nobody runs are seen too, in an app with storage alone."""
    events = EventMap()
    events.bind(Joined, raising(), phase="after_commit")
    app = Headrace("m", events=events, storage="memory://", roles={"send"})
    async with app:
        (deliveries,) = (await app.status()).ownership
    assert (deliveries.queue, len(deliveries.ownerless)) == ("after:m", 16)
