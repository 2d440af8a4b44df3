"""The envelope as CloudEvents attributes and as bytes."""

from collections.abc import Mapping

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, to_binary_event
from cloudevents.core.formats.json import JSONFormat

from headrace.envelope import (
    Envelope,
    attributes,
    check_metadata,
    from_attributes,
    new_id,
    now,
    pack,
    unpack,
)
from headrace.errors import EnvelopeError

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
SMALL = Envelope(id="1", source="s", type="t", time="")
REQUIRED = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}


@pytest.mark.parametrize("envelope", [FULL, SMALL])
def test_attributes_and_bytes_come_back(envelope: Envelope) -> None:
    """What is written as attributes or packed for storage is read as it was."""
    assert from_attributes(attributes(envelope)) == envelope
    assert unpack(pack(envelope)) == envelope


def test_only_set_attributes_are_written() -> None:
    """Unset ones are left out, as the standard asks; metadata is among the extensions."""
    assert attributes(SMALL) == REQUIRED
    assert FULL.metadata == {"tenant": "Zürich"}
    assert attributes(FULL)["tenant"] == "Zürich"


def test_the_official_sdk_reads_what_is_written() -> None:
    """The CloudEvents SDK reads the attributes in binary mode, and what it writes is read back."""
    headers = {f"ce-{name}": value for name, value in attributes(FULL).items()}
    headers["content-type"] = headers.pop("ce-datacontenttype")
    headers["ce-tenant"] = "Z%C3%BCrich"
    event = from_binary_event(HTTPMessage(headers, b"{}"), JSONFormat())
    assert event.get_id() == FULL.id
    assert event.get_source() == FULL.source
    assert event.get_type() == FULL.type
    assert event.get_subject() == "m1"
    assert event.get_extension("tenant") == "Zürich"
    assert event.get_extension("partitionkey") == "m1"

    written = to_binary_event(event, JSONFormat()).headers
    found = {n.removeprefix("ce-"): v for n, v in written.items() if n.startswith("ce-")}
    found["tenant"] = "Zürich"
    found["datacontenttype"] = written["content-type"]
    found["dataschema"] = FULL.dataschema or ""
    again = from_attributes(found)
    assert again.id == FULL.id
    assert again.correlationid == FULL.correlationid
    assert again.time[:26].rstrip("Z") == FULL.time[:26].rstrip("Z")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"specversion": "0.3"}, "specversion is '0.3'"),
        ({"specversion": None}, "specversion is None"),
        ({"id": None}, "id is missing"),
        ({"source": None}, "source is missing"),
        ({"type": ""}, "type is empty"),
        ({"subject": ""}, "subject is empty"),
        ({"time": "yesterday"}, "RFC 3339"),
        ({"time": "2026-13-01T00:00:00Z"}, "RFC 3339"),
        ({"Tenant": "x"}, "'Tenant' is no name"),
        ({"ten_ant": "x"}, "'ten_ant' is no name"),
        ({"data": "x"}, "'data' is no name"),
        ({"x" * 65: "x"}, "no name"),
        ({"tenant": "a\nb"}, "forbidden character"),
        ({"tenant": "a\x85"}, "forbidden character"),
        ({"tenant": "\ud800"}, "forbidden character"),
        ({"tenant": "\U0001fffe"}, "forbidden character"),
        ({"tenant": 3}, "not text"),
        ({"tenant": "x" * 70_000}, "at most 65536"),
    ],
)
def test_what_is_no_cloudevent_is_refused(change: Mapping[str, str | None], words: str) -> None:
    """G14: attributes that the standard forbids, or that are too large, are refused by name."""
    found = {n: v for n, v in {**REQUIRED, **change}.items() if v is not None}
    with pytest.raises(EnvelopeError, match=words):
        from_attributes(found)


@pytest.mark.parametrize(
    "time", ["2026-01-31T12:00:00Z", "2026-01-31t12:00:00.123456789+02:00", "2026-12-31T23:59:60Z"]
)
def test_times_of_other_producers_are_kept(time: str) -> None:
    """Every RFC 3339 time is taken as it is; none at all is allowed by the standard."""
    assert from_attributes({**REQUIRED, "time": time}).time == time
    assert from_attributes(REQUIRED).time == ""


@pytest.mark.parametrize("data", [b"", b"[]", b'{"id":1}', b'{"id":"1"}', b"\xff"])
def test_bytes_that_are_no_envelope_are_refused(data: bytes) -> None:
    """Stored bytes that pack did not write raise an EnvelopeError."""
    with pytest.raises(EnvelopeError):
        unpack(data)


def test_metadata_is_copied() -> None:
    """Good metadata comes back as a dict of its own."""
    given = {"tenant": "acme", "user42": "Jürg"}
    checked = check_metadata(given)
    assert checked == given
    assert checked is not given
    assert from_attributes({**REQUIRED, **checked}).metadata == given


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"user_id": "1"}, "such as 'userid'"),
        ({"Tenant": "1"}, "such as 'tenant'"),
        ({"x" * 21: "1"}, "1 to 20"),
        ({"": "1"}, "1 to 20"),
        ({3: "1"}, "1 to 20"),
        ({"subject": "1"}, "attribute of the envelope itself"),
        ({"data": "1"}, "attribute of the envelope itself"),
        ({"specversion": "1"}, "attribute of the envelope itself"),
        ({"tenant": 3}, r"pass str\(...\)"),
        ({"tenant": "a\r\nb"}, "Control characters"),
        ({"tenant": "x" * 9000}, "at most 8192"),
    ],
)
def test_metadata_that_cannot_travel_is_refused(metadata: dict[str, str], words: str) -> None:
    """Metadata follows the rules of CloudEvents extensions, and the error teaches them."""
    with pytest.raises(EnvelopeError, match=words):
        check_metadata(metadata)
