"""For the reference on the site: msgspec Structs have constructors, with the types and defaults of their fields.

griffe, which reads the docstrings for mkdocs, knows dataclasses only.
"""

from __future__ import annotations

from typing import Any

from griffe import Attribute, Class, Extension, Function, Parameter, ParameterKind, Parameters


class Structs(Extension):
    """Gives a class below `msgspec.Struct` the constructor that its fields make."""

    def on_class(self, *, cls: Class, **kwargs: Any) -> None:
        """Called for each class, with all that is in it."""
        if "__init__" in cls.members or not any(str(base) in _STRUCTS for base in cls.bases):
            return
        fields = [
            Parameter(
                name,
                annotation=member.annotation,
                kind=ParameterKind.positional_or_keyword,
                default=member.value,
            )
            for name, member in cls.members.items()
            if isinstance(member, Attribute) and member.annotation is not None
        ]
        myself = Parameter("self", kind=ParameterKind.positional_or_keyword)
        cls.set_member(
            "__init__",
            Function(
                "__init__", parent=cls, parameters=Parameters(myself, *fields), returns="None"
            ),
        )


_STRUCTS = ("Struct", "msgspec.Struct")
