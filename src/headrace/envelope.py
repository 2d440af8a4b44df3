"""The envelope of a message: CloudEvents 1.0 attributes. Events stay pure data; identity and time live here.

Source: CloudEvents 1.0.2, https://github.com/cloudevents/spec; its "Partitioning", "Sequence" and "Distributed Tracing"
extensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Envelope:
    """The CloudEvents attributes of one request or event. Names are those of the standard.

    Args:
        id: UUIDv7, unique per source.
        source: the name of the app that raised it.
        type: a versioned literal for notifications; the qualified class name for requests, which never leave the process.
        time: RFC 3339 in UTC.
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


@dataclass(frozen=True, slots=True)
class Message:
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
