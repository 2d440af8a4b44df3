"""The JSON codec holds what every codec promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import BaseModel

from headrace import Event, NotificationEvent, notification
from headrace.codec import Codec, JsonCodec
from headrace.testing.conformance import CodecKit


class Announced(NotificationEvent, type="codec.announced.v1", topic="codec", key="user"):
    user: str


@notification(type="codec.paid.v1", topic="codec")
class Paid(BaseModel, Event):
    cents: int
    notes: list[str] = []


class Packed(msgspec.Struct, frozen=True):
    item: str
    sizes: dict[str, Any] = {}


class TestJsonCodec(CodecKit):
    def make(self) -> Codec:
        return JsonCodec()

    def samples(self) -> Sequence[object]:
        own = (Announced("u1"), Paid(cents=5, notes=["a"]), Packed("tea", {"a": [1]}))
        return (*super().samples(), *own)
