"""`CodecKit`: certifies a codec, clause by clause."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import ClassVar
from uuid import UUID

from headrace.codec import Codec
from headrace.errors import DecodeError, EncodeError
from headrace.testing.conformance.kit import Kit, holds, needs, refused_now, same

_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(\s*;.+)?")
_WORKERS = 4
_ID = UUID("0190c2f0-0000-7000-8000-000000000001")


class Size(Enum):
    """A choice."""

    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True)
class Line:
    """A part of an event."""

    item: str
    count: int


@dataclass(frozen=True)
class Ordered:
    """An event with all kinds of fields."""

    id: UUID = _ID
    customer: str = 'Zoë "quotes" \\ 鍵 🔑 \u2028 \x00'
    total: Decimal = Decimal("19.90")
    count: int = 2**53 - 1
    weight: float = 0.1
    gift: bool = False
    note: str | None = None
    size: Size = Size.LARGE
    at: datetime = datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)
    due: date = date(2024, 2, 29)
    lines: tuple[Line, ...] = (Line("tea", 1), Line("", -1))
    tags: dict[str, list[int]] = field(default_factory=lambda: {"a": [1, 2], "": []})
    body: bytes = b"\x00\xff"


@dataclass(frozen=True)
class Small:
    """An event with some of the fields of `Line`."""

    item: str


@dataclass(frozen=True)
class Weighed:
    """An event with a number that need not be one."""

    weight: float


@dataclass(frozen=True)
class Anything:
    """An event that holds what no codec can write."""

    what: object


class _Trap:
    """Runs code where it is unpickled."""

    sprung: ClassVar[list[str]] = []

    def __reduce__(self) -> tuple[object, ...]:
        return (_spring, ("code of a message ran",))


def _spring(text: str) -> None:
    _Trap.sprung.append(text)


class CodecKit(Kit):
    """What a `headrace.codec.Codec` promises, a clause each.

    Subclass it in a test module and say how to make one:

        class TestMyCodec(CodecKit):
            def make(self) -> Codec:
                return MyCodec()

    Hooks: `make` (required), `samples` (events that it writes besides). pytest needs `asyncio_mode = "auto"`.

    Attributes:
        tolerant: fields that a class does not know are ignored, so that a producer may add some; False takes the clause
            out; default True.
    """

    tolerant: ClassVar[bool] = True

    def make(self) -> Codec:
        """A codec."""
        raise TypeError(f"{type(self).__qualname__} has no make(): return a codec from it")

    def samples(self) -> Sequence[object]:
        """Events that it must write and read; default: dataclasses with all kinds of fields."""
        return (Ordered(), Ordered(note="", lines=(), tags={}, at=_later()), Small("tea"))

    async def test_what_is_written_is_read(self) -> None:
        """`decode` gives back the event that `encode` was given, equal and of its class."""
        codec = self.make()
        for sample in self.samples():
            data = codec.encode(sample)
            holds(type(data) is bytes, f"{data!r} are no bytes")
            read = codec.decode(data, type(sample))
            holds(type(read) is type(sample), f"{read!r} is no {type(sample).__qualname__}")
            same(read, sample, "what was read")

    async def test_an_event_has_one_form(self) -> None:
        """The same event is written with the same bytes each time: repeats can be compared."""
        codec = self.make()
        for sample in self.samples():
            same(codec.encode(sample), codec.encode(sample), "the second form")

    async def test_the_media_type_is_one(self) -> None:
        """`content_type` is a media type, as the attribute of envelopes demands."""
        found = self.make().content_type
        holds(_MEDIA_TYPE.fullmatch(found) is not None, f"{found!r} is no media type")

    async def test_what_does_not_fit_is_refused(self) -> None:
        """Bytes of another event, cut bytes and bytes of nobody raise `DecodeError`, and nothing else."""
        codec = self.make()
        whole = codec.encode(Ordered())
        for data in (b"", b"\x00\xff", b"null", whole[: len(whole) // 2], codec.encode(Small("x"))):
            refused_now(DecodeError, partial(codec.decode, data, Line))

    async def test_deep_nesting_is_refused(self) -> None:
        """Bytes that are nested without end raise `DecodeError`; they neither exhaust the stack nor end the process."""
        codec = self.make()
        for data in (b"[" * 100_000, b'{"what":' * 100_000):
            refused_now(DecodeError, partial(codec.decode, data, Anything))

    async def test_what_cannot_be_written_is_refused(self) -> None:
        """An event that cannot be written raises `EncodeError`, before anything is committed."""
        refused_now(EncodeError, lambda: self.make().encode(Anything(object())))

    async def test_what_is_written_can_be_read_again(self) -> None:
        """A value that would be read as another raises `EncodeError`: what is stored must not become a dead letter."""
        codec = self.make()
        for number in (math.nan, math.inf):
            try:
                data = codec.encode(Weighed(number))
            except EncodeError:
                continue
            same(repr(codec.decode(data, Weighed)), repr(Weighed(number)), "what was read")

    async def test_no_code_of_a_message_runs(self) -> None:
        """Bytes build objects of the declared types alone: a pickle is refused, and runs nothing (G14)."""
        codec = self.make()
        _Trap.sprung.clear()
        trap = pickle.dumps(_Trap())
        refused_now(DecodeError, lambda: codec.decode(trap, Small))
        same(_Trap.sprung, [], "what ran")

    async def test_threads_may_share_it(self) -> None:
        """It is called from several threads at once."""
        codec = self.make()

        def both(number: int) -> bool:
            event = Line(f"item {number}", number)
            return codec.decode(codec.encode(event), Line) == event

        with ThreadPoolExecutor(_WORKERS) as threads:
            holds(all(threads.map(both, range(400))), "threads read each other's events")

    @needs("tolerant")
    async def test_a_producer_may_add_fields(self) -> None:
        """Fields that the class does not know are ignored."""
        codec = self.make()
        same(codec.decode(codec.encode(Line("tea", 1)), Small), Small("tea"), "what was read")


def _later() -> datetime:
    return datetime(2024, 5, 6, tzinfo=UTC) + timedelta(microseconds=1)
