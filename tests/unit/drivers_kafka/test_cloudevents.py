"""CloudEvents on Kafka: others read what is written, and what others write is read."""

from __future__ import annotations

import asyncio
import gc
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Consumer, TopicPartition

from headrace.broker import Reading, Topic
from headrace.drivers.kafka import KafkaBroker
from headrace.envelope import Envelope
from headrace.testing.conformance.samples import message, numbered
from headrace.wire import UNREADABLE, Raw
from tests.unit.drivers_kafka.place import Place, read

ATTRIBUTES: dict[str, Any] = {
    "id": "e-1",
    "source": "/warehouse/Köln",
    "type": "warehouse.packed.v1",
    "specversion": "1.0",
    "time": datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC),
    "datacontenttype": "application/json",
    "subject": "order-7",
    "partitionkey": "order-7",
    "tenant": "Łódź",
}


async def ready(place: Place, **settings: Any) -> KafkaBroker:
    broker = place.broker(**settings)
    await broker.start(None)
    await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
    return broker


def check(envelope: Envelope) -> None:
    assert (envelope.id, envelope.source, envelope.type) == (
        "e-1",
        "/warehouse/Köln",
        "warehouse.packed.v1",
    )
    assert datetime.fromisoformat(envelope.time) == ATTRIBUTES["time"]
    assert envelope.datacontenttype == "application/json"
    assert envelope.partitionkey == "order-7"
    assert envelope.extensions == {"tenant": "Łódź"}


async def test_the_sdk_reads_what_is_written(place: Place) -> None:
    """The official Python SDK reads a published message as the event that it is, and its key is the record's."""
    broker = await ready(place)
    sent = message("ключ", b'{"a": 1}', metadata={"tenant": "Łódź"})
    await broker.publish([sent])

    def consume() -> Any:
        consumer = Consumer({"bootstrap.servers": place.servers, "group.id": "sdk"})
        consumer.assign([TopicPartition(f"{place.prefix}orders", 0, 0)])
        try:
            return consumer.poll(10)
        finally:
            consumer.close()

    record = await asyncio.to_thread(consume)
    event = kafka.from_binary_event(
        kafka.KafkaMessage(dict(record.headers()), record.key(), record.value())
    )
    assert record.key() == "ключ".encode()
    assert event.get_id() == sent.envelope.id
    assert event.get_source() == "shop"
    assert event.get_type() == "shop.order-placed.v1"
    assert event.get_subject() == "ключ"
    assert event.get_extension("tenant") == "Łódź"
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == {"a": 1}


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_what_the_sdk_writes_is_read(place: Place, mode: str) -> None:
    """Events that the SDK writes, in binary and in structured mode, are read with all their attributes."""
    broker = await ready(place)
    event = CloudEvent(ATTRIBUTES, {"a": 1})
    write = kafka.to_binary_event if mode == "binary" else kafka.to_structured_event
    made = write(event)
    await place.produce(
        "orders", {"value": made.value, "key": made.key, "headers": list(made.headers.items())}
    )
    found = (await read(broker, 1, {0: None}))[0].message
    check(found.envelope)
    assert found.key == "order-7"
    assert json.loads(found.data) == {"a": 1}


async def test_the_records_key_is_the_key(place: Place) -> None:
    """An event without `partitionkey` has the key of its record, which is its order on Kafka (G8)."""
    broker = await ready(place)
    headers = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "s", "ce_type": "t"}
    await place.produce("orders", {"value": b"{}", "key": b"k7", "headers": headers})
    assert (await read(broker, 1, {0: None}))[0].message.key == "k7"


async def test_a_mapping_reads_other_producers(place: Place) -> None:
    """Records that are no CloudEvents mean what `foreign` makes of them (G14)."""

    def foreign(raw: Raw) -> Envelope | None:
        if raw.headers.get("kind") != "packed" or raw.time_seconds is None:
            return None
        return Envelope(
            id=f"{raw.partition}-{raw.position}", source="old", type="old.packed.v1", time=""
        )

    broker = await ready(place, foreign=foreign)
    await place.produce(
        "orders",
        {"value": b"x", "key": b"k", "headers": {"kind": "packed"}},
        {"value": b"y", "headers": {"kind": "other"}},
    )
    known, unknown = [each.message for each in await read(broker, 2, {0: None})]
    assert (known.envelope.type, known.envelope.id, known.key) == ("old.packed.v1", "0-0", "k")
    assert unknown.envelope.type == UNREADABLE


async def test_what_nobody_can_read_is_passed_over(place: Place) -> None:
    """Tombstones, bytes that are no text and records without headers become messages that nobody binds (G14)."""
    broker = await ready(place)
    await place.produce(
        "orders",
        {"value": None, "key": b"\xff\xfe"},
        {"value": b"\xff", "headers": [("ce_id", b"\xff"), ("x", None), ("x", b"2")]},
        {"value": b"plain"},
    )
    found = [each.message for each in await read(broker, 3, {0: None})]
    assert [each.envelope.type for each in found] == [UNREADABLE] * 3
    assert [each.key for each in found] == [None] * 3


async def test_a_header_whose_name_is_no_text_stops_nobody(place: Place) -> None:
    """A record with a header that no client of ours could write is passed over, and what follows is read (G14)."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 1)])
    # The interpreter calls what it calls often in another way.
    assert not await broker.publish(numbered(200))
    await read(broker, 200, {0: None})
    await place.produce_bytes("orders", b"x-\xff\xfe")
    assert not await broker.publish([message()])
    await read(broker, 202, {0: None})
    gc.collect()
    *_, strange, ours = await read(broker, 202, {0: None})
    assert strange.message.envelope.type == UNREADABLE
    assert strange.message.data == b"body"
    assert ours.message.data == b"{}"
