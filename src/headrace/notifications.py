"""What makes an event a notification: its type on the wire, its topic and its key, kept on the class."""

from __future__ import annotations

import builtins
import enum
import operator
import re
from collections.abc import Callable
from typing import Never, TypeVar, cast
from uuid import UUID

from msgspec import Struct

from headrace.errors import MessageDefinitionError
from headrace.text import forbidden_character

T = TypeVar("T")

_TYPE = re.compile(r"[!-~]{1,255}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_ATTRIBUTE = "_headrace_notification"

MOST_KEY_CHARACTERS = 255
"""The longest key: what every storage keeps in a column with an index on it."""


class Notification(Struct, frozen=True):
    """How events of one class travel.

    Args:
        type: the CloudEvents `type`, a versioned literal that stays when the class is renamed.
        topic: the broker's topic.
        key_of: reads the key of an event; events of one (topic, key) stay in order. None if they have no order.
        key: what the key is read from, for people: the name of a field or of a function. None as `key_of`.
    """

    type: str
    topic: str
    key_of: Callable[[object], str | None] | None
    key: str | None = None


def notification(
    *,
    type: str,  # noqa: A002
    topic: str,
    key: str | Callable[[Never], object] | None = None,
) -> Callable[[type[T]], type[T]]:
    """Declare an event of any kind of class a notification: it goes to the broker instead of handlers in the process.

    For what cannot be a `NotificationEvent` because it is made by pydantic, msgspec, attrs or an explicit `@dataclass`:

        @notification(type="meetings.user-joined.v1", topic="meetings", key="meeting_id")
        class MeetingJoined(BaseModel, Event):
            user_id: str
            meeting_id: str

    Args:
        type: the CloudEvents `type`: a versioned literal of visible ASCII, at most 255 characters. Never the class
            name, so that the class can be renamed.
        topic: letters, digits, `.`, `_` and `-`, at most 249: what all brokers take.
        key: the name of a field or property, or a function of the event. Its value is None (no order), a str that is
            not empty, an int, a UUID or a str-Enum. Default None: the events have no order.

    Raises:
        MessageDefinitionError: the class has no such field, or type or topic cannot be used.
    """

    def decorate(cls: builtins.type[T]) -> builtins.type[T]:
        declare(cls, type=type, topic=topic, key=key)
        return cls

    return decorate


def notification_of(cls: type) -> Notification | None:
    """How events of exactly this class travel, or None if they are no notifications.

    Raises:
        MessageDefinitionError: the class inherits from a notification and declares no type of its own. It would go out
            under the type of its base, and be read as that.
    """
    own = cast("Notification | None", vars(cls).get(_ATTRIBUTE))
    if own is None:
        inherited = cast("Notification | None", getattr(cls, _ATTRIBUTE, None))
        if inherited is not None:
            base = next(b for b in cls.__mro__ if _ATTRIBUTE in vars(b))
            raise MessageDefinitionError(
                f"{_name(cls)} inherits from the notification {_name(base)} (type {inherited.type!r}) but declares "
                f"no type of its own, so consumers could not tell the two apart. Put "
                f"@notification(type=..., topic={inherited.topic!r}) on {cls.__name__}, or move the shared fields "
                f"to a class that is no notification."
            )
    return own


def declare(cls: type, *, type: object, topic: object, key: object) -> None:  # noqa: A002
    """Check a declaration and keep it on the class; what `notification` and `NotificationEvent` share."""
    if not isinstance(type, str) or not _TYPE.fullmatch(type):
        raise MessageDefinitionError(
            f"{_name(cls)}: type={type!r} is no type for the wire. Give a versioned literal of visible ASCII, "
            f'such as type="meetings.user-joined.v1".'
        )
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic):
        raise MessageDefinitionError(
            f"{_name(cls)}: topic={topic!r} is no name for a topic. Use letters, digits, '.', '_' and '-', such as "
            f'topic="meetings".'
        )
    name = key if isinstance(key, str) or key is None else str(getattr(key, "__qualname__", key))
    setattr(cls, _ATTRIBUTE, Notification(type, topic, _key_reader(cls, key), name))


def _key_reader(cls: type, key: object) -> Callable[[object], str | None] | None:
    if key is None:
        return None
    if isinstance(key, str):
        _check_field(cls, key)
        get = cast("Callable[[object], object]", operator.attrgetter(key))
        name = key
    elif callable(key):
        get = cast("Callable[[object], object]", key)
        name = str(getattr(key, "__qualname__", repr(key)))
    else:
        raise MessageDefinitionError(
            f"{_name(cls)}: key={key!r} is neither the name of a field nor a function of the event. "
            f"Give one of them, or None for events without order."
        )

    def key_of(event: object) -> str | None:
        value = get(event)
        if value is None:
            return None
        if type(value) is not str:
            value = _as_text(event, name, value)
        if not value:
            raise _unusable(event, name, value, "is empty; give None for an event without order")
        if len(value) > MOST_KEY_CHARACTERS:
            raise _unusable(
                event,
                name,
                value,
                f"has {len(value)} characters, and storage keeps {MOST_KEY_CHARACTERS}; give a hash of it",
            )
        character = forbidden_character(value)
        if character is not None:
            raise _unusable(
                event, name, value, f"has the character {character!r}, forbidden in CloudEvents"
            )
        return value

    return key_of


def _as_text(event: object, name: str, value: object) -> str:
    if isinstance(value, enum.Enum):
        value = cast(object, value.value)
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise _unusable(
                event, name, value, "is the value of an Enum that is neither str nor int"
            )
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise _unusable(event, name, value, f"is a {type(value).__qualname__}")


def _unusable(event: object, name: str, value: object, why: str) -> MessageDefinitionError:
    return MessageDefinitionError(
        f"{_name(type(event))}: its key {name} gave {value!r}, which {why}. "
        f"A key is None, a str that is not empty, an int, a UUID or a str-Enum: "
        f"give key= a function that makes one of these."
    )


def _check_field(cls: type, key: str) -> None:
    annotated = {name for base in cls.__mro__ for name in vars(base).get("__annotations__", {})}
    if key in annotated or (hasattr(cls, key) and not callable(getattr(cls, key))):
        return
    known = sorted(name for name in annotated if not name.startswith("_"))
    raise MessageDefinitionError(
        f"{_name(cls)}: key={key!r} names no field of it. Its fields are: {', '.join(known) or 'none'}."
    )


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
