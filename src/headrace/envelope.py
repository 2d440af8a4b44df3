"""The envelope of a message: CloudEvents 1.0 attributes. Events stay pure data; identity and time live here.

Source: CloudEvents 1.0.2, https://github.com/cloudevents/spec; its "Partitioning", "Sequence" and "Distributed Tracing"
extensions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast

import msgspec
from msgspec import Struct, field

from headrace.errors import EnvelopeError
from headrace.ids import new_id, now
from headrace.text import forbidden_character

__all__ = [
    "Envelope",
    "Message",
    "attributes",
    "check_metadata",
    "from_attributes",
    "new_id",
    "now",
    "pack",
    "packed_correlation",
    "packed_start",
    "unpack",
]


class Envelope(Struct, frozen=True):
    """The CloudEvents attributes of one request or event. Names are those of the standard.

    Args:
        id: UUIDv7, unique per source.
        source: the name of the app that raised it.
        type: a versioned literal for notifications; the qualified class name for requests, which never leave the process.
        time: RFC 3339, in UTC if Headrace made it. Empty if another producer left it out, which the standard allows.
        subject: the key, or None.
        datacontenttype: the media type of the body.
        dataschema: a URI of its schema, or None.
        partitionkey: the key, or None.
        sequence: a string that sorts in order of first publication, or None.
        correlationid: the same for everything that one outside request caused.
        causationid: the id of the request or event that raised this one, or None.
        traceparent: W3C trace context, or None.
        extensions: all other extension attributes: the caller's metadata.
    """

    id: str
    source: str
    type: str
    time: str
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    partitionkey: str | None = None
    sequence: str | None = None
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the caller passed as `send(..., metadata=...)`."""
        return self.extensions


class Message(Struct, frozen=True):
    """A notification ready for the wire, or just read from it: where it goes, its attributes, its body as bytes.

    Args:
        topic: the broker's topic.
        key: messages of one (topic, key) stay in order; None for no order.
        envelope: the CloudEvents attributes.
        data: the encoded body, never re-encoded on its way.
    """

    topic: str
    key: str | None
    envelope: Envelope
    data: bytes


_SPECVERSION: Final = "1.0"
_REQUIRED: Final = ("id", "source", "type")
_OPTIONAL: Final = (
    "subject",
    "datacontenttype",
    "dataschema",
    "partitionkey",
    "sequence",
    "correlationid",
    "causationid",
    "traceparent",
)
# "data" and "data_base64" are members of the JSON form, beside the attributes.
_RESERVED: Final = frozenset({*_REQUIRED, *_OPTIONAL, "specversion", "time", "data"})

_PLAIN: Final = _RESERVED - {"data"}

_EXTENSION_NAME: Final = re.compile(r"[a-z0-9]{1,64}")
_METADATA_NAME: Final = re.compile(r"[a-z0-9]{1,20}")
_RFC_3339: Final = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"[Tt ]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d{1,9})?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_MOST_BYTES: Final = 64 * 1024  # CloudEvents, "Size Limits": what every intermediary must forward
_FEW: Final = 100
# What so many values may be together, if their names, at most 64 characters each, are to fit too.
_SURELY_FITS: Final = _MOST_BYTES - _FEW * 64
_MOST_METADATA_BYTES: Final = (
    8 * 1024
)  # it travels in the headers of every event that the request caused

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, str]).decode


def attributes(envelope: Envelope) -> dict[str, str]:
    """All attributes that are set, by their CloudEvents names without a prefix: `specversion` and extensions included."""
    found = {
        "specversion": _SPECVERSION,
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.type,
    }
    if envelope.time:
        found["time"] = envelope.time
    # Once for each message sent: a loop over `_OPTIONAL` takes twice as long.
    if envelope.subject is not None:
        found["subject"] = envelope.subject
    if envelope.datacontenttype is not None:
        found["datacontenttype"] = envelope.datacontenttype
    if envelope.dataschema is not None:
        found["dataschema"] = envelope.dataschema
    if envelope.partitionkey is not None:
        found["partitionkey"] = envelope.partitionkey
    if envelope.sequence is not None:
        found["sequence"] = envelope.sequence
    if envelope.correlationid is not None:
        found["correlationid"] = envelope.correlationid
    if envelope.causationid is not None:
        found["causationid"] = envelope.causationid
    if envelope.traceparent is not None:
        found["traceparent"] = envelope.traceparent
    found.update(envelope.extensions)
    return found


def from_attributes(found: Mapping[str, str]) -> Envelope:
    """The envelope of a message that came from outside. Trusts nothing (G14).

    Args:
        found: attributes by their CloudEvents names, without the prefix of a protocol.

    Raises:
        EnvelopeError: `specversion` is not 1.0, id, source or type is missing, an attribute is empty, has a name or
            character that the standard forbids, time is no RFC 3339 time, or all are larger than 64 KiB together.
    """
    if not _is_plain(found):
        _check_each(found)
    version = found.get("specversion")
    if version != _SPECVERSION:
        raise EnvelopeError(
            f"specversion is {_cut(version)}, only '1.0' is read. Is the producer sending CloudEvents in binary mode?"
        )
    at = found.get("time")
    if at is not None and not _RFC_3339.fullmatch(at):
        raise EnvelopeError(
            f"time is {_cut(at)}, which is no RFC 3339 time such as '2026-01-31T12:00:00Z'."
        )
    return _build(dict(found))


def _is_plain(found: Mapping[str, str]) -> bool:
    """True if there is nothing to object to, seen in one look at all values; False if each has to be looked at.

    Once for each message read: a look at each value takes three times as long.
    """
    try:
        text = "".join(found.values())
    except TypeError:
        return False
    return (
        text.isascii()
        and text.isprintable()
        and len(text) <= _SURELY_FITS
        and "" not in found.values()
        and (found.keys() <= _PLAIN or all(map(_is_extension, found.keys() - _PLAIN)))
        and len(found) <= _FEW
    )


def _is_extension(name: str) -> bool:
    return name != "data" and _EXTENSION_NAME.fullmatch(name) is not None


def _check_each(found: Mapping[str, str]) -> None:
    size = 0
    for name, value in cast("Mapping[str, object]", found).items():
        if not isinstance(value, str):
            raise EnvelopeError(f"the attribute {_cut(name)} is {_cut(value)}, not text.")
        if not _EXTENSION_NAME.fullmatch(name) or name == "data":
            raise EnvelopeError(
                f"{_cut(name)} is no name of a CloudEvents attribute. Names are of a-z and 0-9, at most 64 characters, "
                f"and not 'data'."
            )
        character = forbidden_character(value)
        if character is not None:
            raise EnvelopeError(
                f"the attribute {name} has the forbidden character {character!r} in {_cut(value)}."
            )
        if not value and name in _RESERVED:
            raise EnvelopeError(
                f"the attribute {name} is empty. Leave it out instead, if it is optional."
            )
        size += len(name) + len(value.encode())
    if size > _MOST_BYTES:
        raise EnvelopeError(
            f"the attributes are {size} bytes, at most {_MOST_BYTES} are read. Put data into the body."
        )


def pack(envelope: Envelope) -> bytes:
    """The envelope as storage keeps it: compact JSON of its `attributes`."""
    return _encode(attributes(envelope))


def packed_start(event_id: str) -> bytes:
    """What `pack` begins with for every envelope of this id: to find one among packed envelopes without reading them."""
    found = _encode({"specversion": _SPECVERSION, "id": event_id})
    return found[:-1] + b","


def packed_correlation(correlation_id: str) -> bytes:
    """What is in every packed envelope of this correlation id, and in no other: quotes within values are escaped."""
    return _encode({"correlationid": correlation_id})[1:-1]


def sequence_of(position: int) -> str:
    """A message's place in an outbox as the attribute `sequence`: sorts as text in the order of first publication."""
    return f"{position:019d}"


def unpack(data: bytes, *, sequence: str | None = None) -> Envelope:
    """The envelope that `pack` wrote. Storage is trusted: only the form is checked.

    Args:
        data: what `pack` wrote.
        sequence: given to the envelope, see `sequence_of`. Default None: the one that was packed, if any.

    Raises:
        EnvelopeError: these bytes were not written by `pack`.
    """
    try:
        found = _decode(data)
    except msgspec.MsgspecError as error:
        raise EnvelopeError(f"{_cut(data)} is no stored envelope: {error}.") from error
    if sequence is not None:
        found["sequence"] = sequence
    return _build(found)


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The caller's metadata as extension attributes of every envelope that the request causes.

    Raises:
        EnvelopeError: a name is not 1 to 20 characters of a-z and 0-9 or belongs to an attribute of its own, a value is no
            text or has a control character, or all are larger than 8 KiB together.
    """
    size = 0
    # Callers without a checker pass anything.
    for name, value in cast("Mapping[object, object]", metadata).items():
        if not isinstance(name, str) or not _METADATA_NAME.fullmatch(name):
            plain = re.sub("[^a-z0-9]", "", str(name).lower())[:20]
            hint = f", such as {plain!r}" if plain and plain not in _RESERVED else ""
            raise EnvelopeError(
                f"metadata cannot be named {_cut(name)}: it travels as a CloudEvents extension, whose name has 1 to 20 "
                f"characters of a-z and 0-9 (no capitals, no '_', no '-'){hint}."
            )
        if name in _RESERVED:
            raise EnvelopeError(
                f"metadata cannot be named {name!r}: this is an attribute of the envelope itself. Take another name."
            )
        if not isinstance(value, str):
            raise EnvelopeError(
                f"metadata {name!r} is {_cut(value)}, a {type(value).__qualname__}. Values are text: pass str(...) of it."
            )
        character = forbidden_character(value)
        if character is not None:
            raise EnvelopeError(
                f"metadata {name!r} has the character {character!r} in {_cut(value)}. Control characters, lone surrogates "
                f"and noncharacters cannot travel in headers: encode the value, for example as base64."
            )
        size += len(name) + len(value.encode())
    if size > _MOST_METADATA_BYTES:
        raise EnvelopeError(
            f"metadata is {size} bytes, at most {_MOST_METADATA_BYTES} travel with each event. Put data into the event."
        )
    return dict(metadata)


def _build(found: dict[str, str]) -> Envelope:
    """Takes the dict over: what is left of it are the extensions."""
    take = found.pop
    take("specversion", None)
    try:
        # By position, in the order of the fields: by name takes a third longer.
        return Envelope(
            take("id"),
            take("source"),
            take("type"),
            take("time", ""),
            take("subject", None),
            take("datacontenttype", None),
            take("dataschema", None),
            take("partitionkey", None),
            take("sequence", None),
            take("correlationid", None),
            take("causationid", None),
            take("traceparent", None),
            found,
        )
    except KeyError as error:
        raise EnvelopeError(
            f"the attribute {error.args[0]} is missing. CloudEvents requires specversion, id, source and type; "
            f"present are, besides those taken: {_cut(', '.join(sorted(found)))}."
        ) from None


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
