"""JSON Schemas of message classes, as the codec writes them, in the dialect that AsyncAPI reads (draft 7)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Final, Protocol, cast

import msgspec

Schema = dict[str, object]
"""A JSON Schema."""

_DEFS: Final = "#/$defs/"
_COMPONENTS: Final = "#/components/schemas/"
_ONE: Final = ("additionalItems", "additionalProperties", "contains", "else", "if", "not")
_ONE_MORE: Final = ("propertyNames", "then")
_MANY: Final = ("allOf", "anyOf", "oneOf")
_NAMED: Final = ("patternProperties", "properties")


class Schemas:
    """The schemas of a document, each under a name of its own."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        """By name, in the order asked for."""
        self._raw: dict[str, Schema] = {}
        self._refs: dict[type, Schema] = {}

    def of(self, cls: type) -> Schema:
        """A reference to the schema of a class.

        A class whose schema cannot be told gets one that takes anything and says why.
        """
        if cls not in self._refs:
            self._refs[cls] = self._made(cls)
        return self._refs[cls]

    def _made(self, cls: type) -> Schema:
        root: Schema
        defs: dict[str, Schema]
        try:
            root, defs = _told(cls)
        except Exception as error:  # libraries raise what they like for types that they cannot tell
            root = {
                "title": cls.__name__,
                "description": f"What it is made of is not known: {str(error).splitlines()[0]}",
            }
            defs = {}
        own = _root_name(root, cls)
        if own not in defs:
            defs = {own: root, **defs}
        names = self._names(cls, own, defs)
        for name, schema in defs.items():
            self._raw.setdefault(names[name], schema)
            self.components.setdefault(names[name], draft7(_renamed(schema, names)))
        return {"$ref": f"{_COMPONENTS}{names[own]}"}

    def _names(self, cls: type, own: str, defs: Mapping[str, Schema]) -> dict[str, str]:
        """The names of schemas in the document. Where one is taken by another schema, those of this class get longer ones."""
        plain = {name: _usable(name) for name in defs}
        if all(self._raw.get(plain[name], schema) == schema for name, schema in defs.items()):
            return plain
        start = _usable(f"{cls.__module__}.{cls.__qualname__}")
        return {name: start if name == own else f"{start}.{_usable(name)}" for name in defs}


class _PydanticModel(Protocol):
    def model_json_schema(
        self, *, by_alias: bool, ref_template: str, mode: str
    ) -> dict[str, object]: ...


def _told(cls: type) -> tuple[Schema, dict[str, Schema]]:
    """A schema, and those that it refers to by `#/$defs/`."""
    if hasattr(cls, "model_json_schema"):
        return _pydantic(cls)
    inner: dict[str, Schema] = {}

    def foreign(kind: type) -> Schema:
        """A pydantic model inside a class of another kind."""
        if hasattr(kind, "model_json_schema"):
            root, defs = _pydantic(kind)
            inner.update(defs)
            inner.setdefault(kind.__name__, root)
            return {"$ref": f"{_DEFS}{kind.__name__}"}
        if kind is object:
            return {"description": "Any value."}
        raise TypeError(f"{kind.__qualname__} has no form in JSON")

    (root,), found = msgspec.json.schema_components(
        [cls], schema_hook=foreign, ref_template=f"{_DEFS}{{name}}"
    )
    return root, {**found, **inner}


def _pydantic(cls: type) -> tuple[Schema, dict[str, Schema]]:
    model = cast(_PydanticModel, cls)
    root = model.model_json_schema(
        by_alias=True, mode="serialization", ref_template=f"{_DEFS}{{model}}"
    )
    defs = cast("dict[str, Schema]", root.pop("$defs", {}))
    return root, defs


def _root_name(root: Schema, cls: type) -> str:
    ref = root.get("$ref")
    return ref.removeprefix(_DEFS) if isinstance(ref, str) else cls.__name__


def _usable(name: str) -> str:
    """A name as keys of components may be."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_")


def _renamed(value: object, names: Mapping[str, str]) -> Schema:
    return cast(Schema, _rename(value, names))


def _rename(value: object, names: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        found = cast("dict[str, object]", value)
        return {name: _ref(name, one, names) for name, one in found.items()}
    if isinstance(value, list):
        return [_rename(one, names) for one in cast("list[object]", value)]
    return value


def _ref(name: str, value: object, names: Mapping[str, str]) -> object:
    if name == "$ref" and isinstance(value, str) and value.startswith(_DEFS):
        return f"{_COMPONENTS}{names[value.removeprefix(_DEFS)]}"
    return _rename(value, names)


def draft7(schema: Schema) -> Schema:
    """The same schema in the words of draft 7, from those of 2020-12."""
    found = dict(schema)
    text = found.get("description")
    if isinstance(text, str):  # it was a docstring, with the indentation of its class
        found["description"] = inspect.cleandoc(text)
    # Draft 7 has no word for it that says more than `anyOf`, and AsyncAPI's own means something else.
    found.pop("discriminator", None)
    if "prefixItems" in found:
        rest = found.pop("items", None)
        found["items"] = found.pop("prefixItems")
        if rest is not None:
            found["additionalItems"] = rest
    for name in (*_ONE, *_ONE_MORE, "items"):
        if name in found:
            found[name] = _draft7(found[name])
    for name in (*_MANY, "items"):
        inner = found.get(name)
        if isinstance(inner, list):
            found[name] = [_draft7(one) for one in cast("list[object]", inner)]
    for name in _NAMED:
        inner = found.get(name)
        if isinstance(inner, dict):
            named = cast("dict[str, object]", inner)
            found[name] = {key: _draft7(one) for key, one in named.items()}
    if "$ref" in found and len(found) > 1:  # what stands beside a reference is not read
        ref = found.pop("$ref")
        found["allOf"] = [{"$ref": ref}]
    return found


def _draft7(value: object) -> object:
    """A schema may be a truth value too."""
    return draft7(cast(Schema, value)) if isinstance(value, dict) else value
