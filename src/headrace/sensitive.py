"""Marks fields of messages whose values people are not to see: `email: Annotated[str, Sensitive]`."""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Iterator, Mapping
from typing import cast


class Sensitive:
    """Stands in the annotation of a field: the dashboard and the command line hide its value.

    It changes nothing of how a message is written.

    `email: Annotated[str, Sensitive]`, as the class or as an object of it.
    """

    __slots__ = ()


def sensitive_paths(cls: type) -> list[tuple[str, ...]]:
    """The marked fields of a class and of the classes in it, by the names that they have in JSON.

    A field in which a class with marked fields stands within itself, such as the children of a tree, is marked as a whole:
    its marked fields may be at any depth.
    """
    return list(_of_class(cls, ()))


def _of_class(
    cls: type, around: tuple[type, ...], *, within_itself: bool = True
) -> Iterator[tuple[str, ...]]:
    if cls in around:
        if within_itself and any(True for _ in _of_class(cls, (), within_itself=False)):
            yield ()
        return
    hints: Mapping[str, object] = {}
    # A name that cannot be resolved is a wiring fault of its own.
    with contextlib.suppress(Exception):
        hints = typing.get_type_hints(cls, include_extras=True)
    for name, hint in hints.items():
        written = name_in_json(cls, name)
        for path in _of_hint(hint, (*around, cls), within_itself=within_itself):
            yield (written, *path)


def _of_hint(
    hint: object, around: tuple[type, ...], *, within_itself: bool
) -> Iterator[tuple[str, ...]]:
    if _is_marked(hint):
        yield ()
        return
    if isinstance(hint, type) and getattr(hint, "__annotations__", None):
        yield from _of_class(hint, around, within_itself=within_itself)
    parts = cast("tuple[object, ...]", typing.get_args(hint))
    origin = typing.get_origin(hint)
    is_mapping = isinstance(origin, type) and issubclass(origin, Mapping)
    if origin is typing.Annotated:
        parts = parts[:1]
    for part in parts:
        for path in _of_hint(part, around, within_itself=within_itself):
            yield ("*", *path) if is_mapping else path


def _is_marked(hint: object) -> bool:
    notes: tuple[object, ...] = getattr(hint, "__metadata__", ())
    return any(note is Sensitive or isinstance(note, Sensitive) for note in notes)


def name_in_json(cls: type, name: str) -> str:
    """The name of a field in JSON, which a Struct or a pydantic model may write otherwise."""
    fields: tuple[str, ...] = getattr(cls, "__struct_fields__", ())
    if name in fields:
        encoded: tuple[str, ...] = getattr(cls, "__struct_encode_fields__", fields)
        return encoded[fields.index(name)]
    models: Mapping[str, object] = getattr(cls, "model_fields", {})
    model = models.get(name)
    for alias in ("serialization_alias", "alias"):
        found = getattr(model, alias, None)
        if isinstance(found, str):
            return found
    return name
