"""Stops that are cancelled, or that a server does not answer: nothing is left running, nothing is silent (G10, G13)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from headrace import Headrace, Limits, Module
from headrace.assembly.parts import OUTBOX_PARTITIONS
from headrace.broker import BrokerGuarantees
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.errors import StorageUnavailable
from headrace.storage import after_queue, group_queue, outbox_queue
from headrace.telemetry import Count
from headrace.worker import side_by_side
from tests.unit.flow import FAST, Setting, message, until
from tests.unit.heart import Announced, Join, Joined, raising
from tests.unit.test_relay import QUEUE as OUTBOX
from tests.unit.test_relay import Outbox

QUEUES = (outbox_queue("m"), after_queue("m"), group_queue("m", "meetings"))
LONG = Limits(poll_seconds=0.02, drain_seconds=30.0)


class LastingStorage(MemoryStorage):
    """Says that it is a database, so that a stop leaves to it what is in it."""

    durable = True


class LastingBroker(MemoryBroker):
    """The same of a broker."""

    @property
    def guarantees(self) -> BrokerGuarantees:
        return BrokerGuarantees(durable=True, ordered_batch=True)


class Hanging:
    """Handlers that go on until they are cancelled, and take a moment to end then."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0

    async def announced(self, event: Announced) -> None:
        await self._hang()

    async def joined(self, event: Joined) -> None:
        await self._hang()

    async def _hang(self) -> None:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.005)
            self.ended += 1


def left() -> set[str]:
    """The names of all tasks but the test's own."""
    return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def app(hanging: Hanging, storage: MemoryStorage | None, broker: MemoryBroker) -> Headrace:
    """An app in which a send leads to a consumed message and a delivery, both of which hang."""
    module = Module("m")
    module.bind(Join, raising(Joined(), Announced()))
    module.bind(Announced, hanging.announced)
    module.bind(Joined, hanging.joined, phase="after_commit")
    return Headrace("m", modules=[module], storage=storage, broker=broker, limits=LONG)


@pytest.fixture
async def outbox() -> AsyncIterator[Outbox]:
    async with Outbox() as outbox:
        yield outbox


@pytest.mark.parametrize("kind", ["lasting", "memory", "none"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 8, 12, 20, 40])
async def test_a_cancelled_stop_leaves_no_task_behind(kind: str, steps: int) -> None:
    """Whenever it is cancelled: what runs is cancelled and ends, and the partitions are given back (G10)."""
    storage = {"lasting": LastingStorage(), "memory": MemoryStorage(), "none": None}[kind]
    hanging = Hanging()
    running = app(hanging, storage, LastingBroker() if kind == "lasting" else MemoryBroker())
    await running.start()
    await running.send(Join())
    await until(lambda: hanging.begun == 2)
    stopping = asyncio.create_task(running.stop())
    for _ in range(steps):
        await asyncio.sleep(0)
    stopping.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await stopping
    assert left() == set()
    assert hanging.ended == 2
    assert not running.running
    if storage is not None:
        other = MemoryStorage(storage.database)
        await other.start("m", partitions=OUTBOX_PARTITIONS)
        owners = [owner for queue in QUEUES for owner in (await other.owners(queue)).values()]
        assert owners
        assert set(owners) == {None}


async def test_a_stop_that_is_cancelled_twice_leaves_no_task_behind() -> None:
    """Who is in a greater hurry is not waited for, and still leaves nothing that goes on (G10)."""
    hanging = Hanging()
    running = app(hanging, LastingStorage(), LastingBroker())
    await running.start()
    await running.send(Join())
    await until(lambda: hanging.begun == 2)
    stopping = asyncio.create_task(running.stop())
    while not stopping.done():
        for _ in range(5):
            await asyncio.sleep(0)
        stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await until(lambda: not left())


async def test_a_cancelled_consumer_waits_for_the_commit_under_way() -> None:
    """A COMMIT is not cut: its partition is given back when it has its answer (G7, G10)."""
    async with Setting() as one:
        entered, go = asyncio.Event(), asyncio.Event()

        async def commit(_: int) -> None:
            entered.set()
            try:
                await go.wait()
            except asyncio.CancelledError:
                await go.wait()
                raise

        one.handlers.after_commit = commit
        await one.broker.publish([message(1)])
        consumer = one.consumer(limits=LONG)
        await consumer.start()
        await entered.wait()
        stopping = asyncio.create_task(consumer.stop())
        await asyncio.sleep(0.01)
        stopping.cancel()
        await asyncio.sleep(0.01)
        assert not stopping.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert left() == set()
        grant = await one.storage.lease(group_queue("g", "t"), "next", partitions=1, seconds=15)
        assert [lease.unclean for lease in grant.held] == [False]
        assert one.telemetry.counts[Count.DRAIN_CUT] == 1


async def test_a_cancelled_relay_gives_its_partitions_back(outbox: Outbox) -> None:
    """What it published without an answer is published again by whoever comes next (G5, G10)."""
    entered = asyncio.Event()

    async def hang() -> None:
        entered.set()
        await asyncio.Event().wait()

    outbox.broker.before_publish = hang
    await outbox.commit(message(1))
    relay = outbox.relay(limits=LONG)
    relay.start()
    await entered.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await relay.stop()
    assert left() == set()
    grant = await outbox.storage.lease(OUTBOX, "next", partitions=4, seconds=15)
    assert [lease.unclean for lease in grant.held] == [False] * 4
    assert outbox.telemetry.counts[Count.DRAIN_CUT] == 1
    assert [row.message for row in outbox.storage.rows(OUTBOX)]


async def test_stops_side_by_side_all_end_though_one_fails() -> None:
    """The error of one is raised when the others have ended, whatever they take (G10)."""
    ended: list[str] = []

    async def fails() -> None:
        raise ValueError("no")

    async def works() -> None:
        await asyncio.sleep(0.01)
        ended.append("works")

    with pytest.raises(ValueError, match="no"):
        await side_by_side([fails(), works()])
    assert ended == ["works"]


async def test_stops_side_by_side_begin_before_they_are_cancelled() -> None:
    """A task that is cancelled before its first step would do nothing of what it is there for (G10)."""
    ended: list[int] = []

    async def stop(n: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(n)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await side_by_side([stop(1), stop(2)])
    assert ended == [1, 2]


async def test_a_stop_goes_on_when_what_is_left_cannot_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether memory is empty may be for a server to tell: without its answer the stop says so, and ends (G10, G13)."""

    async def away(self: MemoryStorage, queue: str, partitions: Sequence[int]) -> float | None:
        raise StorageUnavailable("nobody listens")

    module = Module("m")
    module.bind(Join, raising(Joined()))
    module.bind(Joined, Hanging().joined, phase="after_commit")
    running = Headrace("m", modules=[module], storage=MemoryStorage(), limits=FAST)
    await running.start()
    monkeypatch.setattr(MemoryStorage, "due_in", away)
    await running.stop()
    assert not running.running
    assert left() == set()
    assert "could not wait for what is left (StorageUnavailable: " in caplog.text
    assert "nobody listens" in caplog.text
