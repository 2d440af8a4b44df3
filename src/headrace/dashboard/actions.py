"""What people may do on the dashboard, and the hooks of the app that say who may."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.requests import Request


class Doing(enum.StrEnum):
    """The kinds of actions."""

    REDRIVE = "redrive"
    EDIT = "edit"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that a person wants to do with dead letters.

    Args:
        doing: what.
        positions: of these; empty if it is about all of a group of errors, or if `asking`.
        queue: all dead letters of this queue, with this topic and error; None if it is about `positions`.
        topic: see `queue`.
        error: see `queue`.
        reason: of a drop.
        asking: True: nothing is to be done, the page wants to know whether to offer it.
    """

    doing: Doing
    positions: tuple[int, ...] = ()
    queue: str | None = None
    topic: str | None = None
    error: str | None = None
    reason: str = ""
    asking: bool = False


Authorize: TypeAlias = Callable[[Request, Action], Awaitable[str | None] | str | None]
"""Who wants to do this, if they may: their name, which goes to the audit record. None or "": they may not."""

AuthorizeView: TypeAlias = Callable[[Request], Awaitable[bool] | bool]
"""May whoever sends this request see the pages?"""


async def who_may(authorize: Authorize | None, request: Request, action: Action) -> str | None:
    """The name of the person, or None if they may not, as everybody without a hook."""
    if authorize is None:
        return None
    found = authorize(request, action)
    name = await found if inspect.isawaitable(found) else found
    return name or None


async def may_view(authorize: AuthorizeView | None, request: Request) -> bool:
    """True if whoever sends the request may see the pages, as everybody without a hook."""
    if authorize is None:
        return True
    found = authorize(request)
    return bool(await found if inspect.isawaitable(found) else found)
