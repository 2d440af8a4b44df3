"""The pulse: what each process tells of itself, and the rates that follow."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace import Limits
from headrace.assembly.pulse import ProcessPulse, PulseWriter, Rates, rates, read_pulses
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.errors import StorageBusy
from headrace.stored import Pulse
from headrace.telemetry import Count
from tests.unit.heart import Announced, Join, make_app, raising


def pulse(process: str, at: float, **counts: int) -> ProcessPulse:
    return ProcessPulse(
        process=process, pid=1, host="h", roles=(), started_at=0.0, at=at, counts=counts
    )


def test_rates_are_differences_a_second() -> None:
    """What began anew, with its process, counts from nothing."""
    assert rates({"a": 10, "b": 9}, {"a": 30, "b": 4, "c": 2}, 2.0) == {"a": 10, "b": 2, "c": 1}
    assert rates({}, {"a": 1}, 0.0) == {}


def test_rates_of_processes_are_summed_whenever_each_has_told() -> None:
    """Looking more often than they tell changes no rate; who was seen once has none; who is gone has none."""
    meter = Rates()
    assert meter.look([pulse("a", 100, n=5)]) == {}
    assert meter.look([pulse("a", 105, n=15), pulse("b", 104, n=70)]) == {"n": 2}
    assert meter.look([pulse("a", 105, n=15), pulse("b", 104, n=70)]) == {"n": 2}
    assert meter.look([pulse("a", 105, n=15), pulse("b", 109, n=75)]) == {"n": 3}
    assert meter.look([pulse("b", 114, n=75)]) == {}


def test_what_another_version_wrote_is_read_or_left_out() -> None:
    """In a rolling deploy processes of two versions tell."""
    known = b'{"pid":7,"host":"h","roles":["send"],"started_at":1,"at":2,"counts":{"x":3},"new":[]}'
    deep = b'{"new":' + b"[" * 100_000
    others = [Pulse("b", b'{"version":9}', 0.5), Pulse("c", b"\xff", 0.5), Pulse("d", deep, 0.5)]
    found = read_pulses([Pulse("a", known, 0.5), *others])
    (only,) = found
    assert (only.process, only.pid, only.counts, only.age_seconds) == ("a", 7, {"x": 3}, 0.5)


async def test_a_running_app_is_seen_and_a_stopped_one_is_not() -> None:
    """Section 2: roles, counts and partitions of each process stand in storage while it runs."""

    async def seat(event: Announced) -> None: ...

    storage = MemoryStorage()
    app = make_app(
        (Join, raising(Announced())),
        (Announced, seat),
        storage=storage,
        broker=MemoryBroker(),
        limits=Limits(lease_seconds=0.3, poll_seconds=0.01),
    )
    async with app:
        await app.send(Join())
        await app.settle()
        while not (found := read_pulses(await storage.pulses("meetings"))):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        (one,) = found
        assert one.roles == ("consume", "relay", "send")
        assert (
            one.counts["headrace.relay.published{topic=meetings,type=meetings.announced.v1}"] == 1
        )
        assert one.partitions["outbox:meetings"] == tuple(range(8))
        assert "group:meetings/meetings" in one.partitions
        assert one.paused == ()
        assert one.started_at <= one.at
        parts = app.parts
    writer = PulseWriter(parts, storage, "x")
    assert writer.pulse().partitions == {}


async def test_a_clean_stop_takes_the_process_off_at_once() -> None:
    """Nobody waits for a lease to see that a process has been stopped."""
    storage = MemoryStorage()
    app = make_app((Join, raising()), storage=storage)
    await storage.start("meetings", partitions=8)
    writer = PulseWriter(app.parts, storage, "me", first_seconds=0.0)
    writer.start()
    while not await storage.pulses("meetings"):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    await writer.stop()
    assert not await storage.pulses("meetings")
    await storage.stop()


async def test_a_busy_storage_is_not_waited_for() -> None:
    """A pulse is no reason to slow or to frighten anybody: it is left out, and counted."""

    class Busy(MemoryStorage):
        async def pulse(self, *arguments: Any, **named: Any) -> None:
            raise StorageBusy("somebody writes")

    storage = Busy()
    app = make_app((Join, raising()), storage=storage, limits=Limits(lease_seconds=0.03))
    writer = PulseWriter(app.parts, storage, "me", first_seconds=0.0)
    writer.start()
    while app.telemetry.counts[Count.PULSE_MISSED] < 2:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.001)
    await writer.stop()


async def test_a_process_that_ends_at_once_tells_nothing() -> None:
    """A test or a command that runs for a moment writes nothing."""
    storage = MemoryStorage()
    async with make_app((Join, raising()), storage=storage) as app:
        await app.send(Join())
        assert not await storage.pulses("meetings")
