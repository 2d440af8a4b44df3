"""From where a group reads, and what it makes of entries that others wrote."""

from __future__ import annotations

import json

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent

from headrace import Envelope
from headrace.broker import Reading, Topic, partition_of
from headrace.errors import TopicMismatch
from headrace.testing.conformance.samples import message, numbered
from headrace.wire import UNREADABLE, Raw
from tests.unit.drivers_redis.place import Place


@pytest.mark.parametrize("position", ["1700000000000000", "99999999999999-0", "garbage", "12"])
async def test_a_position_of_another_log_hides_nothing(place: Place, position: str) -> None:
    """A position that the stream never reached, or that is none, counts as no position: all is read (G8)."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
    await broker.publish(numbered(3))
    found = await broker.read("g", "orders", {0: position}, limit=10)
    assert [each.message.data for each in found] == [b"0", b"1", b"2"]
    assert await broker.backlog("g", "orders", {0: position}) == 3


async def test_a_group_goes_on_where_it_settled(place: Place) -> None:
    """Without a position another process reads from where the group has settled; other groups read from the start."""
    first, second = place.broker(), place.broker()
    await first.start(None)
    await second.start(None)
    await first.declare([Topic("orders", 1)], [Reading("g", "orders"), Reading("h", "orders")])
    await first.publish(numbered(3))
    found = await first.read("g", "orders", {0: None}, limit=2)
    await first.settle("g", "orders", {0: found[-1].position})
    assert [e.message.data for e in await first.read("g", "orders", {0: None}, limit=9)] == [b"2"]
    await first.release("g", "orders", [0])
    assert [e.message.data for e in await second.read("g", "orders", {0: None}, limit=9)] == [b"2"]
    assert len(await second.read("h", "orders", {0: None}, limit=9)) == 3


async def test_a_partition_that_does_not_exist_is_an_error(place: Place) -> None:
    """Reading a partition beyond the topic's count names the partitions that there are."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 2)])
    with pytest.raises(TopicMismatch, match="0 to 1"):
        await broker.read("g", "orders", {2: None}, limit=1)


async def test_a_long_partition_leaves_room_for_others(place: Place) -> None:
    """Partitions share the limit; what one does not need, another gets (G11)."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 2)])
    await broker.publish(numbered(100, "a"))
    (long,) = {p for p in (0, 1) if await broker.backlog("g", "orders", {p: None})}
    after: dict[int, str | None] = {0: None, 1: None}
    assert len(await broker.read("g", "orders", after, limit=20)) == 20
    other = next(f"k{n}" for n in range(99) if partition_of(message(f"k{n}"), 2) != long)
    await broker.publish(numbered(5, other))
    found = await broker.read("g", "orders", after, limit=20)
    assert len([each for each in found if each.partition == long]) == 15
    assert len(found) == 20


async def test_a_long_backlog_is_estimated(place: Place) -> None:
    """Beyond a thousand messages of a partition the backlog is an estimate, between what was counted and what there is."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 1)])
    for _ in range(6):
        await broker.publish(numbered(500))
    assert 1000 <= await broker.backlog("g", "orders", {0: None}) <= 3000
    found = await broker.read("g", "orders", {0: None}, limit=2500)
    assert await broker.backlog("g", "orders", {0: found[-1].position}) == 500


async def test_the_sdk_reads_what_headrace_writes(place: Place) -> None:
    """The fields of an entry are the `ce_` headers of the Kafka binding, which the official SDK reads."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 1)])
    sent = message("k1", b'{"n": 1}', metadata={"tenant": "t1"})
    await broker.publish([sent])
    ((_, fields),) = await place.stream("orders", 0)
    assert fields.pop(b"data") == b'{"n": 1}'
    headers = {name.decode(): value for name, value in fields.items()}
    event = kafka.from_binary_event(kafka.KafkaMessage(headers, b"k1", b'{"n": 1}'))
    assert event.get_id() == sent.envelope.id
    assert event.get_type() == sent.envelope.type
    assert event.get_source() == sent.envelope.source
    assert event.get_extension("partitionkey") == "k1"
    assert event.get_extension("tenant") == "t1"
    assert event.get_data() == {"n": 1}


async def test_headrace_reads_what_the_sdk_writes(place: Place) -> None:
    """Binary and structured events that the official SDK made are read as they were meant."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 1)])
    event = CloudEvent(
        {
            "id": "e1",
            "source": "sdk",
            "type": "orders.placed.v1",
            "specversion": "1.0",
            "datacontenttype": "application/json",
            "partitionkey": "k1",
        },
        {"n": 1},
    )
    binary = kafka.to_binary_event(event)
    structured = kafka.to_structured_event(event)
    async with place.client() as client:
        for sent in (binary, structured):
            await client.xadd(f"{place.prefix}:{{orders}}:0", {**sent.headers, "data": sent.value})
    found = await broker.read("g", "orders", {0: None}, limit=9)
    for each in found:
        assert each.message.envelope.id == "e1"
        assert each.message.envelope.type == "orders.placed.v1"
        assert each.message.key == "k1"
        assert json.loads(each.message.data) == {"n": 1}
    assert len(found) == 2


async def test_a_foreign_entry_is_read_by_a_mapping(place: Place) -> None:
    """An entry of plain fields is given to the mapping, its fields as headers and as a JSON body; others are unreadable."""

    def of_old_shop(raw: Raw) -> Envelope | None:
        if "order" not in raw.headers:
            return None
        number = raw.headers["order"]
        return Envelope(
            id=number, source="old-shop", type="orders.placed.v1", time="", partitionkey=number
        )

    broker = place.broker(foreign=of_old_shop)
    await broker.start(None)
    await broker.declare([Topic("orders", 1)])
    async with place.client() as client:
        await client.xadd(f"{place.prefix}:{{orders}}:0", {"order": "7", "article": "mill"})
        await client.xadd(f"{place.prefix}:{{orders}}:0", {"noise": b"\xff"})
    mapped, other = await broker.read("g", "orders", {0: None}, limit=9)
    assert (mapped.message.envelope.id, mapped.message.key) == ("7", "7")
    assert json.loads(mapped.message.data) == {"order": "7", "article": "mill"}
    assert other.message.envelope.type == UNREADABLE
