"""What is stored, what is refused and what is in doubt, on a real server."""

from __future__ import annotations

import asyncio

import pytest

import engines
from headrace.broker import Topic, partition_of
from headrace.errors import BrokerUnavailable, TopicNotFound
from headrace.testing.conformance.samples import message, numbered
from tests.unit.drivers_redis.place import Place, Proxy


async def bodies(place: Place, topic: str, partition: int = 0) -> list[bytes]:
    return [fields[b"data"] for _, fields in await place.stream(topic, partition)]


async def test_a_topic_that_the_server_refuses_holds_no_other(place: Place) -> None:
    """Messages of a topic whose key holds something else are rejected for now; those of others are stored (G6)."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("bad", 1), Topic("good", 1)])
    async with place.client() as client:
        await client.delete(f"{place.prefix}:{{bad}}:0")
        await client.set(f"{place.prefix}:{{bad}}:0", "no stream")
    batch = [message(topic="good"), message(topic="bad"), message(topic="good")]
    rejected = await broker.publish(batch)
    assert [(each.index, each.final) for each in rejected] == [(1, False)]
    assert "WRONGTYPE" in rejected[0].reason
    assert len(await bodies(place, "good")) == 2


async def test_a_topic_without_permission_holds_no_other(place: Place) -> None:
    """Where the server aborts the transaction because of one topic, the others are published without it (G6)."""
    owner = place.broker()
    await owner.start(None)
    await owner.declare([Topic("mine", 1), Topic("theirs", 1)])
    name = place.prefix
    async with place.client() as client:
        # May read every key of the place, and write those of one topic.
        await client.execute_command(
            *("ACL", "SETUSER", name, "on", ">s3cret", "+@all"),
            *(f"~{name}:{{mine}}*", f"%R~{name}:*"),
        )
    try:
        broker = place.broker(user=name, password="s3cret")
        await broker.start(None)
        rejected = await broker.publish([message(topic="theirs"), message(topic="mine")])
        assert [(each.index, each.final) for each in rejected] == [(0, False)]
        assert len(await bodies(place, "mine")) == 1
        assert await bodies(place, "theirs") == []
    finally:
        async with place.client() as client:
            await client.acl_deluser(name)


async def test_a_full_server_takes_nothing_and_goes_on_later(place: Place) -> None:
    """Without memory the server refuses the whole batch, which is `BrokerUnavailable`; with memory it is stored."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 1)])
    async with place.client() as client:
        await client.config_set("maxmemory", "1mb")
        try:
            with pytest.raises(BrokerUnavailable, match="memory"):
                await broker.publish(numbered(3))
            assert await bodies(place, "orders") == []
        finally:
            await client.config_set("maxmemory", "0")
    assert await broker.publish(numbered(3)) == []
    assert await bodies(place, "orders") == [b"0", b"1", b"2"]


async def test_a_primary_that_became_a_replica_takes_nothing(place: Place) -> None:
    """A server that was made a replica refuses messages, which is `BrokerUnavailable`, and `start` refuses it (G5)."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 1)])
    async with place.client() as client:
        await client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(BrokerUnavailable, match="read only replica"):
                await broker.publish(numbered(1))
            with pytest.raises(BrokerUnavailable, match="is a replica"):
                await place.broker().start(None)
        finally:
            await client.replicaof("NO", "ONE")
    assert await broker.publish(numbered(1)) == []


async def test_a_topic_that_the_server_lost_is_noticed(place: Place) -> None:
    """After the server lost its data nothing is published into half a topic: it is `TopicNotFound` until declared."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 2)])
    async with place.client() as client:
        for key in [key async for key in client.scan_iter(f"{place.prefix}:*")]:
            await client.delete(key)
    with pytest.raises(TopicNotFound):
        await broker.publish(numbered(1))
    with pytest.raises(TopicNotFound):
        await broker.read("g", "orders", {0: None}, limit=1)
    await broker.declare([Topic("orders", 2)])
    assert await broker.publish(numbered(1)) == []


async def test_large_batches_are_cut_and_stay_in_order(place: Place) -> None:
    """A batch of more than 16 MiB is stored in several transactions, in order."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 1)])
    size = 5 * 1024 * 1024
    sent = [message("k", bytes([n]) * size) for n in range(8)]
    assert await broker.publish(sent) == []
    assert [body[0] for body in await bodies(place, "orders")] == list(range(8))


async def test_too_few_replicas_confirm_nothing(place: Place) -> None:
    """With `min_replicas` a message that no replica has is not confirmed (G5)."""
    broker = place.broker(min_replicas=1, timeout_seconds=2.0)
    await broker.start(None)
    await broker.declare([Topic("orders", 1)])
    with pytest.raises(BrokerUnavailable, match="min_replicas=1"):
        await broker.publish(numbered(1))


async def test_a_hung_server_is_unavailable_in_time(
    place: Place, redis_server: engines.Server
) -> None:
    """A server that does not answer is `BrokerUnavailable` after `timeout_seconds`, and is used again when it answers."""
    broker = place.broker(timeout_seconds=0.3)
    await broker.start(None)
    await broker.declare([Topic("orders", 1)])
    first, second = numbered(2)
    redis_server.pause()
    try:
        clock = asyncio.get_running_loop().time
        began = clock()
        with pytest.raises(BrokerUnavailable, match=r"within 0\.3 seconds"):
            await broker.publish([first])
        assert clock() - began < 5
    finally:
        redis_server.resume()
    assert await broker.publish([first]) == []
    assert await broker.publish([second]) == []
    # What hung was perhaps carried out late: a repeat, never a gap.
    assert list(dict.fromkeys(await bodies(place, "orders"))) == [b"0", b"1"]


async def test_connections_cut_at_random_leave_no_gap(
    place: Place, redis_server: engines.Server
) -> None:
    """While connections are cut in the middle of batches, what is published again from the start stands in order (G6)."""
    async with Proxy("127.0.0.1", redis_server.port) as proxy:
        broker = place.broker(f"redis://127.0.0.1:{proxy.port}", timeout_seconds=2.0)
        await broker.start(None)
        await broker.declare([Topic("orders", 4)])
        failures = 0
        sent = [message(f"k{n % 7}", str(n).encode()) for n in range(2000)]
        for at in range(0, len(sent), 200):
            batch = sent[at : at + 200]
            cut = asyncio.get_running_loop().call_later(0.0005 * (at % 3), proxy.cut)
            while True:
                try:
                    assert await broker.publish(batch) == []
                    break
                except BrokerUnavailable:
                    failures += 1
            cut.cancel()
        await broker.stop()
    assert failures
    for partition in range(4):
        stored = list(dict.fromkeys(await bodies(place, "orders", partition)))
        assert stored == [each.data for each in sent if partition_of(each, 4) == partition]


async def test_a_cancelled_call_leaves_no_answer_behind(place: Place) -> None:
    """Calls cancelled at any step leave connections that give the next call its own answer."""
    broker = place.broker(max_connections=2)
    await broker.start(None)
    await broker.declare([Topic("orders", 1), Topic("others", 3)])
    for steps in range(40):
        task = asyncio.create_task(broker.publish(numbered(20)))
        for _ in range(steps % 13):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert await broker.backlog("g", "others", {0: None, 1: None, 2: None}) == 0
    assert await broker.publish(numbered(1, topic="others")) == []
    assert await broker.backlog("g", "others", {0: None, 1: None, 2: None}) == 1
