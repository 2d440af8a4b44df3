"""What `MemoryBroker` does beyond the conformance kit: bounded topics, and apps that share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headrace.broker import Topic
from headrace.drivers.memory import MemoryBroker
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicMismatch, TopicNotFound
from headrace.testing.conformance.samples import bodies, message, numbered

START = dict[int, str | None]({0: None})


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    broker = MemoryBroker(max_messages=3)
    await broker.start(None)
    await broker.declare([Topic("orders", 1), Topic("invoices", 1)])
    yield broker
    await broker.stop()


async def waiting(
    broker: MemoryBroker, *bodies: bytes, topic: str = "orders"
) -> asyncio.Task[object]:
    """A publication that has begun, and waits if it has to."""
    messages = [message("k", body, topic=topic) for body in bodies]
    task = asyncio.ensure_future(broker.publish(messages))
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def settle_all(broker: MemoryBroker, group: str) -> None:
    last = (await broker.read("g", "orders", START, limit=100))[-1]
    await broker.settle(group, "orders", {0: last.position})


async def retained(broker: MemoryBroker) -> list[bytes]:
    return bodies(each.message for each in await broker.read("g", "orders", START, limit=100))


async def test_a_full_topic_slows_the_producer(broker: MemoryBroker) -> None:
    """While a topic is full, publish waits; it goes on when a group has settled what was in the way (G11)."""
    await broker.publish(numbered(3))
    task = await waiting(broker, b"3")
    assert not task.done()
    await settle_all(broker, "billing")
    await task
    assert await retained(broker) == [b"3"]


async def test_every_known_group_must_have_settled(broker: MemoryBroker) -> None:
    """What one group has settled stays until the slowest known group has settled it too (G8, G11)."""
    await broker.publish(numbered(3))
    await broker.settle("slow", "orders", {})
    await settle_all(broker, "fast")
    task = await waiting(broker, b"3")
    assert not task.done()
    await settle_all(broker, "slow")
    await task


async def test_without_any_group_nothing_is_forgotten(broker: MemoryBroker) -> None:
    """What no group has come for yet is kept: a new group starts at the first message (G9)."""
    await broker.publish(numbered(3))
    task = await waiting(broker, b"3")
    assert not task.done()
    assert await retained(broker) == [b"0", b"1", b"2"]
    task.cancel()


async def test_settled_messages_stay_while_there_is_room(broker: MemoryBroker) -> None:
    """A late group still finds what others have settled, as long as the topic is not full (G9)."""
    await broker.publish(numbered(2))
    await settle_all(broker, "early")
    await broker.publish([message("k", b"2")])
    assert await retained(broker) == [b"0", b"1", b"2"]


async def test_producers_take_turns(broker: MemoryBroker) -> None:
    """Publications that wait go on in the order in which they came, large ones too (G11)."""
    await broker.publish(numbered(2))
    large = await waiting(broker, b"large", b"large", b"large")
    small = await waiting(broker, b"small")
    assert not large.done()
    assert not small.done()
    await settle_all(broker, "billing")
    await large
    assert not small.done()
    await settle_all(broker, "billing")
    await small
    assert await retained(broker) == [b"small"]


async def test_a_batch_larger_than_the_topic_goes_in_alone(broker: MemoryBroker) -> None:
    """A batch that can never fit is stored when all before it is settled, instead of waiting for ever (G11)."""
    await broker.publish(numbered(1))
    task = await waiting(broker, b"a", b"b", b"c", b"d")
    assert not task.done()
    await settle_all(broker, "billing")
    await task
    assert await retained(broker) == [b"a", b"b", b"c", b"d"]


async def test_a_cancelled_producer_leaves_the_queue(broker: MemoryBroker) -> None:
    """A publication that is cancelled while it waits stores nothing and holds up nobody (G11)."""
    await broker.publish(numbered(3))
    first, second = await waiting(broker, b"first"), await waiting(broker, b"second")
    first.cancel()
    await asyncio.wait({first})
    await settle_all(broker, "billing")
    await second
    assert await retained(broker) == [b"second"]


async def test_a_stop_ends_waiting_producers(broker: MemoryBroker) -> None:
    """A publication that waits when the broker stops raises `BrokerUnavailable` and has stored nothing (G10)."""
    await broker.publish(numbered(3))
    task = await waiting(broker, b"late")
    await broker.stop()
    with pytest.raises(BrokerUnavailable, match="not started"):
        await task
    await broker.start(None)
    assert await retained(broker) == [b"0", b"1", b"2"]


async def test_positions_of_an_earlier_process_skip_nothing() -> None:
    """A position that storage kept from an earlier broker lies before every message of a new one (G5)."""
    positions: list[str] = []
    for _ in range(2):
        broker = MemoryBroker()
        await broker.start(None)
        await broker.declare([Topic("orders", 1)])
        await broker.publish(numbered(2))
        after = {0: positions[-1] if positions else None}
        received = await broker.read("g", "orders", after, limit=10)
        assert bodies(each.message for each in received) == [b"0", b"1"]
        positions += [each.position for each in received]
        await broker.stop()
        await asyncio.sleep(0)


def test_it_works_in_one_loop_after_another() -> None:
    """A broker belongs to no event loop: an app that is started again finds what it holds."""
    broker = MemoryBroker(max_messages=1)

    async def once(group: str) -> None:
        await broker.start(None)
        await broker.declare([Topic("orders", 1)])
        task = await waiting(broker, group.encode())
        if not task.done():
            await settle_all(broker, group)
        await task
        assert await retained(broker) == [group.encode()]
        await broker.stop()

    asyncio.run(once("first"))
    asyncio.run(once("second"))


async def test_a_long_partition_leaves_room_for_others() -> None:
    """`read` takes from its partitions in turn, so that a long one does not fill the answer (G8)."""
    broker = MemoryBroker()
    await broker.start(None)
    await broker.declare([Topic("orders", 2)])
    # The two keys are in different partitions, 100 messages before 2.
    await broker.publish(numbered(100, "a") + numbered(2, "d"))
    received = await broker.read("g", "orders", {0: None, 1: None}, limit=10)
    assert {each.message.key for each in received} == {"a", "d"}


async def test_faults_are_explained(broker: MemoryBroker) -> None:
    """Errors name the value, and what to do about it (G13)."""
    with pytest.raises(TopicNotFound, match="did you mean 'orders'"):
        await broker.publish([message(topic="order")])
    with pytest.raises(TopicMismatch, match="has 1 partitions and was declared with 2"):
        await broker.declare([Topic("orders", 2)])
    with pytest.raises(TopicMismatch, match="partitions 0 to 0, and 7 was asked for"):
        await broker.read("g", "orders", {7: None}, limit=1)
    with pytest.raises(ConfigurationError, match="give 1 partition or more"):
        await broker.declare([Topic("new", 0)])
    with pytest.raises(ConfigurationError, match="max_messages=0"):
        MemoryBroker(max_messages=0)
