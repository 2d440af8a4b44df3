"""CloudEvents on RabbitMQ: others read what is written, and what others write is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import aiormq
import pytest
from aiormq.abc import ChannelFrame
from cloudevents.core.bindings import amqp, rabbitmq
from cloudevents.core.v1.event import CloudEvent
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from headrace.broker import Reading, Received, Topic
from headrace.drivers.rabbitmq import RabbitBroker
from headrace.envelope import Envelope
from headrace.testing.conformance.samples import message
from headrace.wire import UNREADABLE, Raw
from tests.unit.drivers_rabbitmq.place import Place, read

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


async def started(place: Place, **settings: Any) -> RabbitBroker:
    broker = place.broker(**settings)
    await broker.start(None)
    await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
    return broker


async def received(
    place: Place, body: bytes, content_type: str | None, headers: Mapping[str, Any], **settings: Any
) -> Received:
    """What Headrace makes of a message of another producer."""
    broker = await started(place, **settings)
    properties = Basic.Properties(content_type=content_type, headers=dict(headers))
    await place.raw("orders", 0, body, properties)
    return (await read(broker, 1))[0]


def as_expected(envelope: Envelope) -> bool:
    return (
        (envelope.id, envelope.source, envelope.type)
        == ("e-1", "/warehouse/Köln", "warehouse.packed.v1")
        and datetime.fromisoformat(envelope.time) == ATTRIBUTES["time"]
        and (envelope.subject, envelope.partitionkey) == ("order-7", "order-7")
        and envelope.extensions == {"tenant": "Łódź"}
    )


async def test_the_sdk_reads_what_is_written(place: Place) -> None:
    """The official SDK's AMQP binding reads a published message as the event that it is."""
    broker = await started(place)
    sent = message("ключ", b'{"number": 7}', metadata={"tenant": "shop-1"})
    await broker.publish([sent])
    await broker.stop()
    async with aiormq.connect(place.url) as connection:
        channel = await connection.channel()
        taken = await channel.basic_get(place.names.queue("g", "orders", 0), no_ack=True)
    found = taken.header.properties
    event = amqp.from_amqp_event(
        amqp.AMQPMessage(
            {"content-type": found.content_type}, dict(found.headers or {}), taken.body
        )
    )
    assert (event.get_id(), event.get_type()) == (sent.envelope.id, sent.envelope.type)
    assert (event.get_subject(), event.get_extension("partitionkey")) == ("ключ", "ключ")
    assert event.get_extension("tenant") == "shop-1"
    assert event.get_time() == datetime.fromisoformat(sent.envelope.time)
    assert event.get_data() == {"number": 7}
    assert found.message_id == sent.envelope.id
    assert found.delivery_mode == 2


@pytest.mark.parametrize("prefix", ["cloudEvents_", "cloudEvents:"])
async def test_binary_mode_of_the_sdk_is_read(place: Place, prefix: str) -> None:
    """A message that the SDK writes in binary mode is read, with either prefix of the binding and AMQP's own types."""
    written = amqp.to_binary_event(CloudEvent(ATTRIBUTES, {"number": 7}))
    headers = {
        name.replace("cloudEvents_", prefix): value
        for name, value in written.application_properties.items()
    }
    found = await received(
        place, written.application_data, written.properties["content-type"], headers
    )
    assert as_expected(found.message.envelope)
    assert found.message.key == "order-7"
    assert json.loads(found.message.data) == {"number": 7}


async def test_the_binding_of_knative_is_read(place: Place) -> None:
    """A message of Knative's binding for RabbitMQ, which has another prefix, is read."""
    written = rabbitmq.to_binary_event(CloudEvent(ATTRIBUTES, {"number": 7}))
    found = await received(place, written.body, written.content_type, written.headers)
    assert found.message.envelope.id == "e-1"
    assert found.message.key == "order-7"


async def test_structured_mode_of_the_sdk_is_read(place: Place) -> None:
    """A message that the SDK writes in structured mode is read."""
    written = amqp.to_structured_event(CloudEvent(ATTRIBUTES, {"number": 7}))
    found = await received(place, written.application_data, written.properties["content-type"], {})
    assert as_expected(found.message.envelope)
    assert json.loads(found.message.data) == {"number": 7}


async def test_messages_of_others_by_a_mapping(place: Place) -> None:
    """A message that is no CloudEvent becomes one by a mapping, which also sees the protocol's own fields."""

    def foreign(raw: Raw) -> Envelope | None:
        return Envelope(
            id=raw.headers["number"],
            source=f"old-shop/{raw.headers['app-id']}/{raw.headers['message-id']}",
            type="old.order.v1",
            time="",
            partitionkey=raw.headers["customer"],
        )

    headers = {"number": 12, "customer": bytearray(b"c-9"), "odd": [1, {"a": None}]}
    broker = await started(place, foreign=foreign)
    properties = Basic.Properties(
        content_type="text/xml", headers=headers, message_id="m-1", app_id="till"
    )
    await place.raw("orders", 0, b"<order/>", properties)
    (found,) = await read(broker, 1)
    assert (found.message.envelope.id, found.message.envelope.source) == ("12", "old-shop/till/m-1")
    assert (found.message.key, found.message.data) == ("c-9", b"<order/>")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cloudEvents:id": "1"},
        {"cloudEvents:time": 10**30 // 10**12, "cloudEvents:specversion": 1},
        {"cloudEvents:id": None, "cloudEvents:specversion": "1.0", "x": {"y": [1, 2.5, True]}},
    ],
)
async def test_what_cannot_be_read_is_passed_over(
    place: Place, headers: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A message that nobody can read is one of a type that nobody binds, and is said (G14)."""
    found = await received(place, b"?", None, headers)
    assert found.message.envelope.type == UNREADABLE
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("damaged", [b"WWWWWWWW", b"HHHHHHHH"])
async def test_bytes_that_are_no_text_stop_nobody(
    place: Place, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A message whose content type or header name is no UTF-8 is passed over; those behind it are read (G14)."""
    broker = await started(place)
    await broker.publish([message("k", b"before")])
    async with aiormq.connect(place.url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        frames = [
            Basic.Publish(exchange=place.names.exchange("orders"), routing_key="0"),
            ContentHeader(
                body_size=1,
                properties=Basic.Properties(
                    content_type="WWWWWWWW", headers={"HHHHHHHH": "ü" * 99}
                ),
            ),
            ContentBody(b"?"),
        ]
        payload = ChannelFrame.marshall(channel.number, frames).payload
        await channel.write_queue.put(
            ChannelFrame(payload.replace(damaged, b"\xff\xfe" * 4), should_close=False)
        )
        await channel.queue_declare(place.names.queue("g", "orders", 0), passive=True)
    await broker.publish([message("k", b"behind")])
    found = await read(broker, 3)
    assert [one.message.data for one in found] == [b"before", b"?", b"behind"]
    assert found[1].message.envelope.type == UNREADABLE
    assert "cannot be decoded" in caplog.text
    assert found[0].position.split(".")[0] == found[2].position.split(".")[0]
