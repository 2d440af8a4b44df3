"""Messages come back from the wire as they were sent, and nothing on it raises."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from headrace.envelope import Message, attributes
from headrace.wire import (
    UNREADABLE,
    Raw,
    WireFormat,
    percent_decoded,
    percent_encoded,
    to_headers,
)
from tests.properties.test_envelope import envelopes, text

any_text = st.text(max_size=30) | st.text(
    st.characters(categories=("Cs", "Cc", "Lu", "Nd")), max_size=8
)
names = (
    st.sampled_from(["specversion", "id", "source", "type", "time", "partitionkey", "a-b", ""])
    | any_text
)
headers = st.dictionaries(
    st.builds(str.__add__, st.sampled_from(["ce_", "CE_", "content-type", ""]), names),
    any_text | st.just("1.0") | st.just("application/cloudevents+json"),
    max_size=8,
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@given(envelopes, st.binary(max_size=50), st.sampled_from(["ce_", "ce-", "cloudEvents:"]))
def test_messages_come_back_from_headers(envelope: object, data: bytes, prefix: str) -> None:
    """Binary mode holds all of a message, also when the headers had to be ASCII."""
    message = Message("t", envelope.partitionkey, envelope, data)  # type: ignore[attr-defined,arg-type]
    written = to_headers(message, prefix)
    ascii_only = {name: percent_encoded(value) for name, value in written.items()}
    assert all(value.isascii() and value.isprintable() for value in ascii_only.values())
    for found in (written, {name: percent_decoded(value) for name, value in ascii_only.items()}):
        content_type = message.envelope.datacontenttype
        assert WireFormat(prefix).message(Raw("t", 0, "1", None, found, content_type, data)) == (
            message
        )


@given(envelopes, json_values)
def test_messages_come_back_from_structured_mode(envelope: object, value: object) -> None:
    """Structured mode holds all attributes, and JSON data as it stands."""
    written = attributes(envelope) | {"datacontenttype": "application/json"}  # type: ignore[arg-type]
    data = json.dumps(value)
    body = json.dumps(written)[:-1] + f', "data": {data}}}'
    read = WireFormat("ce_").message(
        Raw("t", 0, "1", None, {}, "application/cloudevents+json", body.encode())
    )
    assert attributes(read.envelope) == written
    assert read.data == data.encode()


@given(headers, st.binary(max_size=40) | json_values.map(lambda v: json.dumps(v).encode()))
def test_nothing_on_the_wire_raises(found: dict[str, str], data: bytes) -> None:
    """G14: whatever headers and bodies there are, reading answers a message with a usable key or none."""
    told: list[str] = []
    content_type = found.get("content-type")
    message = WireFormat("ce_", unreadable=told.append).message(
        Raw("t", 0, "1", found.get(""), found, content_type, data)
    )
    assert message.key is None or 0 < len(message.key) <= 255
    assert (message.envelope.type == UNREADABLE) == bool(told)


@given(any_text)
def test_percent_decoding_never_raises(value: str) -> None:
    """Any header can be decoded; what was encoded comes back, but for lone surrogates, which nothing has."""
    percent_decoded(value)
    if not any(0xD800 <= ord(character) < 0xE000 for character in value):
        assert percent_decoded(percent_encoded(value)) == value
