"""Records as messages."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import TYPE_CHECKING, Final, cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from headrace.broker import Received
from headrace.wire import Raw, WireFormat, header_text

if TYPE_CHECKING:
    from confluent_kafka import Message as Record

    from headrace.envelope import Envelope


# Called so, the interpreter looks whether the client library left an error behind. `record.headers()` does that only until the
# line is hot; from then on it hands out a list with holes in it, and the process crashes (CPython 3.11, confluent-kafka 2.16).
_given_headers: Final = methodcaller("headers")


class Records:
    """Reads records by CloudEvents' binding for Kafka.

    Args:
        foreign: for records that are no CloudEvents.

    Source: CloudEvents 1.0.2, Kafka Protocol Binding.
    """

    def __init__(self, foreign: Callable[[Raw], Envelope | None] | None) -> None:
        self._format = WireFormat("ce_", foreign=foreign)

    def received(self, topic: str, record: Record) -> Received:
        """The record as a message of this topic. What cannot be read becomes a message that nobody binds."""
        partition, position = record.partition() or 0, str(record.offset())
        kind, milliseconds = record.timestamp()
        key = record.key()
        raw = Raw(
            topic=topic,
            partition=partition,
            position=position,
            key=None if key is None else header_text(key),
            headers=_headers(record),
            content_type=None,
            data=record.value() or b"",
            time_seconds=None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1000,
        )
        return Received(partition, position, self._format.message(raw))


def _headers(record: Record) -> dict[str, str]:
    try:
        found = cast("list[tuple[str, bytes | None]]", _given_headers(record) or [])
    except (SystemError, ValueError):
        # A name that is no UTF-8, which the client library stumbles over. Without its headers the record is none that can be
        # read, and is passed over: it must not stop its partition (G14). The library keeps the list that it made half, and
        # would hand it out when the record is read once more; so it gets another one.
        record.set_headers([])
        return {}
    return {
        name: value.decode("utf-8", "surrogateescape") for name, value in found if value is not None
    }
