"""Batches: what is stored, what is refused, what an outage leaves."""

from __future__ import annotations

import asyncio
import time

import pytest
from nats.js.api import DiscardPolicy

import engines
from headrace.broker import Topic
from headrace.errors import BrokerUnavailable
from headrace.testing.conformance.samples import bodies, message, numbered
from tests.unit.drivers_nats.place import Place, Proxy, read, ready


async def _reconfigure(place: Place, **settings: object) -> None:
    async with place.client() as client:
        config = (await client.jsm().stream_info(f"{place.prefix}orders")).config
        await client.jsm().update_stream(config, **settings)


async def test_a_body_too_large_for_the_stream_harms_no_other(place: Place) -> None:
    """What a stream will never take is rejected for good, by its place; the others of the batch are stored."""
    broker = await ready(place.broker())
    await _reconfigure(place, max_msg_size=1000)
    sent = [message("a", b"1"), message("b", b"x" * 2000), message("c", b"3")]
    rejected = await broker.publish(sent)
    assert [(each.index, each.final) for each in rejected] == [(1, True)]
    assert "maximum" in rejected[0].reason
    assert sorted(bodies(each.message for each in await read(broker, 2))) == [b"1", b"3"]


async def test_headers_that_are_too_large_are_rejected(place: Place) -> None:
    """Headers above the server's 64 KiB, or that make a message too large with its body, are rejected and harm nothing."""
    broker = await ready(place.broker())
    most = broker.guarantees.max_body_bytes or 0
    long = {"long": "x" * 20_000}
    sent = [
        message("a", metadata={"long": "x" * 70_000}),
        message("b", b"x" * most, metadata=long),
        message("c", b"fits"),
    ]
    rejected = await broker.publish(sent)
    assert sorted((each.index, each.final) for each in rejected) == [(0, True), (1, True)]
    assert bodies(each.message for each in await read(broker, 1)) == [b"fits"]


async def test_a_full_stream_takes_messages_later(place: Place) -> None:
    """What a server refuses for now is rejected as not final, and accepted when there is room."""
    broker = await ready(place.broker())
    await _reconfigure(place, max_msgs=2, discard=DiscardPolicy.NEW)
    sent = numbered(4)
    rejected = await broker.publish(sent)
    assert [(each.index, each.final) for each in rejected] == [(2, False), (3, False)]
    await _reconfigure(place, max_msgs=-1, discard=DiscardPolicy.OLD)
    assert not await broker.publish(sent[2:])
    assert bodies(e.message for e in await read(broker, 4)) == [b"0", b"1", b"2", b"3"]


async def test_a_repeat_is_stored_once(place: Place) -> None:
    """A message that is published again within the duplicate window stands in the stream once, and counts as stored."""
    broker = await ready(place.broker())
    sent = numbered(3)
    for _ in range(2):
        assert not await broker.publish(sent)
    assert bodies(e.message for e in await read(broker, 3)) == [b"0", b"1", b"2"]
    assert await broker.backlog("g", "orders", dict.fromkeys(range(3))) == 3


async def test_a_cut_connection_loses_nothing(place: Place, proxy: Proxy) -> None:
    """A connection that is cut in the middle of a batch fails it at once; repeated, each message is there once, in order."""
    broker = await ready(place.broker(proxy.url))
    sent = [message(f"k{n % 7}", b"%d" % n) for n in range(200)]
    outages = 0
    for cut_after_bytes in (500, 9_000, 30_000, 50_000):
        proxy.cut_after_bytes = cut_after_bytes
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await broker.publish(sent)
        assert time.monotonic() - began < 5
        outages += 1
    async with asyncio.timeout(20):
        while True:
            try:
                assert not await broker.publish(sent)
                break
            except BrokerUnavailable:
                await asyncio.sleep(0.01)
    found = [each.message for each in await read(broker, 200)]
    assert outages == 4
    assert sorted(int(each.data) for each in found) == list(range(200))
    # One call of many messages of a key may store them with a gap; messages of one call each never do.
    singles = [message("one", b"%d" % n, topic="orders") for n in range(20)]
    for each in singles:
        if each.data.endswith(b"5"):
            proxy.cut()
        async with asyncio.timeout(20):
            while True:
                try:
                    await broker.publish([each])
                    break
                except BrokerUnavailable:
                    await asyncio.sleep(0.01)
    found = [e.message for e in await read(broker, 220) if e.message.key == "one"]
    assert [int(each.data) for each in found] == list(range(20))


async def test_a_server_that_hangs_is_unavailable_in_time(place: Place, proxy: Proxy) -> None:
    """When nothing is answered, `publish` and `read` raise within the time-out, large batches too, and stop ends."""
    broker = await ready(place.broker(proxy.url, timeout_seconds=0.5))
    proxy.hold()
    for count, size in ((1, 10), (60, 900_000)):
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="not available"):
            await broker.publish([message(str(n), b"x" * size) for n in range(count)])
        assert time.monotonic() - began < 5
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        await broker.read("g", "orders", {0: None}, limit=1)
    await broker.stop()
    assert time.monotonic() - began < 8


async def test_a_server_that_hung_goes_on(place: Place, nats_server: engines.Server) -> None:
    """A server that was frozen and goes on is used again by itself, and nothing is lost."""
    broker = await ready(place.broker(timeout_seconds=0.5))
    sent = numbered(3)
    await broker.publish(sent[:1])
    nats_server.pause()
    try:
        with pytest.raises(BrokerUnavailable):
            await broker.publish(sent[1:2])
    finally:
        nats_server.resume()
    async with asyncio.timeout(20):
        for each in sent[1:]:
            while True:
                try:
                    await broker.publish([each])
                    break
                except BrokerUnavailable:
                    await asyncio.sleep(0.01)
    assert bodies(e.message for e in await read(broker, 3)) == [b"0", b"1", b"2"]


async def test_a_cancelled_publish_leaves_nothing_behind(place: Place, proxy: Proxy) -> None:
    """Cancelling a batch ends it at once, also while the server hangs, and the broker stays usable."""
    broker = await ready(place.broker(proxy.url))
    proxy.hold()
    publishing = asyncio.create_task(
        broker.publish([message(str(n), b"x" * 500_000) for n in range(40)])
    )
    await asyncio.sleep(0)
    publishing.cancel()
    done, _ = await asyncio.wait({publishing}, timeout=5)
    assert done
    assert publishing.cancelled()
    proxy.let()
    assert not await broker.publish([message("after", b"after")])
    await broker.declare([Topic("other")])


async def test_many_publish_at_once(place: Place) -> None:
    """Batches of several callers at once all end, and each message is there."""
    broker = await ready(place.broker())
    calls = [[message(f"{c}-{n}", b"x") for n in range(100)] for c in range(8)]
    assert await asyncio.gather(*(broker.publish(call) for call in calls)) == [[]] * 8
    await read(broker, 800)


async def test_an_empty_batch_needs_no_server(place: Place) -> None:
    """An empty batch stores nothing; on a broker that is stopped it is still an error."""
    broker = await ready(place.broker())
    assert await broker.publish([]) == ()
    await broker.stop()
    with pytest.raises(BrokerUnavailable, match="not started"):
        await broker.publish([])
