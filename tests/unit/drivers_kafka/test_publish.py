"""What `publish` answers, and in which order records stand, when a cluster errs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from engines import MockKafka
from engines.kafka_mock import (
    MESSAGE_TOO_LARGE,
    NOT_ENOUGH_REPLICAS,
    NOT_LEADER,
    PRODUCE,
    TOPIC_AUTHORIZATION_FAILED,
)
from headrace.broker import Topic
from headrace.drivers.kafka import KafkaBroker
from headrace.errors import BrokerUnavailable
from headrace.testing.conformance.samples import message, numbered
from tests.unit.drivers_kafka.place import Place, read


@pytest.fixture
def cluster() -> Iterator[MockKafka]:
    with MockKafka(2) as mock:
        yield mock


@pytest.fixture
async def place(cluster: MockKafka) -> AsyncIterator[Place]:
    made = Place(cluster.servers)
    for name in ("orders", "invoices"):
        cluster.topic(made.prefix + name, partitions=1)
    # One leader each, so that one topic can hang without the other.
    cluster.leader(made.prefix + "orders", 0, 1)
    cluster.leader(made.prefix + "invoices", 0, 2)
    yield made
    await made.close(remove=False)


async def ready(place: Place, **settings: object) -> KafkaBroker:
    broker = place.broker(**{"publish_seconds": 1.0, **settings})
    await broker.start(None)
    await broker.declare([Topic("orders", 1), Topic("invoices", 1)])
    return broker


async def stored(broker: KafkaBroker, count: int, topic: str = "orders") -> list[bytes]:
    found = await read(broker, count, topic=topic, partitions=1)
    return [each.message.data for each in found]


async def test_a_topic_that_hangs_does_not_hold_up_others(cluster: MockKafka, place: Place) -> None:
    """Messages that are not confirmed in time are to be sent later; those of other topics are stored (G6)."""
    broker = await ready(place)
    cluster.down(1)
    batch = [*numbered(2), *numbered(2, topic="invoices")]
    rejected = await broker.publish(batch)
    assert [(each.index, each.final) for each in rejected] == [(0, False), (1, False)]
    assert "did not confirm it within 1 seconds" in rejected[0].reason
    cluster.up(1)


async def test_publishing_again_attaches_to_what_is_under_way(
    cluster: MockKafka, place: Place
) -> None:
    """Messages that were not confirmed in time are not stored twice when they are sent again, and stay first (G6)."""
    broker = await ready(place)
    cluster.down(1)
    first, later = numbered(3), [message(data=b"later")]
    await broker.publish([*first, message(topic="invoices")])
    rejected = await broker.publish([*first, *later, message(topic="invoices")])
    assert [each.index for each in rejected] == [0, 1, 2, 3]
    cluster.up(1)
    while await broker.publish([*first, *later, message(topic="invoices")]):
        pass
    assert await stored(broker, 4) == [b"0", b"1", b"2", b"later"]


async def test_a_cluster_that_hangs_is_unavailable_in_time(
    cluster: MockKafka, place: Place
) -> None:
    """Where nothing at all is confirmed within `publish_seconds`, publish raises, and says where and how long (G5)."""
    broker = await ready(place, publish_seconds=0.5)
    await broker.publish(numbered(1))
    cluster.down(1)
    cluster.down(2)
    async with asyncio.timeout(5):
        with pytest.raises(BrokerUnavailable, match=r"within 0\.5 seconds"):
            await broker.publish(numbered(2))
    cluster.up(1)
    cluster.up(2)


async def test_errors_that_pass_keep_the_order(cluster: MockKafka, place: Place) -> None:
    """Requests that fail for a while are repeated by themselves, in order and without a second copy (G6)."""
    broker = await ready(place, publish_seconds=10.0, config={"batch.num.messages": 5})
    cluster.errors(PRODUCE, NOT_LEADER, 0, NOT_ENOUGH_REPLICAS, NOT_LEADER)
    sent = numbered(50)
    assert not await broker.publish(sent)
    assert await stored(broker, 50) == [each.data for each in sent]


async def test_a_message_that_the_servers_refuse_is_final(cluster: MockKafka, place: Place) -> None:
    """A refusal is repeated with the record alone; then it is final, its key waits, and other keys are stored (G6)."""
    # All in one request, whatever the threads do meanwhile: the errors below are for requests.
    broker = await ready(place, publish_seconds=10.0, config={"linger.ms": 100})
    await broker.publish([message("before", b"before")])
    # Once for the request with all, once for the record alone.
    cluster.errors(PRODUCE, MESSAGE_TOO_LARGE, MESSAGE_TOO_LARGE)
    rejected = await broker.publish(
        [message("a", b"1"), message("b", b"2"), message("a", b"3"), message("b", b"4")]
    )
    assert [(each.index, each.final) for each in rejected] == [(0, True), (2, False)]
    assert "too large" in rejected[0].reason
    assert "waits behind message 0" in rejected[1].reason
    assert await stored(broker, 3) == [b"before", b"2", b"4"]


async def test_a_partition_that_may_not_be_written_is_tried_again_later(
    cluster: MockKafka, place: Place
) -> None:
    """An error that is nobody's size pauses the partition: nothing of it is stored, and it is stored when it is over (G6)."""
    broker = await ready(place, publish_seconds=10.0, config={"linger.ms": 100})
    await broker.publish([message(data=b"before")])
    cluster.errors(PRODUCE, TOPIC_AUTHORIZATION_FAILED, TOPIC_AUTHORIZATION_FAILED)
    sent = numbered(3)
    rejected = await broker.publish(sent)
    assert [(each.index, each.final) for each in rejected] == [
        (0, False),
        (1, False),
        (2, False),
    ]
    assert "takes nothing now" in rejected[0].reason
    assert not await broker.publish(sent)
    assert await stored(broker, 4) == [b"before", b"0", b"1", b"2"]


async def test_a_body_that_is_too_large_holds_back_its_key(place: Place) -> None:
    """A body above `max_body_bytes` is refused here; a later message of its key is not stored before it (G6)."""
    broker = await ready(place, max_body_bytes=100)
    rejected = await broker.publish(
        [message("a", b"x" * 101), message("a", b"a"), message("b", b"b")]
    )
    assert [(each.index, each.final) for each in rejected] == [(0, True), (1, False)]
    assert "at most 100 are accepted" in rejected[0].reason
    assert await stored(broker, 1) == [b"b"]


async def test_attributes_that_are_too_large_are_final(place: Place) -> None:
    """A record that is too large with its attributes is refused, and the rest of the batch is stored (G6)."""
    broker = await ready(place, max_body_bytes=100)
    large = message("a", b"a", metadata={"note": "x" * 60_000})
    rejected = await broker.publish([large, message("b", b"b")])
    assert [(each.index, each.final) for each in rejected] == [(0, True)]
    assert "more than 50100 bytes" in rejected[0].reason
    assert await stored(broker, 1) == [b"b"]


async def test_a_full_queue_slows_the_publisher(place: Place) -> None:
    """A batch larger than the producer's queue is stored whole and in order (G11)."""
    broker = await ready(place, publish_seconds=10.0, config={"queue.buffering.max.messages": 10})
    sent = numbered(100)
    assert not await broker.publish(sent)
    assert await stored(broker, 100) == [each.data for each in sent]


async def test_a_message_twice_in_a_batch_is_confirmed_once(place: Place) -> None:
    """The same message twice in one call is one record, and both are confirmed."""
    broker = await ready(place)
    twice = message()
    assert not await broker.publish([twice, twice])
    assert await stored(broker, 1) == [twice.data]


async def test_a_cancelled_publish_leaves_nothing_behind(cluster: MockKafka, place: Place) -> None:
    """After a cancelled publish the same messages sent again are stored once, in order (G6)."""
    broker = await ready(place, publish_seconds=10.0)
    cluster.delay(0.2, broker=1)
    sent = numbered(3)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await broker.publish(sent)
    assert not await broker.publish(sent)
    assert await stored(broker, 3) == [b"0", b"1", b"2"]


async def test_without_idempotence_the_driver_promises_less(place: Place) -> None:
    """`idempotence=False` is declared, so that the relay sends one message of a key at a time (G6)."""
    broker = await ready(place, idempotence=False)
    assert not broker.guarantees.ordered_batch
    assert not await broker.publish(numbered(3))
    assert await stored(broker, 3) == [b"0", b"1", b"2"]
