"""Which sends are under way, learnt from the interpreter when it is asked, so that no send pays for keeping books.

A send without a unit of work is measured in nanoseconds; counting it would cost a tenth of that. Its runner is a coroutine
of known code, which the interpreter's stack and its garbage collector know anyway.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from types import CodeType, CoroutineType, FrameType
from typing import Any, Final, TypeAlias, TypeGuard, cast

from headrace.errors import EventCycle

RUNNER: Final = "<headrace runner of "
"""How the file names of generated runners begin."""

_SHOWN: Final = 12
_SURELY_A_CIRCLE: Final = 20
"""So many nested sends on an exhausted stack were the cause of it; with fewer the recursion is the user's own."""

SentCoroutine: TypeAlias = "CoroutineType[Any, Any, Any]"


def codes_of(functions: Iterable[Callable[..., object]]) -> tuple[CodeType, ...]:
    """The code of functions, or of the `__call__` of other callables, as far as they have any."""
    found: list[CodeType] = []
    for function in functions:
        for one in (function, getattr(function, "__call__", None)):  # noqa: B004 - the method is wanted
            code = getattr(inspect.unwrap(one), "__code__", None) if callable(one) else None
            if isinstance(code, CodeType):
                found.append(code)
    return tuple(found)


def suspended(codes: Collection[CodeType]) -> list[SentCoroutine]:
    """All coroutines of these codes that have begun and wait for something. Looks at every object: not for hot paths."""
    wanted = {id(code) for code in codes}
    return [
        one
        for one in cast("list[object]", gc.get_objects())
        if _is_coroutine(one)
        and id(one.cr_code) in wanted
        and inspect.getcoroutinestate(one) == inspect.CORO_SUSPENDED
    ]


def _is_coroutine(one: object) -> TypeGuard[SentCoroutine]:
    return type(one) is CoroutineType


def ended(coroutine: SentCoroutine) -> bool:
    """True if a coroutine has returned, raised or been closed."""
    return inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def runs_inside(codes: Collection[CodeType]) -> bool:
    """True if the caller was called, however indirectly, by a function of one of these codes."""
    wanted = {id(code) for code in codes}
    return any(id(frame.f_code) in wanted for frame in _stack())


def circle_of(error: RecursionError) -> EventCycle | None:
    """What to raise instead when the interpreter's stack was exhausted by sends that send each other, else None."""
    chain = [
        type(frame.f_locals["request"]).__qualname__
        for frame in _stack()
        if frame.f_code.co_filename.startswith(RUNNER) and "request" in frame.f_locals
    ]
    if len(chain) < _SURELY_A_CIRCLE:
        return None
    return EventCycle(
        f"nested sends are {len(chain)} deep, where the interpreter's stack ended ({error}): "
        f"... -> {' -> '.join(chain[_SHOWN::-1])}. A handler sends, perhaps through others, the request that it handles. Break "
        f"the circle."
    )


def _stack() -> Iterator[FrameType]:
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
