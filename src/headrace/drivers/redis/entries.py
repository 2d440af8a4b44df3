"""How a message stands in a stream: CloudEvents in binary mode, its attributes and its body as fields of the entry.

There is no binding of CloudEvents to Redis Streams. This one is made after that of Kafka: `ce_<attribute>` for each attribute,
`content-type` for the media type of the body, `data` for the body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headrace.broker import Received
from headrace.wire import Raw, to_headers

if TYPE_CHECKING:
    from headrace.envelope import Message
    from headrace.wire import WireFormat

PREFIX: Final = "ce_"
"""Before the name of each attribute."""

CONTENT_TYPE: Final = "content-type"
DATA: Final = "data"
_DATA: Final = b"data"

Entry = tuple[bytes, list[bytes]]
"""An id, and fields and values in turn."""

_MOST_NAMES: Final = 1000
_JSON: Final = msgspec.json.Encoder().encode


class Entries:
    """Writes and reads entries.

    Args:
        wire: reads attributes; knows the mapping of foreign messages.
    """

    def __init__(self, wire: WireFormat) -> None:
        self._wire = wire
        self._names = _Names()

    def fields(self, message: Message) -> list[str | bytes]:
        """The fields and values of the entry for a message."""
        found: list[str | bytes] = []
        for name, value in to_headers(message, PREFIX).items():
            found.append(name)
            found.append(value)
        content_type = message.envelope.datacontenttype
        if content_type is not None:
            found.append(CONTENT_TYPE)
            found.append(content_type)
        found.append(DATA)
        found.append(message.data)
        return found

    def received(self, topic: str, partition: int, entry: Entry) -> Received:
        """The message of an entry: its id, and its fields and values in turn.

        An entry without a `data` field was written by another producer, as is usual for Redis: its body is the JSON object
        of its fields.
        """
        position, flat = entry[0].decode(), entry[1]
        names, values = flat[::2], flat[1::2]
        data: bytes | None = None
        if _DATA in names:
            place = names.index(_DATA)
            data = values.pop(place)
            del names[place]
        known = self._names
        try:
            headers = {known[n]: value.decode() for n, value in zip(names, values, strict=True)}
        except UnicodeDecodeError:
            headers = {known[n]: _text(value) for n, value in zip(names, values, strict=True)}
        content_type = headers.pop(CONTENT_TYPE, None)
        if data is None:
            data = _JSON({_plain(name): _plain(value) for name, value in headers.items()})
        raw = Raw(
            topic=topic,
            partition=partition,
            position=position,
            key=None,
            headers=headers,
            content_type=content_type,
            data=data,
            time_seconds=int(position.partition("-")[0]) / 1000,
        )
        return Received(partition, position, self._wire.message(raw))


class _Names(dict[bytes, str]):
    """The names of fields as text. They are few, so each is decoded once."""

    def __missing__(self, name: bytes) -> str:
        text = _text(name)
        if len(self) < _MOST_NAMES:  # whoever writes to the stream chooses the names
            self[name] = text
        return text


def _text(value: bytes) -> str:
    # Bytes that are no UTF-8 become characters that no attribute may have, so they are refused, not mistaken.
    return value.decode(errors="surrogateescape")


def _plain(text: str) -> str:
    """Text that can be written as JSON."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
