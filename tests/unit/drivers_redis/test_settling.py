"""What is settled is written, and what all groups have settled is trimmed, nothing else."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from headrace.broker import Reading, Topic
from headrace.drivers.redis import RedisBroker, settling
from headrace.drivers.redis.settling import Settling, _done
from headrace.errors import BrokerUnavailable
from headrace.testing.conformance.samples import numbered
from tests.unit.drivers_redis.place import Place

COUNT = 1000


async def filled(place: Place, *groups: str, retention_seconds: float = 0.0) -> RedisBroker:
    """A broker with a topic of one partition that holds `COUNT` messages."""
    broker = place.broker(retention_seconds=retention_seconds)
    await broker.start(None)
    await broker.declare([Topic("orders", 1)], [Reading(group, "orders") for group in groups])
    await broker.publish(numbered(COUNT))
    return broker


async def settle_all(broker: RedisBroker, group: str) -> None:
    found = await broker.read(group, "orders", {0: "0-0"}, limit=COUNT)
    await broker.settle(group, "orders", {0: found[-1].position})
    await broker.release(group, "orders", [0])


async def test_what_all_groups_settled_is_trimmed(place: Place) -> None:
    """Without retention what every known group has settled goes, but for less than a node of the stream (G11)."""
    broker = await filled(place, "a")
    await settle_all(broker, "a")
    assert len(await place.stream("orders", 0)) <= 100


async def test_what_a_known_group_has_not_settled_stays(place: Place) -> None:
    """A group that was declared and never came keeps everything for itself, until it is forgotten (G8)."""
    await (await filled(place, "a", "sleeper")).stop()
    broker = place.broker(retention_seconds=0.0)
    await broker.start(None)
    await settle_all(broker, "a")
    assert len(await place.stream("orders", 0)) == COUNT
    await broker.forget_group("sleeper", "orders")
    other = place.broker(retention_seconds=0.0)
    await other.start(None)
    await settle_all(other, "a")
    assert len(await place.stream("orders", 0)) <= 100


async def test_what_is_young_stays(place: Place) -> None:
    """Within the retention everything stays for groups that come later, though all have settled it."""
    broker = await filled(place, "a", retention_seconds=3600.0)
    await settle_all(broker, "a")
    assert len(await place.stream("orders", 0)) == COUNT
    assert len(await broker.read("new", "orders", {0: None}, limit=COUNT)) == COUNT


async def test_what_is_settled_is_written_soon(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`settle` asks nothing of the server; the position is written by itself a moment later, the highest one."""
    monkeypatch.setattr("headrace.drivers.redis.settling.WRITE_SECONDS", 0.01)
    broker = await filled(place, "a", retention_seconds=3600.0)
    found = await broker.read("a", "orders", {0: None}, limit=10)
    await broker.settle("a", "orders", {0: found[9].position})
    await broker.settle("a", "orders", {0: found[4].position})
    await broker.settle("a", "orders", {0: "of another log"})
    async with place.client() as client, asyncio.timeout(5):
        await _until_settled(client, place, found[9].position)


async def _until_settled(client: Redis, place: Place, position: str) -> None:
    key = f"{place.prefix}:{{orders}}:settled"
    while await client.execute_command("HGET", key, "a/0") != position.encode():
        await asyncio.wait_for(client.execute_command("PING"), 1)


async def test_what_is_settled_in_an_outage_is_written_after_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settled position that could not be written is kept and written when the server is back."""
    monkeypatch.setattr("headrace.drivers.redis.settling.WRITE_SECONDS", 0.01)
    broker = await filled(place, "a", retention_seconds=3600.0)
    found = await broker.read("a", "orders", {0: None}, limit=10)
    async with place.client() as client:
        await client.replicaof("127.0.0.1", "1")
        try:
            await broker.settle("a", "orders", {0: found[9].position})
            with pytest.raises(BrokerUnavailable):
                await broker.release("a", "orders", [0])
        finally:
            await client.replicaof("NO", "ONE")
        async with asyncio.timeout(10):
            await _until_settled(client, place, found[9].position)


def test_what_every_group_has_settled() -> None:
    """The lowest position of all known groups counts; a group without a position in a partition has settled nothing."""
    flat = [b"a/0", b"5-1", b"a/1", b"7-0", b"b/0", b"4-0", b"odd", b"x"]
    assert _done(flat[:4], 2) == [(5, 1), (7, 0)]
    assert _done(flat[:6], 2) == [(4, 0), (0, 0)]
    assert _done([], 1) == [(0, 0)]


async def test_an_error_that_nobody_expects_does_not_end_the_writing(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """G13: it is told, and what is settled is written after it (G11)."""
    monkeypatch.setattr(settling, "WRITE_SECONDS", 0.0)
    broker = await filled(place, "a")
    assert broker._running is not None
    writing, write = broker._running.settling, Settling.write
    failures = 1

    async def fails_once() -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise RuntimeError("nobody knows why")
        await write(writing)

    monkeypatch.setattr(writing, "write", fails_once)
    await broker.settle("a", "orders", {0: "5-0"})
    async with asyncio.timeout(5):
        while writing._pending:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
    assert "Redis could not be told what groups have settled" in caplog.text
    await broker.stop()
