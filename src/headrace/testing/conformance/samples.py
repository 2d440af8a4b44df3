"""Messages for clauses."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from headrace.envelope import Envelope, Message


def message(
    key: str | None = "k",
    data: bytes = b"{}",
    *,
    topic: str = "orders",
    message_id: str | None = None,
    source: str = "shop",
    metadata: Mapping[str, str] | None = None,
    correlation: str | None = None,
) -> Message:
    """A message with an id of its own."""
    envelope = Envelope(
        id=message_id or str(uuid.uuid4()),
        source=source,
        type="shop.order-placed.v1",
        time="2024-05-06T07:08:09.123456Z",
        subject=key,
        datacontenttype="application/json",
        partitionkey=key,
        correlationid=correlation,
        extensions=dict(metadata or {}),
    )
    return Message(topic, key, envelope, data)


def numbered(count: int, key: str | None = "k", *, topic: str = "orders") -> list[Message]:
    """Messages of one key, with the bodies 0, 1, 2, ..."""
    return [message(key, str(number).encode(), topic=topic) for number in range(count)]


def bodies(messages: Iterable[Message]) -> list[bytes]:
    """The bodies, in order: what clauses compare."""
    return [each.data for each in messages]


def unusual() -> list[Message]:
    """Messages that a careless driver damages: empty and large bodies, bytes that are no text, all kinds of letters."""
    full = Envelope(
        id="0190-ünïque",
        source="/shop/Köln",
        type="shop.order-placed.v1",
        time="2024-05-06T07:08:09.123456Z",
        subject="ключ 鍵 🔑",
        datacontenttype="application/json; charset=utf-8",
        dataschema="https://example.org/schema?a=b&c=%20",
        partitionkey="ключ 鍵 🔑",
        sequence="0001",
        correlationid="c-1",
        causationid="c-0",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        extensions={"tenant": "Łódź", "note": "100 % of, \"quotes\" and 'more'", "empty": ""},
    )
    return [
        message("empty", b""),
        message("large", bytes(range(256)) * 3900),
        message("bytes", b"\x00\xff\xfe'; DROP TABLE x; --"),
        message(None, b"no key"),
        Message("orders", "ключ 鍵 🔑", full, '{"name": "Zoë"}'.encode()),
    ]
