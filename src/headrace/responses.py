"""Whether a handler answers what its request declares, as far as that can be told at run time."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from headrace.messages import UNKNOWN

_PROMOTED: tuple[tuple[type, type], ...] = ((int, float), (int, complex), (float, complex))
"""What checkers take for each other though it is no subclass (PEP 484, "The numeric tower")."""


def agree(declared: object, answered: object) -> bool:
    """False only if the two surely disagree: what a type checker allows must not be reported.

    Args:
        declared: R of the request's `Request[R]`.
        answered: what the handler's signature says; it may be narrower.
    """
    if UNKNOWN in (declared, answered) or declared == answered:
        return True
    if declared is object or _open(declared) or _open(answered):
        return True
    if _is_union(answered):
        return all(agree(declared, one) for one in get_args(answered))
    if _is_union(declared):
        return any(agree(one, answered) for one in get_args(declared))
    if _is_none(declared) or _is_none(answered):
        return _is_none(declared) and _is_none(answered)
    wide, narrow = _class_of(declared), _class_of(answered)
    if wide is None or narrow is None:
        return True
    if (narrow, wide) in _PROMOTED:
        return True
    try:
        if not issubclass(narrow, wide):
            return False
    except TypeError:  # a protocol or a TypedDict
        return True
    given, asked = get_args(answered), get_args(declared)
    if wide is not narrow or len(given) != len(asked) or get_origin(declared) is Literal:
        return True
    return all(agree(one, other) for one, other in zip(asked, given, strict=True))


def _open(kind: object) -> bool:
    return kind is Any or kind is Ellipsis or isinstance(kind, TypeVar | str)


def _is_union(kind: object) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _is_none(kind: object) -> bool:
    return kind is None or kind is types.NoneType


def _class_of(kind: object) -> type | None:
    if get_origin(kind) is Literal:
        found = {type(cast(object, value)) for value in get_args(kind)}
        return found.pop() if len(found) == 1 else None
    supertype = cast("Callable[..., object] | None", getattr(kind, "__supertype__", None))
    if supertype is not None:
        return _class_of(supertype)
    origin = get_origin(kind) or kind
    return origin if isinstance(origin, type) else None
