"""Messages: requests, which one handler answers, and events, which are told to all who listen.

`Request` and `Event` are bare markers that mix into any kind of class. `Command`, `Query`, `DomainEvent` and
`NotificationEvent` save the decorator: they make their subclasses frozen dataclasses.

Source: "Command Message", "Event Message" and "Document Message", Enterprise Integration Patterns; "Command Query
Responsibility Segregation", G. Young; "Domain Event", Domain-Driven Design Reference, E. Evans.
"""

from __future__ import annotations

import dataclasses
from abc import ABCMeta
from collections.abc import Callable
from typing import (
    TYPE_CHECKING,
    Final,
    ForwardRef,
    Generic,
    Never,
    Protocol,
    Self,
    TypeVar,
    dataclass_transform,
    final,
)

from headrace.errors import MessageDefinitionError
from headrace.generics import generic_arguments
from headrace.notifications import Notification, declare, notification, notification_of

__all__ = [
    "UNKNOWN",
    "Answered",
    "Command",
    "DomainEvent",
    "Event",
    "Notification",
    "NotificationEvent",
    "Query",
    "Request",
    "RequestType",
    "Unknown",
    "fault_of_message",
    "is_event",
    "is_query",
    "is_request",
    "notification",
    "notification_of",
    "response_type",
]

R = TypeVar("R")
Q_co = TypeVar("Q_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)


class RequestType(Protocol[Q_co, R]):
    """For type checkers: the class of requests `Q` that are answered with `R`. `type[JoinMeeting]` is one."""

    def _headrace_request(self) -> tuple[Q_co, Callable[[R], R]]: ...


class Answered(Protocol[R_co]):
    """For type checkers: a request that is answered with an `R`. What `send` takes.

    A protocol, because it is covariant as `Request` must not be: `print(await app.send(...))` expects any object.
    """

    def _headrace_response(self) -> R_co: ...


class Request(Generic[R]):
    """Marks a class as a request that is answered with an `R`. Adds nothing to the class, so it mixes into any kind.

        class Pay(BaseModel, Request[Receipt]): ...
        class Pay(msgspec.Struct, Request[Receipt]): ...

    `Command` and `Query` are the short spelling for plain dataclasses.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        # R is named in parameter and result, so that checkers take exactly the declared R.
        @classmethod
        def _headrace_request(cls) -> tuple[Self, Callable[[R], R]]: ...

        # A method, which a class has with one parameter more, so that only instances are `Answered`.
        def _headrace_response(self) -> R: ...


class Event:
    """Marks a class as an event. Adds nothing to the class, so it mixes into any kind.

    It is a domain event, handled inside the unit of work that raised it, unless `@notification` declares it.
    """

    __slots__ = ()


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Command(Request[R]):
    """A request to change something, answered with an `R`. Subclasses become frozen dataclasses.

        class JoinMeeting(Command[None]):
            user_id: str
            meeting_id: str

    Args:
        kw_only: a class keyword: True makes the fields keyword-only. Default False, as for `@dataclass`.

    Raises:
        MessageDefinitionError: the class is also made by something else (pydantic, msgspec, attrs, `@dataclass`).
    """

    __slots__ = ()

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        _refuse_other_kinds(cls, "Command", _TAKE_REQUEST)
        super().__init_subclass__()
        _make_dataclass(cls, kw_only=kw_only)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Query(Request[R]):
    """A request to read something, answered with an `R`. Subclasses become frozen dataclasses.

    Its unit of work is read-only and rolled back at the end; its handler raises no events (G4).

    Args:
        kw_only: a class keyword: True makes the fields keyword-only. Default False, as for `@dataclass`.

    Raises:
        MessageDefinitionError: the class is also made by something else (pydantic, msgspec, attrs, `@dataclass`).
    """

    __slots__ = ()

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        _refuse_other_kinds(cls, "Query", _TAKE_REQUEST)
        super().__init_subclass__()
        _make_dataclass(cls, kw_only=kw_only)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class DomainEvent(Event):
    """Something that happened, told to handlers inside the same unit of work. Subclasses become frozen dataclasses.

    Args:
        kw_only: a class keyword: True makes the fields keyword-only. Default False, as for `@dataclass`.

    Raises:
        MessageDefinitionError: the class is also made by something else (pydantic, msgspec, attrs, `@dataclass`).
    """

    __slots__ = ()

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        _refuse_other_kinds(cls, "DomainEvent", _TAKE_EVENT)
        super().__init_subclass__()
        _make_dataclass(cls, kw_only=kw_only)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class NotificationEvent(Event):
    """Something that happened, told to other processes through the broker. Subclasses become frozen dataclasses.

        class MeetingJoined(NotificationEvent, type="meetings.user-joined.v1", topic="meetings", key="meeting_id"):
            user_id: str
            meeting_id: str

    Fields that several notifications share stand in a plain frozen dataclass, taken as the first base.

    Args:
        type: a class keyword, see `notification`.
        topic: a class keyword, see `notification`.
        key: a class keyword, see `notification`.
        kw_only: a class keyword: True makes the fields keyword-only. Default False, as for `@dataclass`.

    Raises:
        MessageDefinitionError: type or topic is missing or cannot be used, the key names no field, or the class is also
            made by something else (pydantic, msgspec, attrs, `@dataclass`).
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __init_subclass__(
            cls,
            *,
            type: str,  # noqa: A002
            topic: str,
            key: str | Callable[[Never], object] | None = None,
            kw_only: bool = False,
        ) -> None: ...

    else:
        # Not the signature above: a missing keyword is to be explained, and attrs makes a class again without any.
        def __init_subclass__(cls, *, kw_only: bool = False, **declared: object) -> None:
            _refuse_other_kinds(cls, "NotificationEvent", _TAKE_NOTIFICATION)
            super().__init_subclass__()
            _make_dataclass(cls, kw_only=kw_only)
            _declare_notification(cls, declared)


@final
class Unknown:
    """The type of `UNKNOWN`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()
"""The response type of a request class that does not declare one."""


def is_request(cls: type) -> bool:
    """True for a class of requests, of whatever kind; False for a foreign class."""
    return issubclass(cls, Request)


def is_event(cls: type) -> bool:
    """True for a class of events, of whatever kind; False for a foreign class."""
    return issubclass(cls, Event)


def is_query(cls: type) -> bool:
    """True if requests of this class run in a read-only unit of work."""
    return issubclass(cls, Query)


def response_type(cls: type) -> object:
    """What a request class declares to be answered with: `R` of its `Request[R]`, None for `Request[None]`.

    A quoted name that does not resolve stays a `ForwardRef`, which `fault_of_message` reports.

    Returns:
        The declared type, or `UNKNOWN` for a foreign class or one that leaves R open.
    """
    given = generic_arguments(cls, Request)
    if given is None or isinstance(given[0], TypeVar):
        return UNKNOWN
    return None if given[0] is type(None) else given[0]


def fault_of_message(cls: type) -> str | None:
    """What is wrong with a message class that could not be seen when it was made, or None.

    Found are: a request that is an event too, a decorator that made the class a second time, a notification without a
    type of its own, a response type that does not resolve.
    """
    name = f"{cls.__module__}.{cls.__qualname__}"
    if is_request(cls) and is_event(cls):
        return f"{name} is a request and an event. Take one of the two bases, and another class for the other message."
    made = vars(cls).get(_MADE)
    if made is not None:
        remedy = _remedy(cls)
        if "__attrs_attrs__" in vars(cls):
            return f"{name} is made a dataclass by its base and an attrs class by a decorator. {remedy}"
        if vars(cls).get("__dataclass_params__") is not made:
            return f"{name} is made a dataclass by its base and again by @dataclass. Remove the decorator. Or: {remedy}"
    try:
        notification_of(cls)
    except MessageDefinitionError as error:
        return str(error)
    response = response_type(cls)
    if isinstance(response, ForwardRef):
        return (
            f"{name} declares the response {response.__forward_arg__!r}, which does not resolve in the module "
            f"{cls.__module__}. Import it there at run time, not below TYPE_CHECKING."
        )
    return None


_MADE: Final = "_headrace_made"
_TAKE_REQUEST: Final = "Take Request as the base beside it: class {name}({kind}, Request[...])."
_TAKE_EVENT: Final = "Take Event as the base beside it: class {name}({kind}, Event)."
_TAKE_NOTIFICATION: Final = (
    "Take Event as the base beside it and declare it by the decorator: "
    "@notification(type=..., topic=..., key=...) class {name}({kind}, Event)."
)


def _remedy(cls: type) -> str:
    if is_request(cls):
        return _TAKE_REQUEST.format(name=cls.__name__, kind="...")
    template = _TAKE_NOTIFICATION if issubclass(cls, NotificationEvent) else _TAKE_EVENT
    return template.format(name=cls.__name__, kind="...")


def _refuse_other_kinds(cls: type, base: str, remedy: str) -> None:
    """Runs first of all: a msgspec Struct that is half made must not be touched, or the interpreter crashes."""
    metaclass = type(cls)
    if metaclass is not type and metaclass is not ABCMeta:
        kind = next((b.__name__ for b in cls.__bases__ if type(b) is metaclass), metaclass.__name__)
        raise MessageDefinitionError(
            f"{cls.__module__}.{cls.__qualname__}: {base} makes a frozen dataclass, but {kind} (metaclass "
            f"{metaclass.__qualname__}) makes a class of its own kind. {remedy.format(name=cls.__name__, kind=kind)}"
        )
    for mark, maker in (
        ("__attrs_attrs__", "attrs"),
        ("__dataclass_fields__", "@dataclass(slots=True)"),
    ):
        if mark in vars(cls):
            raise MessageDefinitionError(
                f"{cls.__module__}.{cls.__qualname__} is made a dataclass by {base} and again by {maker}. Remove "
                f"the decorator. Or, to keep it: {remedy.format(name=cls.__name__, kind='...').replace('(..., ', '(')}"
            )


def _make_dataclass(cls: type, *, kw_only: bool) -> None:
    dataclasses.dataclass(frozen=True, kw_only=kw_only)(cls)
    setattr(cls, _MADE, vars(cls)["__dataclass_params__"])


def _declare_notification(cls: type, declared: dict[str, object]) -> None:
    unknown = declared.keys() - {"type", "topic", "key"}
    missing = {"type", "topic"} - declared.keys()
    if unknown or missing:
        what = [f"lacks {name}=" for name in sorted(missing)] + [
            f"does not know {name}=" for name in sorted(unknown)
        ]
        raise MessageDefinitionError(
            f"{cls.__module__}.{cls.__qualname__}: the class statement {', '.join(what)}. Write "
            f'class {cls.__name__}(NotificationEvent, type="<context>.<fact>.v1", topic="<topic>", key="<field>"); '
            f"key may be left out for events without order, kw_only=True is the only other keyword."
        )
    declare(cls, type=declared["type"], topic=declared["topic"], key=declared.get("key"))
