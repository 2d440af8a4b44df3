"""One handler bound to one class of messages, and the checks that need nothing but the two."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, cast

from msgspec import Struct

from headrace.errors import BindingError
from headrace.signatures import name_of

Phase = Literal["in_transaction", "after_commit"]
"""When an event's handler runs: inside the unit of work that raised the event, or after its commit."""


class Binding(Struct, frozen=True):
    """One handler bound to one class of messages.

    Args:
        message: the class of the requests or events.
        handler: a class with an async `handle`, made anew each time, or an async function.
        is_function: True if `handler` is the function.
        raises: the only events that it may raise, if it was declared; None if it was not.
        phase: see `Phase`; requests are always "in_transaction".
        where: the "file:line" of the call that bound it.
        name: the qualified name of the handler, for people.
    """

    message: type
    handler: object
    is_function: bool
    raises: tuple[type, ...] | None
    phase: Phase
    where: str
    name: str


def nearest(name: str, names: Iterable[str]) -> Sequence[str]:
    """The at most three known names that are most like a name that is not known, nearest first."""
    return difflib.get_close_matches(name, sorted(set(names)), n=3, cutoff=0.5)


def is_async(function: object) -> bool:
    """True if calling this gives something to await: an async function, also bound, wrapped or as a `__call__`."""
    if inspect.iscoroutinefunction(function):
        return True
    if not callable(function):
        return False
    if isinstance(function, type):
        return False
    inner = inspect.unwrap(function)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(
        getattr(inner, "__call__", None)  # noqa: B004 - the method is wanted, not whether there is one
    )


def message_class(message: object, place: str) -> type:
    """The class that was given to `bind` at a place.

    Raises:
        BindingError: it is no class.
    """
    if not isinstance(message, type):
        raise BindingError(
            f"{place}: {message!r} is no message class. Pass the class itself, not an instance or an alias."
        )
    return message


def make_binding(
    message: type,
    handler: object,
    other: type,
    raises: Iterable[type[object]] | None,
    phase: Phase,
    place: str,
) -> Binding:
    """Check a handler and what it may raise, and bind it. `other` is the base that belongs to the other map.

    Raises:
        BindingError: the handler is neither an async function nor a class with an async `handle`, or `raises` holds
            something that is no class.
    """
    _check_handler(message, handler, place)
    if isinstance(handler, type) and issubclass(handler, other):
        raise BindingError(
            f"{place}: {name_of(handler)} cannot handle {message.__qualname__}: it is a {other.__name__}. "
            f"Requests are bound to a RequestHandler, events to an EventHandler."
        )
    declared = None if raises is None else tuple(raises)
    for event in declared or ():
        if not isinstance(event, type):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BindingError(
                f"{place}: raises= contains {event!r}, which is no class. List event classes."
            )
    return Binding(
        message=message,
        handler=handler,
        is_function=not isinstance(handler, type),
        raises=declared,
        phase=phase,
        where=place,
        name=name_of(handler),
    )


def _check_handler(message: type, handler: object, place: str) -> None:
    start = f"{place}: {name_of(handler)} cannot handle {message.__qualname__}: "
    if isinstance(handler, type):
        handle = inspect.getattr_static(handler, "handle", None)
        if isinstance(handle, staticmethod | classmethod):
            handle = cast("Callable[..., object]", handle.__func__)  # pyright: ignore[reportUnknownMemberType]
        if handle is None or inspect.isabstract(handler):
            raise BindingError(
                f"{start}it has no `handle`. Give it `async def handle(self, message)`."
            )
        if not is_async(handle):
            raise BindingError(f"{start}its `handle` is not async. Write `async def handle(...)`.")
        if isinstance(inspect.getattr_static(handler, "events", None), list):
            raise BindingError(
                f"{start}its class has one list `events`, which all sends would share. Leave it out: the bases "
                f"RequestHandler and EventHandler make one for each send."
            )
        return
    if callable(getattr(handler, "handle", None)):
        raise BindingError(
            f"{start}it is an instance. Pass its class, {type(handler).__qualname__}: Headrace makes a fresh one for "
            f"every message and injects what its constructor asks for."
        )
    if not callable(handler) or not is_async(handler):
        raise BindingError(
            f"{start}it is no async function and no class. Pass a class with `async def handle(self, message)`, or "
            f"`async def {getattr(handler, '__name__', 'handler')}(message, ...)`."
        )
