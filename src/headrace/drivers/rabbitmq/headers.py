"""CloudEvents as RabbitMQ carries them: attributes are headers, the media type is the property `content_type`.

Source: CloudEvents AMQP Protocol Binding 1.0.2, "Metadata Headers": the prefix is `cloudEvents:` or, for JMS, `cloudEvents_`.
Knative's binding for RabbitMQ has `ce-`. The first is written, all are read.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from headrace.envelope import Envelope, Message
from headrace.wire import Raw, WireFormat, header_text, to_headers

PREFIX: Final = "cloudEvents:"
_ALSO: Final = ("cloudEvents_", "ce-")
_TIMES: Final = frozenset(f"{prefix}time".lower() for prefix in (PREFIX, *_ALSO))
MOST_SHORT_BYTES: Final = 255
"""The longest value of the protocol's own fields beside the headers."""

_PERSISTENT: Final = 2


def properties(message: Message, message_id: str) -> Basic.Properties:
    """What travels beside the body."""
    return Basic.Properties(
        content_type=message.envelope.datacontenttype,
        delivery_mode=_PERSISTENT,
        headers=dict(to_headers(message, PREFIX)),
        message_id=message_id,
    )


def too_large(headers: Basic.Properties, most_bytes: int) -> str | None:
    """Why the server would never take these properties, or None.

    They travel in one frame; a larger one ends the whole connection, and with it all that others have under way.
    """
    if headers.content_type is not None and len(headers.content_type.encode()) > MOST_SHORT_BYTES:
        return f"its datacontenttype has more than {MOST_SHORT_BYTES} bytes."
    fields = headers.headers or {}
    letters = sum(len(name) + len(str(value)) + 8 for name, value in fields.items())
    if letters * 4 < most_bytes:
        return None
    size = sum(len(name.encode()) + len(str(value).encode()) + 8 for name, value in fields.items())
    if size > most_bytes:
        return f"its attributes (key and metadata among them) have {size} bytes, and {most_bytes} fit into a frame."
    return None


class Reader:
    """Reads messages as they are delivered.

    Args:
        foreign: the envelope of a message that is no CloudEvent, or None if it is to be skipped. It finds the protocol's own
            fields among the headers: `message-id`, `correlation-id`, `type` and `app-id`.
    """

    def __init__(self, foreign: Callable[[Raw], Envelope | None] | None) -> None:
        self._foreign = foreign is not None
        self._format = WireFormat(PREFIX, foreign=foreign, also=_ALSO)

    def message(
        self, topic: str, partition: int, position: str, delivered: DeliveredMessage
    ) -> Message:
        """The message; one of a type that nobody binds if it cannot be read."""
        found = delivered.header.properties
        headers = {name: _text(name, value) for name, value in (found.headers or {}).items()}
        if self._foreign:
            # A producer that knows nothing of CloudEvents has told what its message is in the protocol's own fields.
            for name, value in (
                ("message-id", found.message_id),
                ("correlation-id", found.correlation_id),
                ("type", found.message_type),
                ("app-id", found.app_id),
            ):
                if value is not None:
                    headers.setdefault(name, value)
        sent = found.timestamp
        return self._format.message(
            Raw(
                topic=topic,
                partition=partition,
                position=position,
                key=None,
                headers=headers,
                content_type=found.content_type,
                data=delivered.body,
                time_seconds=sent.timestamp() if sent is not None else None,
            )
        )


def _text(name: str, value: object) -> str:
    """A header's value as text. AMQP has types of its own; its 1.0 times are milliseconds since the epoch."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and name.lower() in _TIMES:
        try:
            return header_text(datetime.fromtimestamp(value / 1000, UTC))
        except (OverflowError, ValueError, OSError):
            return str(value)
    return header_text(value)
