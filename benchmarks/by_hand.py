"""The work of each scenario as plain async code: construct the handler, await it, hand its events to the next.

Each function is used for one scenario of a process only: the interpreter specializes the code of a loop for the classes
that it meets, and two scenarios in one loop would spoil that for both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.scenarios import copied
from benchmarks.timing import Loop

Make = Callable[[Any], Any]
"""A handler class: its one dependency goes in, the handler comes out."""

Next = Callable[[Any], Any]
Middleware = Callable[[Any, Next], Awaitable[Any]]


def send(handler: Make, dependency: object, request: object) -> Loop:
    """A request to its handler."""

    async def loop(count: int) -> None:
        for _ in range(count):
            await handler(dependency).handle(request)

    return loop


def scoped(handler: Make, scoped_dependency: Make, dependency: object, request: object) -> Loop:
    """A request to a handler with a dependency that is made anew each time."""

    async def loop(count: int) -> None:
        for _ in range(count):
            await handler(scoped_dependency(dependency)).handle(request)

    return loop


def one_event(handler: Make, hearer: Make, dependency: object, request: object) -> Loop:
    """A request whose handler raises an event, and the handler of the event."""

    async def loop(count: int) -> None:
        for _ in range(count):
            sender = handler(dependency)
            await sender.handle(request)
            for event in sender.events:
                await hearer(dependency).handle(event)

    return loop


def five_handlers(
    handler: Make, hearers: Sequence[Make], dependency: object, request: object
) -> Loop:
    """A request whose handler raises an event, and the five handlers of the event."""
    one, two, three, four, five = hearers

    async def loop(count: int) -> None:
        for _ in range(count):
            sender = handler(dependency)
            await sender.handle(request)
            for event in sender.events:
                await one(dependency).handle(event)
                await two(dependency).handle(event)
                await three(dependency).handle(event)
                await four(dependency).handle(event)
                await five(dependency).handle(event)

    return loop


def ten_handlers(hearers: Sequence[Make], dependency: object, event: object) -> Loop:
    """An event to its ten handlers."""
    a, b, c, d, e, f, g, h, i, j = hearers

    async def loop(count: int) -> None:
        for _ in range(count):
            await a(dependency).handle(event)
            await b(dependency).handle(event)
            await c(dependency).handle(event)
            await d(dependency).handle(event)
            await e(dependency).handle(event)
            await f(dependency).handle(event)
            await g(dependency).handle(event)
            await h(dependency).handle(event)
            await i(dependency).handle(event)
            await j(dependency).handle(event)

    return loop


def middlewares(
    around: tuple[Middleware, Middleware, Middleware],
    handler: Make,
    dependency: object,
    request: object,
) -> Loop:
    """A request through three middlewares, nested by hand once."""
    first, second, third = map(
        copied, around
    )  # what they call next is not what the framework's call

    async def innermost(message: Any) -> Any:
        return await handler(dependency).handle(message)

    def in_third(message: Any) -> Awaitable[Any]:
        return third(message, innermost)

    def in_second(message: Any) -> Awaitable[Any]:
        return second(message, in_third)

    async def loop(count: int) -> None:
        for _ in range(count):
            await first(request, in_second)

    return loop
