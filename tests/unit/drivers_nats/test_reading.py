"""Reading: behind positions, bounded, without gaps, over outages."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from headrace.broker import Received
from headrace.errors import TopicNotFound
from headrace.testing.conformance.samples import bodies, message, numbered
from tests.unit.drivers_nats.place import KINDS, Place, Proxy, new_server, read, ready


def _numbers(found: list[Received]) -> list[int]:
    return [int(each.message.data) for each in found]


async def _drain(broker, count: int, *, limit: int = 50) -> list[int]:  # type: ignore[no-untyped-def]
    """Read on from each position until so many numbers of the one key have come."""
    after: dict[int, str | None] = dict.fromkeys(range(3))
    numbers: list[int] = []
    async with asyncio.timeout(30):
        while len(numbers) < count:
            try:
                found = await broker.read("g", "orders", after, limit=limit)
            except ConnectionError:
                found = []
            numbers += _numbers(list(found))
            after.update({each.partition: each.position for each in found})
            if not found:
                await asyncio.sleep(0.005)
    return numbers


async def test_the_buffer_is_bounded(place: Place) -> None:
    """A reader fetches no more ahead than its buffer may hold, in messages and in bytes, and still reads all in order."""
    broker = await ready(place.broker(buffer_messages=10))
    await broker.publish([message("k", b"%d" % n) for n in range(100)])
    assert len(await read(broker, 10)) == 10
    assert await _drain(broker, 100) == list(range(100))
    few_bytes = place.broker(buffer_bytes=100_000)
    await few_bytes.start(None)
    large = [message("k", b"%d" % n + b" " * 400_000) for n in range(100, 112)]
    assert not await few_bytes.publish(large)
    assert await _drain(few_bytes, 112) == list(range(112))
    held = [len(reader._buffer) for reader in few_bytes._readers.values()]
    assert max(held) <= 200


async def test_readers_of_groups_are_apart(place: Place) -> None:
    """Two groups read the same partitions at their own pace in one process."""
    broker = await ready(place.broker())
    await broker.publish(numbered(4))
    first = await read(broker, 4)
    last = first[-1]
    assert _numbers(await read(broker, 4, group="other")) == [0, 1, 2, 3]
    after: dict[int, str | None] = {last.partition: first[1].position}
    assert _numbers(await read(broker, 2, after)) == [2, 3]
    assert _numbers(await read(broker, 4, {last.partition: None}, group="other")) == [0, 1, 2, 3]


async def test_an_earlier_position_is_read_again(place: Place) -> None:
    """A caller that goes back gets the same messages again: its buffer begins anew there."""
    broker = await ready(place.broker(buffer_messages=4))
    await broker.publish(numbered(12))
    found = await read(broker, 4)
    partition, positions = found[0].partition, [each.position for each in found]
    await read(broker, 4, {partition: positions[3]})
    assert _numbers(await read(broker, 4, {partition: positions[0]})) == [1, 2, 3, 4]
    assert _numbers(await read(broker, 4, {partition: None})) == [0, 1, 2, 3]


async def test_a_position_that_means_nothing_counts_as_none(place: Place) -> None:
    """Positions that were never given, or lie behind the end of the log, skip nothing."""
    broker = await ready(place.broker())
    await broker.publish(numbered(3))
    one = (await read(broker, 3))[0]
    sequence, _, identity = one.position.partition("-")
    for wrong in ("", "7", f"{sequence}-0", "x-y", f"99-{identity}"):
        assert _numbers(await read(broker, 3, {one.partition: wrong})) == [0, 1, 2]


async def test_a_partition_that_is_none_is_an_error(place: Place) -> None:
    """Reading a partition that the topic does not have is an error that says how many it has."""
    broker = await ready(place.broker())
    with pytest.raises(TopicNotFound, match="3 partitions and no partition 3"):
        await broker.read("g", "orders", {3: None}, limit=1)


async def test_new_messages_wake_at_once(place: Place) -> None:
    """A message of another process wakes a reader within milliseconds, not at a poll."""
    broker, other = await ready(place.broker()), await ready(place.broker())
    await read(broker, 0)
    woken = asyncio.Event()
    end = broker.listen("g", "orders", woken.set)
    seconds: list[float] = []
    for _ in range(20):
        woken.clear()
        await other.publish([message()])
        began = time.monotonic()
        async with asyncio.timeout(5):
            await woken.wait()
        seconds.append(time.monotonic() - began)
    end()
    assert sorted(seconds)[10] < 0.05


async def test_cut_connections_lose_nothing(place: Place, proxy: Proxy) -> None:
    """A reader whose connection is cut again and again reads everything once, in order."""
    broker = await ready(place.broker(proxy.url))
    writer = await ready(place.broker())

    async def publish() -> None:
        for start in range(0, 1000, 50):
            await writer.publish([message("k", b"%d" % n) for n in range(start, start + 50)])
            if start % 200 == 0:
                proxy.cut()

    publishing = asyncio.create_task(publish())
    assert await _drain(broker, 1000, limit=30) == list(range(1000))
    await publishing


async def test_a_consumer_that_is_gone_is_made_again(place: Place) -> None:
    """When the server loses a reader's consumer, reading goes on behind the last message, without a gap."""
    broker = await ready(place.broker())
    await broker.publish([message("k", b"%d" % n) for n in range(5)])
    await read(broker, 5)
    stream = f"{place.prefix}orders"
    async with place.client() as client:
        for consumer in await client.jsm().consumers_info(stream):
            await client.jsm().delete_consumer(stream, consumer.name)
    await broker.publish([message("k", b"%d" % n) for n in range(5, 9)])
    assert _numbers(await read(broker, 9)) == list(range(9))


async def test_a_message_that_did_not_come_is_fetched(place: Place) -> None:
    """A gap in what the consumer delivers is noticed, and reading begins again before it."""
    broker = await ready(place.broker())
    await broker.publish([message("k", b"0")])
    (first,) = await read(broker, 1)
    reader = broker._readers["g", "orders", first.partition]
    real, lost = reader._received, []

    async def lossy(msg) -> None:  # type: ignore[no-untyped-def]
        if msg.data == b"2" and not lost:
            lost.append(msg)
        else:
            await real(msg)

    reader._received = lossy  # type: ignore[method-assign]
    await broker.publish([message("k", b"%d" % n) for n in range(1, 6)])
    assert _numbers(await read(broker, 6)) == list(range(6))
    assert lost


@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_server_keeps_what_it_confirmed(kind: str) -> None:
    """After kill -9 and a restart of the server, publishing and reading go on by themselves: nothing lost, in order."""
    server = new_server(kind)
    place = Place(server.url)
    broker, writer = await ready(place.broker()), await ready(place.broker())
    reading = asyncio.create_task(_drain(broker, 300))
    confirmed = 0
    async with asyncio.timeout(50):
        for number in range(300):
            if number in (100, 200):
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            while True:
                try:
                    assert not await writer.publish([message("k", b"%d" % number)])
                    break
                except ConnectionError:
                    await asyncio.sleep(0.02)
            confirmed += 1
        numbers = await reading
    assert confirmed == 300
    assert numbers == list(range(300))
    await place.close()
    server.close()


async def test_settled_positions_are_remembered(place: Place) -> None:
    """Another process begins behind what the group settled, also when the first one did not release."""
    broker = await ready(place.broker())
    await broker.publish(numbered(6))
    found = await read(broker, 6)
    partition = found[0].partition
    await broker.settle("g", "orders", {partition: found[2].position})
    assert _numbers(await read(broker, 3, {partition: None})) == [3, 4, 5]
    async with asyncio.timeout(10):
        assert broker._writer is not None
        await asyncio.wait({broker._writer})
    assert not broker._positions.unwritten
    other = place.broker()
    await other.start(None)
    assert _numbers(await read(other, 3, {partition: None})) == [3, 4, 5]
    assert await other.backlog("g", "orders", {partition: None}) == 3
    assert await other.backlog("new", "orders", {partition: None}) == 6


async def test_stopping_writes_what_was_settled(place: Place) -> None:
    """A stop right after settling leaves the position on the server, and no task or consumer."""
    broker = await ready(place.broker())
    await broker.publish(numbered(3))
    found = await read(broker, 3)
    await broker.settle("g", "orders", {found[0].partition: found[1].position})
    await broker.stop()
    await broker.stop()
    names = [task.get_name() for task in asyncio.all_tasks()]
    assert not [name for name in names if "headrace" in name]
    other = place.broker()
    await other.start(None)
    assert bodies(e.message for e in await read(other, 1, {found[0].partition: None})) == [b"2"]


async def test_a_release_ends_a_read_that_is_under_way(place: Place) -> None:
    """A partition that is released while it is read leaves no consumer on the server and no buffer here (G10, G11)."""
    broker = await ready(place.broker())
    await broker.publish([message(key) for key in "abcdef"])
    positions = dict[int, str | None].fromkeys(range(3))
    reading = asyncio.create_task(broker.read("g", "orders", positions, limit=10))
    while len(broker._readers) < 3:  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0)
    await broker.release("g", "orders", range(3))
    with contextlib.suppress(ConnectionError):
        await reading
    assert not broker._readers
    async with place.client() as client, asyncio.timeout(10):
        while await client.jsm().consumers_info(f"{place.prefix}orders"):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
    assert len(await read(broker, 6)) == 6
