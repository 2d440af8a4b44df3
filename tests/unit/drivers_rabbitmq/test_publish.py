"""Publishing to RabbitMQ: what is refused, lost, cancelled, or takes too long."""

from __future__ import annotations

import asyncio

import aiormq
import pytest
from msgspec import structs

from headrace.broker import Reading, Topic, partition_of
from headrace.drivers.rabbitmq import RabbitBroker
from headrace.errors import BrokerUnavailable, TopicNotFound
from headrace.testing.conformance.samples import message, numbered
from tests.unit.drivers_rabbitmq.place import Place, bodies, numbers, read
from tests.unit.drivers_rabbitmq.proxy import Proxy

ORDERS = Topic("orders", 1)
READ = Reading("g", "orders")


async def started(place: Place, **settings: object) -> RabbitBroker:
    broker = place.broker(**settings)
    await broker.start(None)
    await broker.declare([ORDERS], [READ])
    return broker


async def test_what_no_queue_takes_is_rejected_for_now(place: Place) -> None:
    """A message that is confirmed but reaches no queue comes back rejected, not final, with the queue's name (G5)."""
    broker = await started(place)
    await broker.declare([Topic("lonely", 2)])
    sent = [message("a", b"1"), message("b", b"2", topic="lonely"), message("c", b"3")]
    rejected = await broker.publish(sent)
    assert [(one.index, one.final) for one in rejected] == [(1, False)]
    partition = partition_of(sent[1], 2)
    assert f".{place.names.exchange('lonely')}.{partition}'" in rejected[0].reason
    assert bodies(await read(broker, 2)) == [b"1", b"3"]


async def test_messages_with_one_id_are_each_judged(place: Place) -> None:
    """Of several messages with the same id that no queue takes, each is rejected (G5)."""
    broker = await started(place)
    await broker.declare([Topic("lonely", 1)])
    same = [message("a", topic="lonely", message_id="same") for _ in range(3)]
    assert [one.index for one in await broker.publish(same)] == [0, 1, 2]


async def test_concurrent_calls_keep_their_own_answers(place: Place) -> None:
    """Calls that publish at once, one of them in vain, each get the answer for their own messages (G5)."""
    broker = await started(place)
    await broker.declare([Topic("lonely", 1)])
    good, bad = await asyncio.gather(
        broker.publish(numbered(50)), broker.publish(numbered(20, topic="lonely"))
    )
    assert list(good) == []
    assert [one.index for one in bad] == list(range(20))
    assert bodies(await read(broker, 50)) == numbers(50)


async def test_more_than_fits_at_once(place: Place) -> None:
    """A batch of more messages than are outstanding at once arrives whole and in order (G6)."""
    broker = await started(place, prefetch=2000)
    assert list(await broker.publish(numbered(1200))) == []
    assert bodies(await read(broker, 1200)) == numbers(1200)


async def test_a_vanished_topic_is_not_found(place: Place) -> None:
    """A topic whose exchange was deleted is `TopicNotFound` at publish, and works when it is declared anew (G13)."""
    broker = await started(place)
    await broker.publish(numbered(1))
    async with aiormq.connect(place.url) as connection:
        channel = await connection.channel()
        await channel.exchange_delete(place.names.exchange("orders"))
    with pytest.raises(TopicNotFound, match="'orders'"):
        await broker.publish(numbered(3))
    await broker.declare([ORDERS], [READ])
    assert list(await broker.publish(numbered(3))) == []


async def test_attributes_that_fit_no_frame_are_refused(place: Place) -> None:
    """A key or an id that the protocol has no room for is rejected for good, and ends nobody's connection (G6)."""
    broker = await started(place)
    sent = [message("a", b"1"), message("k" * 200_000), message("b", b"3"), message("c", b"4")]
    sent[3] = structs.replace(
        sent[3], envelope=structs.replace(sent[3].envelope, datacontenttype="x" * 300)
    )
    rejected = await broker.publish(sent)
    assert [(one.index, one.final) for one in rejected] == [(1, True), (3, True)]
    assert "frame" in rejected[0].reason
    assert bodies(await read(broker, 2)) == [b"1", b"3"]


async def test_a_long_id_travels_in_its_header(place: Place) -> None:
    """An id longer than the protocol's own field for it is kept: the CloudEvents header has room (G5)."""
    broker = await started(place)
    long = message("a", message_id="i" * 255)
    umlauts = message("a", message_id="ü" * 200)
    assert list(await broker.publish([long, umlauts])) == []
    assert [one.message for one in await read(broker, 2)] == [long, umlauts]


async def test_a_server_that_hangs_is_unavailable_in_time(place: Place) -> None:
    """A server that confirms nothing makes `publish` fail within the time-out; afterwards all goes on (G5)."""
    async with Proxy(place.url) as proxy:
        broker = await started(place, url=proxy.url, timeout_seconds=1.0)
        await broker.publish(numbered(1))
        proxy.hang()
        clock = asyncio.get_running_loop().time
        start = clock()
        with pytest.raises(BrokerUnavailable, match="within 1 s"):
            await broker.publish(numbered(3))
        assert clock() - start < 5
        proxy.flow()
        await published_in_time(broker)
        await broker.stop()


async def test_a_lost_connection_is_made_again(place: Place) -> None:
    """Connections that are cut between and during calls cost no message: what failed is published again, in order (G6)."""
    async with Proxy(place.url) as proxy:
        broker = await started(place, url=proxy.url)
        sent = numbered(200)
        for number, one in enumerate(sent):
            publishing = asyncio.create_task(broker.publish([one]))
            if number % 20 == 10:
                await asyncio.sleep(0)
                proxy.cut()
            try:
                assert list(await publishing) == []
            except BrokerUnavailable:
                await published_in_time(broker, one)
        seen = list(dict.fromkeys(bodies(await read(broker, 200))))
        assert seen == numbers(200)
        await broker.stop()


async def test_a_cancelled_call_leaves_nothing_behind(place: Place) -> None:
    """A cancelled `publish` leaves no task, and the channel serves the next call (G10)."""
    broker = await started(place)
    await broker.publish(numbered(1))
    before = asyncio.all_tasks()
    for steps in range(12):
        publishing = asyncio.create_task(broker.publish(numbered(300)))
        for _ in range(steps):
            await asyncio.sleep(0)
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
    assert asyncio.all_tasks() <= before
    assert list(await broker.publish([message("k", b"last")])) == []
    async with asyncio.timeout(10):
        found: list[bytes] = []
        while b"last" not in found:
            found = bodies(await broker.read("g", "orders", {0: None}, limit=10_000))
            if len(found) >= 500:
                await broker.settle("g", "orders", {0: (await read(broker, 500))[-1].position})
            await asyncio.sleep(0.005)


async def published_in_time(broker: RabbitBroker, one: object = None) -> None:
    """Publish until it is confirmed."""
    sent = [one] if one is not None else numbered(1)
    async with asyncio.timeout(20):
        while True:
            try:
                assert list(await broker.publish(sent)) == []  # type: ignore[arg-type]
            except BrokerUnavailable:
                await asyncio.sleep(0.02)
            else:
                return


async def test_a_silent_connection_is_an_outage_and_no_cancellation(place: Place) -> None:
    """When heartbeats find the server silent, who waits gets `BrokerUnavailable`, and is not cancelled (G9)."""
    async with Proxy(place.url) as proxy:
        broker = await started(place, url=proxy.url, heartbeat_seconds=1, timeout_seconds=30.0)
        await broker.publish(numbered(1))
        await read(broker, 1)
        proxy.hang()
        async with asyncio.timeout(20):
            with pytest.raises(BrokerUnavailable):
                await broker.publish(numbered(3))
        proxy.flow()
        await published_in_time(broker, message("k", b"after"))
        assert b"after" in bodies(await read(broker, 2))
        await broker.stop()


@pytest.mark.parametrize("limit", [1000, 20_000])
async def test_a_body_above_the_setting_is_refused(place: Place, limit: int) -> None:
    """A body of one byte more than `max_body_bytes` is rejected for good, and the others are stored (G6)."""
    broker = await started(place, max_body_bytes=limit)
    rejected = await broker.publish([message("a", b"1" * limit), message("b", b"2" * (limit + 1))])
    assert [(one.index, one.final) for one in rejected] == [(1, True)]
    assert str(limit) in rejected[0].reason
    assert bodies(await read(broker, 1)) == [b"1" * limit]
