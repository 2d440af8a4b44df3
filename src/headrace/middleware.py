"""Middlewares: functions around a request or an event handler, composed once.

Source: "Intercepting Filter", Core J2EE Patterns; the pipeline behaviours of MediatR.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headrace.plain_calls import own_code

Next = Callable[[Any], Awaitable[Any]]
"""What a middleware calls to go on: the next middleware, at last the handler. Its answer is the answer of the rest."""

Middleware = Callable[[Any, Next], Awaitable[Any]]
"""`async def timing(request: Request[Any], call_next: Next) -> Any`, or an object with such a `__call__`."""


def compose(middlewares: Sequence[Middleware], innermost: Next) -> Next:
    """One callable that runs the middlewares around `innermost`; the first in the list is outermost."""
    composed = innermost
    for middleware in reversed(middlewares):
        composed = _around(middleware, composed)
    return composed


def _around(middleware: Middleware, call_next: Next) -> Next:
    # A plain function that returns the middleware's own coroutine: no coroutine of ours in between.
    @own_code
    def call(message: Any) -> Awaitable[Any]:
        return middleware(message, call_next)

    return call
