"""Messages: what the bases make of a class, and what they refuse."""

import dataclasses
from abc import ABC
from enum import Enum
from typing import Generic, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from headrace.errors import MessageDefinitionError
from headrace.messages import (
    UNKNOWN,
    Command,
    DomainEvent,
    Event,
    NotificationEvent,
    Query,
    Request,
    fault_of_message,
    is_event,
    is_query,
    is_request,
    notification,
    notification_of,
    response_type,
)

R = TypeVar("R")


class Join(Command[None]):
    user_id: str
    seats: int = 1


class Item: ...


class GetItem(Query["Item"]):
    pass


class PydanticPay(pydantic.BaseModel, Request[int]):
    amount: int


class StructPay(msgspec.Struct, Request[int], frozen=True):
    amount: int


@attrs.frozen
class AttrsPay(Request[int]):
    amount: int


@dataclasses.dataclass(frozen=True, slots=True)
class DataclassPay(Request[int]):
    amount: int


ALL_KINDS = [PydanticPay, StructPay, AttrsPay, DataclassPay]


class Joined(NotificationEvent, type="meetings.joined.v1", topic="meetings", key="meeting_id"):
    meeting_id: object


def test_a_command_is_a_frozen_dataclass() -> None:
    """The base makes a frozen dataclass, with defaults, equality and hash."""
    assert Join("u1") == Join("u1", 1)
    assert hash(Join("u1")) == hash(Join("u1"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Join("u1").seats = 2  # type: ignore[misc]


def test_fields_may_be_keyword_only() -> None:
    """The class keyword kw_only is the dataclass's own."""

    class Leave(Command[None], kw_only=True):
        user_id: str

    assert Leave(user_id="u1").user_id == "u1"
    with pytest.raises(TypeError, match="positional"):
        Leave("u1")  # type: ignore[call-arg]


def test_an_abstract_class_may_stand_between() -> None:
    """Shared fields stand in a base of one's own, which may be abstract and generic."""

    class ForMeeting(Command[R], ABC, Generic[R]):
        meeting_id: str

    class Count(ForMeeting[list[int]]):
        since: int

    assert Count("m1", 3).meeting_id == "m1"
    assert response_type(Count) == list[int]
    assert fault_of_message(Count) is None


@pytest.mark.parametrize("cls", ALL_KINDS)
def test_the_bare_markers_leave_a_class_what_it_is(cls: type) -> None:
    """Request mixes into pydantic, msgspec, attrs and dataclass classes, and its response type is read."""
    made = cls(amount=3)
    assert made.amount == 3
    assert response_type(cls) is int
    assert is_request(cls)
    assert not is_event(cls)
    assert not is_query(cls)
    assert fault_of_message(cls) is None
    assert hasattr(made, "__dict__") == (cls is PydanticPay)


@pytest.mark.parametrize("base", [Command[None], Query[int], DomainEvent])
@pytest.mark.parametrize("other", [pydantic.BaseModel, msgspec.Struct])
@pytest.mark.parametrize("first", [True, False])
def test_two_kinds_at_once_are_refused(base: type, other: type, first: bool) -> None:
    """A pydantic model or a Struct under a dataclass base is refused with the base to take."""
    origin = getattr(base, "__origin__", base)
    bases = (origin, other) if first else (other, origin)
    with pytest.raises(MessageDefinitionError, match=r"Take (Request|Event) as the base") as caught:
        type(other)("Pay", bases, {"__annotations__": {"amount": int}, "__module__": __name__})
    assert other.__name__ in str(caught.value)


def test_two_kinds_at_once_are_refused_for_a_notification() -> None:
    """A notification made by pydantic is told to use the decorator."""
    with pytest.raises(MessageDefinitionError, match="@notification"):

        class Sent(pydantic.BaseModel, NotificationEvent, type="a.b.v1", topic="a"):
            mail: str


def test_a_decorator_that_makes_the_class_again_is_refused() -> None:
    """Making it by attrs with slots and @dataclass(slots=True) make a second class, which is refused at once."""
    with pytest.raises(MessageDefinitionError, match="again by attrs"):

        @attrs.define
        class Pay(NotificationEvent, type="a.b.v1", topic="a"):
            amount: int

    with pytest.raises(MessageDefinitionError, match=r"again by @dataclass\(slots=True\)"):

        @dataclasses.dataclass(slots=True)
        class Pay2(Command[None]):
            amount: int


def test_a_decorator_that_changes_the_class_is_found() -> None:
    """A plain @dataclass or slotless attrs over a Command cannot be seen in time, and is a fault."""

    @dataclasses.dataclass
    class Pay(Command[None]):
        amount: int

    @attrs.define(slots=False)
    class Pay2(DomainEvent):
        amount: int

    assert "Remove the decorator" in str(fault_of_message(Pay))
    assert "attrs class by a decorator" in str(fault_of_message(Pay2))
    assert fault_of_message(Join) is None


def test_a_request_that_is_an_event_is_a_fault() -> None:
    """Nobody could tell whether it is to be answered or told."""

    class Both(Request[None], Event): ...

    assert "request and an event" in str(fault_of_message(Both))


def test_response_types() -> None:
    """The response type is what is declared; a foreign class and an open R have none."""
    assert response_type(Join) is None
    assert response_type(GetItem) is Item
    assert response_type(Item) is UNKNOWN
    assert response_type(Request) is UNKNOWN
    assert repr(UNKNOWN) == "UNKNOWN"
    assert is_query(GetItem)


def test_a_response_that_does_not_resolve_is_a_fault() -> None:
    """G12: a quoted response type that is not importable at run time is named."""

    class Get(Query["Missing"]): ...  # type: ignore[name-defined]

    assert "'Missing'" in str(fault_of_message(Get))


class Colour(str, Enum):  # noqa: UP042 - older code has these
    RED = "red"


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (None, None),
        ("m1", "m1"),
        (7, "7"),
        (Colour.RED, "red"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_keys(value: object, key: str | None) -> None:
    """A key is text; ints, UUIDs and str-Enums are written as text, None means no order."""
    found = notification_of(Joined)
    assert found is not None
    assert found.key_of is not None
    assert found.key_of(Joined(value)) == key


@pytest.mark.parametrize("value", ["", True, 1.5, b"m1", "m\x00", "\ud800", object()])
def test_unusable_keys(value: object) -> None:
    """Any other key is an error that names event, field and value."""
    found = notification_of(Joined)
    assert found is not None
    assert found.key_of is not None
    with pytest.raises(MessageDefinitionError) as caught:
        found.key_of(Joined(value))
    assert "Joined" in str(caught.value)
    assert "meeting_id" in str(caught.value)
    assert repr(value) in str(caught.value)


def test_a_key_may_be_a_function_a_property_or_none() -> None:
    """The key is computed by a function or property, or left out."""

    class ByFunction(NotificationEvent, type="a.b.v1", topic="a", key=lambda e: e.a + e.b):
        a: str
        b: str

    @notification(type="a.c.v1", topic="a", key="both")
    class ByProperty(msgspec.Struct, Event):
        a: str

        @property
        def both(self) -> str:
            return self.a * 2

    class Without(NotificationEvent, type="a.d.v1", topic="a"): ...

    function, prop, without = (notification_of(c) for c in (ByFunction, ByProperty, Without))
    assert function is not None
    assert function.key_of is not None
    assert function.key_of(ByFunction("x", "y")) == "xy"
    assert prop is not None
    assert prop.key_of is not None
    assert prop.key_of(ByProperty("x")) == "xx"
    assert without is not None
    assert without.key_of is None


@pytest.mark.parametrize(
    ("key", "words"),
    [("", "is empty"), ("x" * 256, "has 256 characters"), ("a\0b", "has the character")],
)
def test_a_key_that_no_broker_or_storage_keeps_is_refused(key: str, words: str) -> None:
    """A key that is empty, too long or has a forbidden character is an error where it is read, before any commit."""

    class Keyed(NotificationEvent, type="a.b.v1", topic="a", key="key"):
        key: str

    found = notification_of(Keyed)
    assert found is not None
    assert found.key_of is not None
    assert found.key_of(Keyed("x" * 255)) == "x" * 255
    with pytest.raises(MessageDefinitionError, match=words):
        found.key_of(Keyed(key))


@pytest.mark.parametrize("cls", ALL_KINDS)
def test_any_kind_of_class_is_declared_a_notification(cls: type) -> None:
    """The decorator declares every kind of class, and keeps the class."""
    own: type = type(cls)("Own", (cls,), {"__module__": __name__})
    declared: type = notification(type="a.b.v1", topic="a", key="amount")(own)
    assert declared is own
    found = notification_of(own)
    assert found is not None
    assert (found.type, found.topic) == ("a.b.v1", "a")
    assert found.key_of is not None
    assert found.key_of(own(amount=3)) == "3"


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"topic": "a"}, "lacks type="),
        ({"type": "a.b.v1"}, "lacks topic="),
        ({"type": "a.b.v1", "topic": "a", "kye": "x"}, "does not know kye="),
        ({"type": "a b", "topic": "a"}, "type='a b'"),
        ({"type": "a.b.v1", "topic": "a/b"}, "topic='a/b'"),
        ({"type": "a.b.v1", "topic": "a", "key": "metting"}, "fields are: meeting"),
        ({"type": "a.b.v1", "topic": "a", "key": "method"}, "names no field"),
        ({"type": "a.b.v1", "topic": "a", "key": 3}, "neither the name of a field"),
    ],
)
def test_a_wrong_declaration_is_refused(keywords: dict[str, object], words: str) -> None:
    """Missing, unknown and unusable class keywords are named when the class is made."""
    body = {"__annotations__": {"meeting": str}, "method": lambda self: 1, "__module__": __name__}
    with pytest.raises(MessageDefinitionError, match=words):
        type("Wrong", (NotificationEvent,), body, **keywords)


def test_a_notification_is_not_inherited() -> None:
    """A subclass without a type of its own would be read as its base, so it is refused where it is used."""

    @notification(type="a.b.v1", topic="a")
    class Sent(pydantic.BaseModel, Event):
        mail: str

    class SentTwice(Sent): ...

    with pytest.raises(MessageDefinitionError, match="declares no type of its own"):
        notification_of(SentTwice)
    assert "declares no type of its own" in str(fault_of_message(SentTwice))


def test_shared_fields_of_notifications_stand_in_a_plain_dataclass() -> None:
    """A frozen dataclass as first base gives its fields to several notifications."""

    @dataclasses.dataclass(frozen=True)
    class OfMeeting:
        meeting_id: str

    class Ended(OfMeeting, NotificationEvent, type="a.b.v1", topic="a", key="meeting_id"):
        at: int

    assert Ended("m1", 3) == Ended(meeting_id="m1", at=3)
    assert notification_of(OfMeeting) is None
    assert notification_of(DomainEvent) is None
