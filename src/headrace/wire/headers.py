"""Attributes as the headers of protocols: all in one piece, as ASCII, or of other types than text."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from headrace.envelope import Message

_TO_ENCODE: Final = re.compile(r"[^!#$&-~]")
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


def to_headers(message: Message, prefix: str) -> dict[str, str]:
    """The attributes of a message as headers, for binary mode.

    `datacontenttype` is left out: it goes where the protocol keeps the content type of its messages.

    Args:
        message: the message to publish.
        prefix: of the protocol: `ce_` for Kafka, `cloudEvents:` for AMQP, `ce-` for NATS.
    """
    # Once for each published message: written out, because a loop over the names takes half as long again.
    envelope = message.envelope
    headers = {
        f"{prefix}specversion": "1.0",
        f"{prefix}id": envelope.id,
        f"{prefix}source": envelope.source,
        f"{prefix}type": envelope.type,
    }
    if envelope.time:
        headers[f"{prefix}time"] = envelope.time
    if envelope.subject is not None:
        headers[f"{prefix}subject"] = envelope.subject
    if envelope.dataschema is not None:
        headers[f"{prefix}dataschema"] = envelope.dataschema
    if envelope.partitionkey is not None:
        headers[f"{prefix}partitionkey"] = envelope.partitionkey
    if envelope.sequence is not None:
        headers[f"{prefix}sequence"] = envelope.sequence
    if envelope.correlationid is not None:
        headers[f"{prefix}correlationid"] = envelope.correlationid
    if envelope.causationid is not None:
        headers[f"{prefix}causationid"] = envelope.causationid
    if envelope.traceparent is not None:
        headers[f"{prefix}traceparent"] = envelope.traceparent
    if envelope.extensions:
        for name, value in envelope.extensions.items():
            headers[f"{prefix}{name}"] = value
    return headers


def percent_encoded(value: str) -> str:
    """A value as ASCII, for protocols whose headers are like those of HTTP (NATS). Most values stay as they are.

    Source: CloudEvents 1.0.2, HTTP Protocol Binding, section 3.1.3.2: the space, `"`, `%` and what is not printable ASCII.
    """
    return _TO_ENCODE.sub(_percent, value)


def percent_decoded(value: str) -> str:
    """The value that `percent_encoded` wrote, or that an older producer put in double quotes. Never raises.

    Bytes that are no UTF-8 become lone surrogates, which no attribute may have: such a message is unreadable, not misread.
    """
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _QUOTED_PAIR.sub(r"\1", value[1:-1])
    if "%" not in value:
        return value
    return unquote_to_bytes(value.encode("utf-8", "surrogatepass")).decode(
        "utf-8", "surrogateescape"
    )


def header_text(value: object) -> str:
    """A header of another producer as text, in the form that CloudEvents gives its types. Never raises.

    Bytes are read as UTF-8; those that are none become lone surrogates, which no attribute may have.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "surrogateescape")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return utc.isoformat().removesuffix("+00:00") + "Z"
    return str(value)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))
