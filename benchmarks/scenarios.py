"""What is measured in the process, of Headrace and of its peers alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

HANDLERS: Final = 10


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of work.

    Args:
        name: as the results call it.
        label: as tables call it.
        target: the ratio that Headrace is to reach on CPython 3.11, if one is set.
    """

    name: str
    label: str
    target: float | None = None


SCENARIOS: Final = (
    Scenario("send", "send without events", 1.9),
    Scenario("one_event", "send with 1 event and 1 handler", 1.6),
    Scenario("five_handlers", "send with 1 event and 5 handlers"),
    Scenario("event", "an event to 10 handlers", 1.5),
    Scenario("middlewares", "send through 3 middlewares", 1.3),
    Scenario("scoped", "send with a request-scoped dependency"),
    Scenario("container", "the same, by hand with the container (dishka)"),
)


def variants(base: type, count: int = HANDLERS) -> tuple[type, ...]:
    """Subclasses whose methods have code of their own, as the handlers of an app have.

    With one class, or one code, the interpreter's caches would see the same handler ten times, or ten that disagree.
    """
    return tuple(
        type(
            f"{base.__name__}{number}",
            (base,),
            {
                name: copied(value) if isinstance(value, FunctionType) else value
                for name, value in vars(base).items()
                if name in ("__init__", "handle")
            },
        )
        for number in range(count)
    )


def copied(function: F) -> F:
    """The function with code of its own, for the same reason."""
    written = cast(FunctionType, function)
    copy = FunctionType(
        written.__code__.replace(),
        written.__globals__,
        written.__name__,
        written.__defaults__,
        written.__closure__,
    )
    copy.__annotations__ = written.__annotations__
    copy.__qualname__ = written.__qualname__
    return cast(F, copy)
