"""What is hidden of each type of an app: what its author marked, and what whoever looks asked for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, TypeAlias, cast

from headrace.description import MessageInfo
from headrace.errors import ConfigurationError
from headrace.redaction.hidden import Hidden, Path
from headrace.sensitive import name_in_json, sensitive_paths

Redact: TypeAlias = (
    Mapping[type, Iterable[str]] | Mapping[str, Iterable[str]] | Mapping[type | str, Iterable[str]]
)
"""Paths of fields by class, by type on the wire, or by "*" for all types: `{UserJoined: ["email", "card.number"]}`.

A path goes through lists by itself; `*` stands for any name. `["*"]` hides the whole body.
"""

_KEY: Final = re.compile(r"""\bkey (?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")""")

MARK: Final = "«hidden»"
"""Stands for a hidden key."""

_TEXT: Final = "«hidden: fields of this type are hidden»"


class Redaction:
    """What is hidden, by type on the wire.

    Args:
        given: what the app's author asked for.
        messages: the app's messages: their annotated fields are hidden too.
        hides_errors: texts of errors of types with hidden fields are hidden altogether.
    """

    def __init__(
        self, given: Redact, messages: Iterable[MessageInfo], *, hides_errors: bool = False
    ) -> None:
        found = {
            key: [_path(one) for one in paths]
            for key, paths in cast("Mapping[type | str, Iterable[str]]", given).items()
        }
        self._everywhere = found.pop("*", [])
        self._named = found
        self._by_type: dict[str, Hidden] = {}
        self._hides_errors = hides_errors
        for message in messages:
            hidden = self._of_message(message)
            self._by_type[message.type or message.id] = hidden
            # A delivery to an after-commit handler has the name of the class as its type.
            self._by_type.setdefault(message.id, hidden)
        for key, paths in self._named.items():
            if isinstance(key, str) and key not in self._by_type:
                self._by_type[key] = Hidden([*self._everywhere, *paths])

    def of(self, type: str) -> Hidden:  # noqa: A002
        """What is hidden in bodies of this type."""
        found = self._by_type.get(type)
        return found if found is not None else Hidden(self._everywhere)

    def key(self, type: str, key: str | None) -> str | None:  # noqa: A002
        """The key of a message of this type, or a mark if it is hidden."""
        return MARK if key is not None and self.of(type).hides_key else key

    def error(self, type: str, text: str, data: bytes | None) -> str:  # noqa: A002
        """The text of an error about a body of this type, as people may see it.

        Args:
            type: on the wire.
            text: as it was recorded.
            data: the body; None if it is not at hand: then it cannot be told what of it the text repeats.
        """
        hidden = self.of(type)
        if not hidden or not text:
            return text
        return _TEXT if data is None or self._hides_errors else hidden.scrub(text, data)

    def record(self, text: str) -> str:
        """The text of an audit record, which names keys, as people may see it."""
        if not any(one.hides_key for one in self._by_type.values()):
            return text
        return _KEY.sub(f"key {MARK}", text)

    @property
    def hides(self) -> bool:
        """True if anything is hidden in any type."""
        return bool(self._everywhere) or any(self._by_type.values())

    def _of_message(self, message: MessageInfo) -> Hidden:
        paths = [*self._everywhere, *sensitive_paths(message.cls)]
        for key, given in self._named.items():
            if isinstance(key, str):
                if key in (message.type, message.id):
                    paths += given
            elif issubclass(message.cls, key):
                paths += given
        return Hidden(paths, hides_key=_hides_key(message, paths))


def _hides_key(message: MessageInfo, paths: Collection[Path]) -> bool:
    """True if the key is a hidden field, or is made by a function of an event that has some: it may be made of them."""
    key, cls = message.key, message.cls
    if key is None or not paths:
        return False
    if not any(key in vars(one).get("__annotations__", ()) for one in cls.__mro__):
        return True
    return bool({(key,), (name_in_json(cls, key),), ("*",)} & set(paths))


def _path(text: str) -> Path:
    parts = tuple(text.split("."))
    if not all(parts):
        raise ConfigurationError(
            f"redact: {text!r} is no path of fields. Write names with dots between, such as 'card.number'."
        )
    return parts
