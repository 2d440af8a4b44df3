"""Messages as headers and back, and what is made of everything else that a broker brings."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cloudevents.core.bindings.kafka import (
    KafkaMessage,
    from_binary_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from headrace.envelope import Envelope, Message, attributes, new_id, now
from headrace.wire import (
    UNREADABLE,
    Raw,
    WireFormat,
    header_text,
    percent_decoded,
    percent_encoded,
    to_headers,
)

FULL = Envelope(
    id=new_id(),
    source="meetings",
    type="meetings.joined.v1",
    time=now(),
    subject="m1",
    datacontenttype="application/json",
    dataschema="https://example.org/joined.json",
    partitionkey="m1",
    sequence="0001",
    correlationid=new_id(),
    causationid=new_id(),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    extensions={"tenant": "Zürich"},
)
MESSAGE = Message("meetings", "m1", FULL, b'{"user":"u1"}')
REQUIRED = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "s", "ce_type": "t"}


def raw(
    headers: Mapping[str, str] | None = None,
    data: bytes = b"{}",
    *,
    content_type: str | None = None,
    key: str | None = None,
) -> Raw:
    return Raw("orders", 3, "17", key, headers or {}, content_type, data)


def structured(event: object, content_type: str | None = "application/cloudevents+json") -> Raw:
    data = event if isinstance(event, bytes) else json.dumps(event).encode()
    return raw(data=data, content_type=content_type)


def reason(message: Message) -> str:
    """Why a message is unreadable; fails if it is not."""
    assert message.envelope.type == UNREADABLE
    assert message.envelope.source == "broker:orders"
    assert message.envelope.id == "orders/3/17"
    assert message.key is None
    return message.envelope.extensions["reason"]


EVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}


@pytest.mark.parametrize("prefix", ["ce_", "ce-", "cloudEvents:"])
def test_what_is_written_is_read_back(prefix: str) -> None:
    """Headers of any prefix bring back the message; the content type travels beside them."""
    headers = to_headers(MESSAGE, prefix)
    assert f"{prefix}datacontenttype" not in headers
    assert headers[f"{prefix}specversion"] == "1.0"
    read = WireFormat(prefix).message(
        Raw("meetings", 0, "1", None, headers, "application/json", MESSAGE.data)
    )
    assert read == MESSAGE


def test_headers_are_the_attributes() -> None:
    """What is written is exactly `attributes`, each with the prefix, without the content type."""
    expected = {f"ce_{n}": v for n, v in attributes(FULL).items() if n != "datacontenttype"}
    assert to_headers(MESSAGE, "ce_") == expected
    bare = Message("t", None, Envelope("1", "s", "t", ""), b"")
    assert to_headers(bare, "ce_") == REQUIRED


def test_names_of_headers_are_read_in_any_case_and_under_other_prefixes() -> None:
    """Producers that write other cases, or another spelling of the prefix, are read all the same."""
    headers = {"CLOUDEVENTS:specversion": "1.0", "cloudEvents_id": "1", "cloudevents:Type": "t"}
    wire = WireFormat("cloudEvents:", also=("cloudEvents_",))
    for _ in range(2):
        read = wire.message(raw(headers | {"cloudEvents:source": "s", "x-other": "y"}))
        assert read.envelope == Envelope("1", "s", "t", "")


def test_the_content_type_is_found_among_the_headers() -> None:
    """Kafka has no place for it but a header; the protocol's own place wins."""
    wire = WireFormat("ce_")
    headers = REQUIRED | {"Content-Type": "text/plain"}
    assert wire.message(raw(headers)).envelope.datacontenttype == "text/plain"
    own = wire.message(raw(headers, content_type="application/json"))
    assert own.envelope.datacontenttype == "application/json"


def test_the_official_sdk_reads_the_headers_of_kafka() -> None:
    """The CloudEvents SDK reads what is written for Kafka in binary mode."""
    headers = {n: v.encode() for n, v in to_headers(MESSAGE, "ce_").items()}
    event = from_binary_event(
        KafkaMessage(headers | {"content-type": b"application/json"}, b"m1", MESSAGE.data)
    )
    assert event.get_id() == FULL.id
    assert event.get_type() == FULL.type
    assert event.get_extension("tenant") == "Zürich"
    assert event.get_data() == {"user": "u1"}


def test_events_of_the_official_sdk_are_read() -> None:
    """What the CloudEvents SDK writes for Kafka, in binary and in structured mode, is read."""
    event = CloudEvent(
        {
            "id": "1",
            "source": "/sdk",
            "type": "t",
            "specversion": "1.0",
            "datacontenttype": "application/json",
            "partitionkey": "k",
            "time": datetime(2026, 1, 31, 12, tzinfo=UTC),
            "tenant": "Zürich",
        },
        {"a": [1, "ü"]},
    )
    for written in (to_binary_event(event), to_structured_event(event)):
        headers = {name: header_text(value) for name, value in written.headers.items()}
        read = WireFormat("ce_").message(raw(headers, header_text(written.value).encode()))
        assert read.key == "k"
        assert read.envelope.id == "1"
        assert read.envelope.source == "/sdk"
        assert read.envelope.time == "2026-01-31T12:00:00Z"
        assert read.envelope.extensions == {"tenant": "Zürich"}
        assert json.loads(read.data) == {"a": [1, "ü"]}


def test_the_official_sdk_reads_an_event_that_was_read_as_structured() -> None:
    """Attributes of an event in structured mode survive the way over Headrace to the SDK."""
    read = WireFormat("ce_").message(structured(attributes(FULL) | {"data": {"n": 1}}))
    event = JSONFormat().read(
        None, json.dumps(attributes(read.envelope) | {"data": {"n": 1}}).encode()
    )
    assert event.get_id() == FULL.id
    assert event.get_extension("correlationid") == FULL.correlationid


@pytest.mark.parametrize(
    ("members", "data"),
    [
        ({"data": {"deep": [1, {"x": None}]}}, b'{"deep": [1, {"x": null}]}'),
        ({"data": "text"}, b'"text"'),
        ({"data": None}, b"null"),
        ({}, b""),
        ({"data_base64": base64.b64encode(b"\x00\xff").decode()}, b"\x00\xff"),
        ({"data_base64": None}, b""),
        ({"datacontenttype": "application/vnd.a+json; charset=utf-8", "data": 1}, b"1"),
        ({"datacontenttype": "text/xml", "data": "<ü/>"}, "<ü/>".encode()),
        ({"datacontenttype": "text/xml", "data": None}, b""),
        ({"datacontenttype": "text/xml", "data": {"a": 1}}, b'{"a": 1}'),
    ],
)
def test_the_data_of_a_structured_event(members: Mapping[str, object], data: bytes) -> None:
    """JSON stays as it stands, text under another media type is taken out of its quotes, base64 is decoded."""
    read = WireFormat("ce_").message(structured({**EVENT, **members}))
    assert read.envelope.type == "t"
    assert read.data == data


def test_attributes_of_a_structured_event_become_text() -> None:
    """Numbers and truth values have the text that CloudEvents gives them; null is the same as left out."""
    read = WireFormat("ce_").message(
        structured({**EVENT, "number": -7, "flag": True, "subject": None})
    )
    assert read.envelope.extensions == {"number": "-7", "flag": "true"}
    assert read.envelope.subject is None


def test_a_structured_event_without_a_content_type_is_recognized() -> None:
    """Where a protocol has no content type, a JSON object with a specversion is an event."""
    assert WireFormat("ce-").message(structured(EVENT, None)).envelope.type == "t"
    known = WireFormat("ce-", foreign=lambda _: Envelope("2", "s", "foreign", ""))
    assert known.message(structured({"specversion": 3}, None)).envelope.type == "foreign"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (raw({}), "no header that begins with 'ce_'"),
        (raw({"ce_id": "1"}), "specversion is None"),
        (raw(REQUIRED | {"ce_specversion": "0.3"}), "specversion is '0.3'"),
        (raw(REQUIRED | {"ce_id": ""}), "id is empty"),
        (raw(REQUIRED | {"ce_id": "x" * 256}), "id has 256 characters"),
        (raw(REQUIRED | {"ce_source": "x" * 256}), "source has 256 characters"),
        (raw(REQUIRED | {"ce_type": "x" * 256}), "type has 256 characters"),
        (raw(REQUIRED | {"ce_my_ext": "1"}), "'my_ext' is no name"),
        (raw(REQUIRED | {"ce_content-type": "a\nb"}), "forbidden character"),
        (raw(REQUIRED | {"ce_id": header_text(b"\xff")}), "forbidden character"),
        (raw(REQUIRED | {"ce_a": "x" * 70_000}), "at most 65536"),
        (structured(b"[]"), "no CloudEvent in JSON"),
        (structured(b"{"), "no CloudEvent in JSON"),
        (structured(b'{"a":' + b"[" * 100_000), "no CloudEvent in JSON"),
        (structured({**EVENT, "a": [1]}), "'a' is no text"),
        (structured({**EVENT, "a": 1.5}), "'a' is no text"),
        (structured({**EVENT, "data": 1, "data_base64": ""}), "both"),
        (structured({**EVENT, "data_base64": "*"}), "no base64"),
        (structured({**EVENT, "data_base64": "ü"}), "no base64"),
        (structured({"id": "1"}), "specversion is None"),
        (structured([EVENT], "application/cloudevents-batch+json; charset=utf-8"), "batch"),
        (structured(b"", "Application/CloudEvents+Avro"), "application/cloudevents+json is read"),
    ],
)
def test_what_cannot_be_read_says_why(given: Raw, words: str) -> None:
    """G14: nothing from the wire raises; it is passed over under a type that nobody binds, with the reason."""
    told: list[str] = []
    message = WireFormat("ce_", unreadable=told.append).message(given)
    assert words in reason(message)
    assert message.data == given.data
    (sentence,) = told
    assert "orders/3/17" in sentence
    assert words in sentence


def test_unreadable_messages_are_told_once_for_each_topic_and_kind() -> None:
    """One bad producer does not fill the log, and does not hide another."""
    told: list[str] = []
    wire = WireFormat("ce_", unreadable=told.append)
    for position in range(5):
        wire.message(Raw("a", 0, str(position), None, {}, None, b""))
        wire.message(Raw("b", 0, str(position), None, {}, None, b""))
        wire.message(Raw("b", 0, str(position), None, REQUIRED | {"ce_id": ""}, None, b""))
    assert len(told) == 3


def test_unreadable_messages_are_warnings_by_default(caplog: pytest.LogCaptureFixture) -> None:
    """Without a callback the log has them, with a percent sign as it is."""
    WireFormat("ce_").message(raw(REQUIRED | {"ce_subject": "100%s\n"}))
    (record,) = caplog.records
    assert record.name == "headrace"
    assert "100%s" in record.getMessage()


def by_order_number(given: Raw) -> Envelope | None:
    body = json.loads(given.data)
    return Envelope(str(body["number"]), "legacy", "orders.placed.v1", "")


def test_messages_of_other_producers_are_mapped() -> None:
    """`foreign=` gives what is no CloudEvent an identity; the body and the broker's key stay."""
    read = WireFormat("ce_", foreign=by_order_number).message(
        raw({"trace": "x"}, b'{"number":7}', content_type="application/json", key="o7")
    )
    assert read == Message(
        "orders", "o7", Envelope("7", "legacy", "orders.placed.v1", ""), b'{"number":7}'
    )


def test_a_cloudevent_does_not_go_to_the_mapping() -> None:
    """What carries attributes is read by the standard, also where a mapping is given."""
    wire = WireFormat("ce_", foreign=by_order_number)
    assert wire.message(raw(REQUIRED)).envelope.id == "1"
    assert wire.message(structured(EVENT)).envelope.id == "1"
    # A header that looks like an attribute does not make a message an event.
    assert wire.message(raw({"ce_hint": "x"}, b'{"number":7}')).envelope.id == "7"


def test_a_mapping_that_fails_or_declines_makes_the_message_unreadable() -> None:
    """A mapping that raises, returns None or returns what no envelope is stops nothing."""
    for mapping, words in (
        (by_order_number, "foreign= raised JSONDecodeError"),
        (lambda _: None, "returned None"),
        (lambda _: Envelope("", "s", "t", ""), "id is empty"),
        (lambda _: Envelope("1", "s", "t", "soon"), "RFC 3339"),
        (lambda _: Envelope("i" * 256, "s", "t", ""), "256 characters"),
        (lambda _: "text", "foreign= raised"),
    ):
        wire = WireFormat("ce_", foreign=mapping)  # type: ignore[arg-type]
        assert words in reason(wire.message(raw(data=b"no json")))


@pytest.mark.parametrize(
    ("headers", "key", "expected"),
    [
        ({}, "k", "k"),
        ({}, None, None),
        ({"ce_partitionkey": "p"}, "k", "p"),
        ({}, "", None),
        ({}, "x" * 255, "x" * 255),
        ({}, "x" * 256, None),
        ({}, "a\x00b", None),
        ({}, header_text(b"\xff"), None),
        ({"ce_partitionkey": "x" * 256}, "k", None),
    ],
)
def test_the_key_is_the_attribute_or_the_brokers(
    headers: Mapping[str, str], key: str | None, expected: str | None
) -> None:
    """G14: a message without a usable key has none, so that it never holds another."""
    assert WireFormat("ce_").message(raw(REQUIRED | headers, key=key)).key == expected


def test_many_names_of_headers_take_no_memory() -> None:
    """G11: whoever writes to the broker chooses the names, so only so many are remembered."""
    wire = WireFormat("ce_")
    for n in range(3_000):
        assert wire.message(raw({**REQUIRED, f"ce_x{n}": "1"})).envelope.extensions == {
            f"x{n}": "1"
        }
    assert len(wire._names) <= 1_000


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("plain-~!#$&", "plain-~!#$&"),
        ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ('a"b%c', "a%22b%25c"),
        ("", ""),
    ],
)
def test_headers_of_ascii_are_percent_encoded(value: str, encoded: str) -> None:
    """Spaces, quotes, percent signs and what is not ASCII are encoded, as the HTTP binding asks."""
    assert percent_encoded(value) == encoded
    assert percent_decoded(encoded) == value


def test_older_and_broken_encodings_are_read() -> None:
    """Quoted values of older producers lose their quotes, one round is decoded, bad bytes are never another id."""
    assert percent_decoded('"a \\"b\\" %41"') == 'a "b" A'
    assert percent_decoded("%2541") == "%41"
    assert percent_decoded("100%") == "100%"
    broken = raw(REQUIRED | {"ce_id": percent_decoded("%FF")})
    assert "forbidden character" in reason(WireFormat("ce_").message(broken))


def test_headers_of_other_types_become_the_text_of_cloudevents() -> None:
    """AMQP carries numbers, truth values and times as such."""
    at = datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))
    assert header_text(at) == "2026-01-31T12:00:00Z"
    assert header_text(at.replace(tzinfo=None)) == "2026-01-31T13:00:00Z"
    assert [header_text(v) for v in (True, 7, b"\xc3\xbc", bytearray(b"a"), "s")] == [
        *("true", "7", "ü", "a", "s")
    ]
