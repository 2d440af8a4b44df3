"""What stands on the wire is CloudEvents as the NATS binding says, for every SDK."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import unquote

from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, to_binary_event
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from headrace.broker import Topic
from headrace.envelope import Envelope, Message
from headrace.wire import UNREADABLE, Raw
from tests.unit.drivers_nats.place import Place, read, ready

FULL = Envelope(
    id="0190-ünïque",
    source="/shop/Köln",
    type="shop.order-placed.v1",
    time="2024-05-06T07:08:09.123456Z",
    subject="ключ 🔑",
    datacontenttype="application/json",
    partitionkey="ключ 🔑",
    correlationid="c 1%",
    extensions={"tenant": 'Łódź "west"'},
)


def _event() -> CloudEvent:
    return CloudEvent(
        {
            "id": "e-1",
            "source": "/other/app",
            "type": "other.happened.v1",
            "specversion": "1.0",
            "time": datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
            "datacontenttype": "application/json",
            "partitionkey": "Zoë 1",
        },
        {"name": "Zoë"},
    )


async def test_the_sdk_reads_what_is_written(place: Place) -> None:
    """The official SDK makes the same event of our headers; they are the ASCII that the binding asks for."""
    broker = await ready(place.broker())
    await broker.publish([Message("orders", "ключ 🔑", FULL, b'{"a": 1}')])
    async with place.client() as client:
        raw = await client.jsm().get_msg(f"{place.prefix}orders", seq=1)
    headers = dict(raw.headers or {})
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert headers["ce-tenant"] == "%C5%81%C3%B3d%C5%BA%20%22west%22"
    # The SDK has no binding for NATS. Its headers are those of HTTP but for the content type, which is an attribute.
    headers["content-type"] = headers.pop("ce-datacontenttype")
    headers.pop("Nats-Msg-Id")
    event = from_binary_event(HTTPMessage(headers, raw.data or b""), JSONFormat())
    assert (event.get_id(), event.get_source(), event.get_type()) == (
        FULL.id,
        FULL.source,
        FULL.type,
    )
    assert event.get_subject() == "ключ 🔑"
    assert event.get_extension("correlationid") == "c 1%"
    assert event.get_extension("tenant") == 'Łódź "west"'
    assert event.get_data() == {"a": 1}


async def test_what_the_sdk_writes_is_read(place: Place) -> None:
    """A binary event of the official SDK becomes a message with its key; so does one in structured mode."""
    broker = await ready(place.broker(), partitions=1)
    binary = to_binary_event(_event(), JSONFormat())
    headers = {name: value for name, value in binary.headers.items() if name.startswith("ce-")}
    headers["CE-DataContentType"] = "application/json"
    structured = JSONFormat().write(_event())
    subject = f"{place.prefix}orders.0"
    async with place.client() as client:
        js = client.jetstream()
        await js.publish(subject, binary.body, headers=headers)
        await js.publish(
            subject,
            structured,
            headers={"Content-Type": "application/cloudevents+json; charset=utf-8"},
        )
        await js.publish(subject, structured)
    found = [each.message for each in await read(broker, 3, {0: None})]
    for each in found:
        assert (each.envelope.id, each.envelope.type, each.key) == (
            "e-1",
            "other.happened.v1",
            "Zoë 1",
        )
        assert each.envelope.datacontenttype == "application/json"
        assert json.loads(each.data) == {"name": "Zoë"}


async def test_a_foreign_message_is_mapped(place: Place) -> None:
    """A message that is no CloudEvent means what the app's mapping says; without one it is unreadable, and not in the way."""

    def foreign(raw: Raw) -> Envelope | None:
        if "order-id" not in raw.headers:
            return None
        order = unquote(raw.headers["order-id"])
        return Envelope(order, "legacy", "legacy.order.v1", "", partitionkey=order)

    subject = f"{place.prefix}orders.0"
    mapping, plain = place.broker(foreign=foreign), place.broker()
    for broker in (mapping, plain):
        await broker.start(None)
        await broker.declare([Topic("orders", 1)])
    async with place.client() as client:
        await client.jetstream().publish(subject, b"one", headers={"order-id": "7"})
        await client.jetstream().publish(subject, b"\xff\x00")
    first, second = [each.message for each in await read(mapping, 2, {0: None})]
    assert (first.envelope.type, first.key, first.data) == ("legacy.order.v1", "7", b"one")
    assert second.envelope.type == UNREADABLE
    types = [each.message.envelope.type for each in await read(plain, 2, {0: None})]
    assert types == [UNREADABLE, UNREADABLE]
