"""What a class was given for the type parameters of one of its generic bases, as declared in its source."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from typing import ForwardRef, cast, get_args, get_origin, get_type_hints


def generic_arguments(cls: type, base: type) -> tuple[object, ...] | None:
    """The arguments that `cls` gives to its generic base, through any number of classes between.

    Args:
        cls: any class.
        base: a generic class, such as `Request`.

    Returns:
        One object a type parameter: a type, None, an alias such as `list[Item]`. A quoted name that does not resolve
        stays a `ForwardRef`, a parameter that nobody filled a `TypeVar`. None if `cls` is no subclass of `base`, or no
        class on the way gives arguments.
    """
    if not issubclass(cls, base):
        return None
    declared = cast("tuple[object, ...]", vars(cls).get("__orig_bases__", cls.__bases__))
    for alias in declared:
        origin = get_origin(alias) or alias
        if not isinstance(origin, type) or not issubclass(origin, base):
            continue
        given = tuple(resolved(argument, cls) for argument in get_args(alias))
        if origin is base:
            if given:
                return given
            continue
        inner = generic_arguments(origin, base)
        if inner is not None:
            parameters = cast("tuple[object, ...]", getattr(origin, "__parameters__", ()))
            filled = dict(zip(parameters, given, strict=False))
            return tuple(_substituted(argument, filled) for argument in inner)
    return None


def resolved(annotation: object, cls: type) -> object:
    """A quoted annotation as seen from the module of `cls`; the `ForwardRef` itself if it does not resolve."""
    if not isinstance(annotation, str | ForwardRef):
        return annotation
    module = sys.modules.get(cls.__module__)
    names = dict(vars(module)) if module is not None else {}
    names.setdefault(cls.__name__, cls)
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return cast(object, get_type_hints(holder, names, names, include_extras=True)["it"])
    except (NameError, AttributeError, SyntaxError):
        return ForwardRef(annotation) if isinstance(annotation, str) else annotation


def _substituted(argument: object, filled: Mapping[object, object]) -> object:
    if argument in filled:
        return filled[argument]
    parameters = cast("tuple[object, ...]", getattr(argument, "__parameters__", ()))
    if isinstance(argument, type) or not any(parameter in filled for parameter in parameters):
        return argument
    alias = cast("Mapping[object, object]", argument)
    return alias[tuple(filled.get(parameter, parameter) for parameter in parameters)]
