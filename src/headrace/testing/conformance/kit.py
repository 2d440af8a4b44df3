"""What both kits share: clauses, what a driver declares about itself, and checks that explain their failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import FunctionType
from typing import ClassVar, TypeVar

T = TypeVar("T")
Clause = TypeVar("Clause", bound=Callable[..., object])

_NEEDS = "__headrace_needs__"
_MOST_LETTERS = 1000


def needs(ability: str) -> Callable[[Clause], Clause]:
    """Mark a clause that holds only for drivers whose kit declares the ability; others do not have the clause."""

    def mark(clause: Clause) -> Clause:
        setattr(clause, _NEEDS, ability)
        return clause

    return mark


class Kit:
    """Clauses as `async def test_...` methods: pytest with pytest-asyncio in auto mode collects a subclass `Test...`.

    A clause that a declaration excludes (`durable = False`) is not there at all, so nothing is skipped in silence; and
    a clause of its own compares each declaration with what the driver says of itself.

    Attributes:
        hang_seconds: after how long a clause fails that waits for what never comes; default 10.
        patience_seconds: how long a clause watches something that must not happen; default 0.05.
        short_seconds: the unit of time of clauses about expiry and due times; default 0.5, long enough for a slow
            machine to act within it. Clauses let it pass through `pass_seconds`.
    """

    hang_seconds: ClassVar[float] = 10.0
    patience_seconds: ClassVar[float] = 0.05
    short_seconds: ClassVar[float] = 0.5
    # Kept apart, because a class that excludes a clause has None in its place, and a subclass may want it.
    _own_clauses: ClassVar[dict[str, FunctionType]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._own_clauses = {
            name: value
            for name, value in vars(cls).items()
            if name.startswith("test_") and isinstance(value, FunctionType)
        }
        for name, clause in cls._written().items():
            ability: str | None = getattr(clause, _NEEDS, None)
            excluded = ability is not None and not getattr(cls, ability)
            if excluded or getattr(cls, name) is None:
                setattr(cls, name, None if excluded else clause)

    @classmethod
    def clauses(cls) -> tuple[str, ...]:
        """The names of the clauses that apply to this kit's driver, as declared."""
        return tuple(name for name in sorted(cls._written()) if getattr(cls, name) is not None)

    @classmethod
    def _written(cls) -> dict[str, FunctionType]:
        written: dict[str, FunctionType] = {}
        for owner in reversed(cls.__mro__):
            if issubclass(owner, Kit):
                written |= owner._own_clauses
        return written

    async def pass_seconds(self, seconds: float) -> None:
        """Let time pass on the driver's clock; override it where that clock can be set."""
        await asyncio.sleep(seconds)

    async def in_time(self, waiting: Awaitable[T]) -> T:
        """The result, or a failure if it does not come within `hang_seconds`."""
        try:
            async with asyncio.timeout(self.hang_seconds):
                return await waiting
        except TimeoutError:
            raise AssertionError(f"did not end within {self.hang_seconds} s") from None

    async def begun(self, call: Awaitable[T]) -> asyncio.Task[T]:
        """A task that has taken its first step."""

        async def run() -> T:
            return await call

        task = asyncio.create_task(run())
        await asyncio.sleep(0)
        return task

    async def started(self, call: Awaitable[T]) -> asyncio.Task[T]:
        """A task that had time to end, if nothing holds it up."""
        task = await self.begun(call)
        await asyncio.wait({task}, timeout=self.patience_seconds)
        return task


def same(actual: object, expected: object, what: str = "") -> None:
    """Fail unless both are equal. Works without pytest's rewriting and under `python -O`."""
    if actual != expected:
        raise AssertionError(f"{what or 'it'} is {_short(actual)}, not {_short(expected)}")


def holds(condition: bool, what: str) -> None:
    """Fail with `what` unless the condition holds."""
    if not condition:
        raise AssertionError(what)


def only(found: Sequence[T]) -> T:
    """The one that was found; fail if there are none or more."""
    if len(found) != 1:
        raise AssertionError(f"there are {len(found)}, not one: {_short(found)}")
    return found[0]


async def refused(kind: type[BaseException], call: Awaitable[object]) -> BaseException:
    """The error of that kind that the call raises; fail if it raises none."""
    try:
        result = await call
    except kind as error:
        return error
    raise AssertionError(f"raised no {kind.__name__}, but returned {result!r}")


def refused_now(kind: type[BaseException], call: Callable[[], object]) -> BaseException:
    """As `refused`, for a plain function."""
    try:
        result = call()
    except kind as error:
        return error
    raise AssertionError(f"raised no {kind.__name__}, but returned {result!r}")


def _short(value: object) -> str:
    text = repr(value)
    return (
        text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}... ({len(text)} letters)"
    )
