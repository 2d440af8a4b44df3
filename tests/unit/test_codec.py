"""JSON bodies: every kind of event there and back, and nothing untrusted gets through."""

import dataclasses
import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from headrace.codec import Codec, JsonCodec
from headrace.errors import DecodeError, EncodeError
from headrace.messages import Event, NotificationEvent


class Colour(Enum):
    RED = "red"


class Money(pydantic.BaseModel):
    amount: Decimal


class Plain(NotificationEvent, type="a.b.v1", topic="a"):
    name: str
    at: datetime
    price: Decimal
    id: UUID
    colour: Colour
    tags: tuple[str, ...] = ()
    note: str | None = None


class Struct(msgspec.Struct, Event, frozen=True):
    name: str


@attrs.frozen
class Attrs(Event):
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted(Event):
    name: str


class Model(pydantic.BaseModel, Event):
    name: str = pydantic.Field(alias="theName")
    at: datetime = datetime(2026, 1, 31, tzinfo=UTC)


class Mixed(NotificationEvent, type="a.m.v1", topic="a"):
    money: Money
    more: list[Money]


class Measured(NotificationEvent, type="a.f.v1", topic="a"):
    value: float


class MeasuredModel(pydantic.BaseModel, Event):
    value: float


class Deep(NotificationEvent, type="a.d.v1", topic="a"):
    inner: object


class Foreign:
    def __init__(self) -> None:
        self.name = "x"


EVENTS = [
    Plain("ü", datetime(2026, 1, 31, tzinfo=UTC), Decimal("1.10"), UUID(int=5), Colour.RED, ("a",)),
    Struct("x"),
    Attrs("x"),
    Slotted("x"),
    Model(theName="x"),
    Mixed(Money(amount=Decimal("1.1")), [Money(amount=Decimal(2))]),
    Measured(1.5),
]


@pytest.fixture
def codec() -> JsonCodec:
    return JsonCodec()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_come_back(codec: JsonCodec, event: object) -> None:
    """Every kind of event is written and read back equal, twice with the same decoder."""
    data = codec.encode(event)
    assert codec.decode(data, type(event)) == event
    assert codec.decode(data, type(event)) == event


def test_it_is_a_codec(codec: JsonCodec) -> None:
    """JsonCodec is what the protocol asks for."""
    as_codec: Codec = codec
    assert as_codec.content_type == "application/json"
    assert codec.encode(Struct("x")) == b'{"name":"x"}'


def test_unknown_fields_are_ignored(codec: JsonCodec) -> None:
    """A producer may add fields that this consumer does not know yet."""
    assert codec.decode(b'{"name":"x","more":1}', Struct) == Struct("x")


@pytest.mark.parametrize("cls", [Struct, Attrs, Slotted, Model])
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"name":1}', b"\xff", b'{"name":"x"'])
def test_what_does_not_fit_is_refused(codec: JsonCodec, cls: type, data: bytes) -> None:
    """G14: bytes that are no JSON or do not fit the class raise a DecodeError that names the class."""
    with pytest.raises(DecodeError, match=cls.__name__):
        codec.decode(data, cls)


def test_reading_is_strict(codec: JsonCodec) -> None:
    """G14: text that looks like a number is no number."""
    with pytest.raises(DecodeError, match="float"):
        codec.decode(b'{"value":"1.5"}', Measured)


def test_foreign_classes_are_neither_written_nor_read(codec: JsonCodec) -> None:
    """What neither msgspec nor pydantic knows is an error, never guessed at."""
    with pytest.raises(EncodeError, match="Foreign cannot be written"):
        codec.encode(Foreign())
    with pytest.raises(DecodeError, match="not supported"):
        codec.decode(b'{"name":"x"}', Foreign)
    with pytest.raises(EncodeError, match="Deep"):
        codec.encode(Deep(Foreign()))


@pytest.mark.parametrize("event", [Measured(math.nan), MeasuredModel(value=math.inf)])
def test_what_could_not_be_read_again_is_not_written(codec: JsonCodec, event: object) -> None:
    """NaN would become null and fail where it is consumed, so it fails where it is sent."""
    with pytest.raises(EncodeError, match="NaN"):
        codec.encode(event)


def test_a_class_that_is_only_written_may_hold_null(codec: JsonCodec) -> None:
    """A null is no reason to refuse an event of a class that could never be read back."""

    @dataclasses.dataclass
    class Written(Event):
        value: Foreign | str
        note: str | None = None

    assert codec.encode(Written("x")) == b'{"value":"x","note":null}'


def test_a_true_null_is_written(codec: JsonCodec) -> None:
    """None in an optional field is a null like any other."""
    assert b'"note":null' in codec.encode(EVENTS[0])


def test_depth_is_bounded() -> None:
    """G14: nesting beyond the limit is refused before it is parsed; brackets in text do not count."""
    codec = JsonCodec(max_depth=4)
    assert codec.decode(b'{"inner":[[[]]]}', Deep) == Deep([[[]]])
    assert codec.decode(b'{"inner":[[],[],[],[],[]]}', Deep).inner == [[]] * 5
    text = b'{"inner":"[[[[[[\\"[[[["}'
    assert codec.decode(text, Deep) == Deep('[[[[[["[[[[')
    with pytest.raises(DecodeError, match="deeper than 4"):
        codec.decode(b'{"inner":[[[[]]]]}', Deep)
    with pytest.raises(DecodeError, match="deeper than 64"):
        JsonCodec().decode(b"[" * 1_000_000, Deep)


def test_hostile_quotes_take_linear_time() -> None:
    """G14: an unterminated text full of escaped quotes is refused as fast as any other."""
    data = b"[" * 65 + b'"' + b'\\"' * 500_000
    with pytest.raises(DecodeError):
        JsonCodec().decode(data, Deep)
