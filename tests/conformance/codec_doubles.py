"""Broken codecs. Each breaks one promise of `JsonCodec`."""

from __future__ import annotations

import itertools
import pickle
import re
from typing import ClassVar, TypeVar, cast

import msgspec

from headrace.codec import Codec, JsonCodec
from headrace.errors import DecodeError, EncodeError
from headrace.testing.conformance import CodecKit
from tests.conformance.doubles import Doubles

T = TypeVar("T")

DOUBLES = Doubles()
fails = DOUBLES.fails


class Faithful(JsonCodec):
    """Breaks nothing."""

    found_by: ClassVar[type[Exception]] = AssertionError
    """What a clause raises: an error of its own checks, so that no mistake of a double passes for its being found."""


class DoubleKit(CodecKit):
    """Runs the clauses against one double."""

    def __init__(self, double: type[Faithful]) -> None:
        self.double = double

    def make(self) -> Codec:
        return self.double()


@fails("what_is_written_is_read")
class Rounds(Faithful):
    """Reads what it wrote with another time."""

    def encode(self, event: object) -> bytes:
        return re.sub(rb"\.123456", b".123", super().encode(event))


@fails("an_event_has_one_form")
class Shuffles(Faithful):
    """Writes some white space, now here, now there."""

    turns = itertools.count()

    def encode(self, event: object) -> bytes:
        return super().encode(event) + b" " * (next(self.turns) % 2)


@fails("the_media_type_is_one")
class CallsItJson(Faithful):
    """Names itself, and not a media type."""

    content_type = "json"


@fails("what_does_not_fit_is_refused", "no_code_of_a_message_runs")
class RaisesItsOwn(Faithful):
    """Lets the errors of its parser through."""

    found_by = msgspec.MsgspecError

    def decode(self, data: bytes, cls: type[T]) -> T:
        try:
            return super().decode(data, cls)
        except DecodeError as error:
            raise cast("Exception", error.__cause__) from None


@fails("deep_nesting_is_refused")
class Recursive(Faithful):
    """Goes as deep as the message says."""

    found_by = RecursionError

    def decode(self, data: bytes, cls: type[T]) -> T:
        if data[:1000].count(b"[") + data[:1000].count(b"{") > 64:
            return self.decode(data, cls)
        return super().decode(data, cls)


@fails("what_cannot_be_written_is_refused")
class WritesNames(Faithful):
    """Writes what it does not know as text."""

    def encode(self, event: object) -> bytes:
        try:
            return super().encode(event)
        except EncodeError:
            return repr(event).encode()


@fails("what_is_written_can_be_read_again")
class WritesNull(Faithful):
    """Writes what is not a number as another number."""

    def encode(self, event: object) -> bytes:
        return msgspec.json.encode(event).replace(b"null", b"0.0")


@fails("no_code_of_a_message_runs")
class Unpickles(Faithful):
    """Reads whatever it is sent."""

    def decode(self, data: bytes, cls: type[T]) -> T:
        if data.startswith(b"\x80"):
            pickle.loads(data)
        return super().decode(data, cls)


@fails("threads_may_share_it")
class KeepsOne(Faithful):
    """Keeps the last event between two calls."""

    last: ClassVar[list[bytes]] = []

    def encode(self, event: object) -> bytes:
        data = super().encode(event)
        self.last[:] = self.last or [data]
        return data

    def decode(self, data: bytes, cls: type[T]) -> T:
        return super().decode(self.last[0] if b'"count"' in data else data, cls)


@fails("a_producer_may_add_fields")
class Narrow(Faithful):
    """Refuses fields that the class does not have."""

    def decode(self, data: bytes, cls: type[T]) -> T:
        fields = getattr(cls, "__dataclass_fields__", {})
        event = super().decode(data, cls)
        if len(msgspec.json.decode(data)) > len(fields):
            raise AssertionError(f"{cls.__name__} has no such field")
        return event
