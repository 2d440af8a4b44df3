"""Signatures: what handlers ask for and answer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import attrs
import pytest
from dishka import FromComponent, FromDishka

from headrace.handlers import EventHandler, RequestHandler
from headrace.messages import UNKNOWN, Command, DomainEvent
from headrace.signatures import (
    UNANNOTATED,
    Parameter,
    SignatureFault,
    calling_place,
    message_types_of,
    name_of,
    parameters_of,
    response_of,
    where,
)

if TYPE_CHECKING:
    from decimal import Decimal


class Meetings: ...


class Join(Command[int]):
    user_id: str


class Joined(DomainEvent): ...


class Left(DomainEvent): ...


class Handler(RequestHandler[Join, int]):
    def __init__(self, meetings: Meetings, *rest: int, limit: int = 3, **more: int) -> None: ...

    async def handle(self, request: Join) -> int:
        return 1


class Inherits(Handler): ...


class Bare(EventHandler[Joined | Left]):
    async def handle(self, event: Joined | Left) -> None: ...


class Duck:
    async def handle(self, request: Join) -> int:
        return 1


@dataclass
class AsDataclass(EventHandler[Joined]):
    meetings: Meetings
    limit: int = 3

    async def handle(self, event: Joined) -> None: ...


@attrs.define
class AsAttrs(EventHandler[Joined]):
    meetings: Meetings

    async def handle(self, event: Joined) -> None: ...


class Marked:
    def __init__(  # type: ignore[no-untyped-def]
        self,
        plain: FromDishka[Meetings],
        other: Annotated[Meetings, FromComponent("X")],
        bare,
    ) -> None: ...


class Unresolved:
    def __init__(self, price: Decimal) -> None: ...


async def on_join(request: Join, meetings: Meetings, /, *, limit: int = 3) -> int:
    return limit


async def on_either(event: Joined | Left) -> None: ...


async def on_price(event: Decimal) -> Decimal:
    return event


async def no_message() -> None: ...


async def unannotated(event): ...  # type: ignore[no-untyped-def]


async def optional(event: Joined | None) -> None: ...


def logged(function: Callable[..., Awaitable[int]]) -> Callable[..., Awaitable[int]]:
    @functools.wraps(function)
    async def wrapper(*arguments: object, **more: object) -> int:
        return await function(*arguments, **more)

    return wrapper


def short(parameters: tuple[Parameter, ...]) -> list[tuple[str, object, bool]]:
    return [(p.name, p.annotation, p.has_default) for p in parameters]


@pytest.mark.parametrize("cls", [Handler, Inherits])
def test_the_parameters_of_a_class_are_those_of_its_constructor(cls: type) -> None:
    """self, *args and **kwargs are left out; an inherited constructor counts."""
    found = parameters_of(cls, skip_first=False)
    assert short(found) == [("meetings", Meetings, False), ("limit", int, True)]
    assert found[1].kind is inspect.Parameter.KEYWORD_ONLY


def test_a_class_without_constructor_asks_for_nothing() -> None:
    """Neither object's nor the base's own constructor has parameters."""
    assert parameters_of(Bare, skip_first=False) == ()
    assert parameters_of(Duck, skip_first=False) == ()


def test_made_constructors_are_read() -> None:
    """The constructors that dataclass and attrs make are read like written ones."""
    dataclass_parameters = parameters_of(AsDataclass, skip_first=False)
    assert short(dataclass_parameters) == [("meetings", Meetings, False), ("limit", int, True)]
    assert short(parameters_of(AsAttrs, skip_first=False)) == [("meetings", Meetings, False)]


@pytest.mark.parametrize("function", [on_join, logged(on_join)])
def test_the_parameters_of_a_function_follow_its_message(function: object) -> None:
    """The message is skipped; a wrapper is read as what it wraps."""
    found = parameters_of(function, skip_first=True)
    assert short(found) == [("meetings", Meetings, False), ("limit", int, True)]


def test_extras_of_annotations_are_kept() -> None:
    """What a container reads from Annotated survives; a parameter without annotation says so."""
    found = parameters_of(Marked, skip_first=False)
    assert found[0].annotation == FromDishka[Meetings]  # type: ignore[misc]
    assert found[1].annotation == Annotated[Meetings, FromComponent("X")]
    assert found[2].annotation is UNANNOTATED


def test_a_name_below_type_checking_is_a_fault() -> None:
    """G12: a name that does not resolve is named, with place and remedy."""
    with pytest.raises(SignatureFault) as caught:
        parameters_of(Unresolved, skip_first=False)
    text = str(caught.value)
    for words in ("Unresolved", "price", "Decimal", "test_signatures.py:", "TYPE_CHECKING"):
        assert words in text
    with pytest.raises(SignatureFault, match="Decimal"):
        message_types_of(on_price)
    with pytest.raises(SignatureFault, match="Decimal"):
        response_of(on_price)


def test_message_types() -> None:
    """The message is read from the base, from handle or from the first parameter; A | B is both."""
    assert message_types_of(Handler) == (Join,)
    assert message_types_of(Inherits) == (Join,)
    assert message_types_of(Bare) == (Joined, Left)
    assert message_types_of(Duck) == (Join,)
    assert message_types_of(on_join) == (Join,)
    assert message_types_of(on_either) == (Joined, Left)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_message, "takes no message"),
        (unannotated, "no annotation"),
        (optional, "no class"),
    ],
)
def test_a_message_that_cannot_be_told_is_a_fault(function: object, words: str) -> None:
    """G12: a first parameter that names no message class is reported with what to write."""
    with pytest.raises(SignatureFault, match=words):
        message_types_of(function)


def test_responses() -> None:
    """The response is read from the base or the return annotation; without one it is unknown."""
    assert response_of(Handler) is int
    assert response_of(Duck) is int
    assert response_of(on_join) is int
    assert response_of(on_either) is None
    assert response_of(Bare) is None
    assert response_of(unannotated) is UNKNOWN


def test_places_and_names() -> None:
    """A place is file and line; a name is qualified by its module."""
    frame = inspect.currentframe()
    assert where(frame).endswith(f"test_signatures.py:{frame.f_lineno}")  # type: ignore[union-attr]
    assert "test_signatures.py:" in where(on_join)
    assert "test_signatures.py:" in where(Handler)
    assert where(int) == "module builtins"
    assert name_of(Handler) == f"{__name__}.Handler"
    assert name_of(3) == "3"

    def called() -> str:
        return calling_place()

    assert "test_signatures.py:" in called()
