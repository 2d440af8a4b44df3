"""Fields that never leave the server: which they are, a body without them, and an edited body with them put back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import msgspec

from headrace.description import MessageInfo
from headrace.errors import ConfigurationError
from headrace.sensitive import sensitive_paths

Redact: TypeAlias = (
    Mapping[type, Iterable[str]] | Mapping[str, Iterable[str]] | Mapping[type | str, Iterable[str]]
)
"""Paths of fields by class, by type on the wire, or by "*" for all types: `{UserJoined: ["email", "card.number"]}`.

A path goes through lists by itself; `*` stands for any name. `["*"]` hides the whole body.
"""

Path: TypeAlias = tuple[str, ...]

_MARK: Final = re.compile(r"«hidden (\d{1,9})»")
_LITERAL: Final = re.compile(r'"«hidden (\d{1,9})»"')
_KEY: Final = re.compile(r"""\bkey (?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")""")
_SHORTEST = 3  # of a value that is looked for in texts: shorter ones are everywhere


class Unusable(ValueError):
    """A text that was edited cannot become a body. The message is for the person who edited it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A body as people may see it.

    Args:
        text: JSON, indented; another text as it is; of anything else a line that says what it is.
        hidden: how many values are hidden in it.
        editable: it can be edited as text.
    """

    text: str
    hidden: int = 0
    editable: bool = True


class _Mark(str):
    """Stands in the place of a hidden value."""

    __slots__ = ()


class Hidden:
    """The fields of one type that are hidden.

    Args:
        paths: of the fields.
        hides_key: the message's key is one of them.
    """

    def __init__(self, paths: Sequence[Path], *, hides_key: bool = False) -> None:
        # The shorter first: what lies within a hidden value needs no mark of its own.
        self.paths = tuple(sorted(dict.fromkeys(paths), key=len))
        self.hides_key = hides_key

    def __bool__(self) -> bool:
        return bool(self.paths)

    def show(self, data: bytes) -> Shown:
        """The body without what is hidden."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return Shown(f"{len(data):,} bytes that are no text", editable=False)
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError):
            if self:
                return Shown(
                    f"{len(data):,} bytes that are no JSON. Fields of this type are hidden, so the body is not shown.",
                    editable=False,
                )
            return Shown(text)
        if not self:
            try:
                return Shown(msgspec.json.format(text, indent=2))
            except msgspec.MsgspecError:  # such as NaN, which Python takes for JSON
                return Shown(text)
        shown, values = self._hide(value)
        return Shown(json.dumps(shown, indent=2, ensure_ascii=False), len(values))

    def scrub(self, text: str, data: bytes) -> str:
        """A text about the body, such as an error's, without the hidden values."""
        if not self:
            return text
        try:
            _, values = self._hide(json.loads(data))
        except (ValueError, RecursionError):
            return "«hidden: the body is no JSON, and fields of this type are hidden»"
        words = {word for value in values for word in _words(value) if len(word) >= _SHORTEST}
        for word in sorted(words, key=len, reverse=True):
            text = text.replace(word, "«hidden»")
        return text

    def restore(self, text: str, data: bytes) -> bytes:
        """An edited text as a body, with the hidden values of `data` where the text still has their marks.

        Raises:
            Unusable: the text is no JSON, or a mark stands where its value could be seen.
        """
        try:
            value: object = json.loads(text)
        except RecursionError:
            raise Unusable("This is nested too deep.") from None
        except ValueError as error:
            if not self and not _is_json(data):  # another codec's text
                return text.encode()
            raise Unusable(f"This is no JSON: {error}.") from None
        if not self:
            return _compact(text)
        _, originals = self._hide(json.loads(data))
        marks: list[int] = []

        def take(found: object) -> object:
            mark = _MARK.fullmatch(found) if isinstance(found, str) else None
            if mark is not None:
                marks.append(int(mark[1]))
                return None
            return found

        rest = self._replace(value, take)
        if any(_MARK.search(word) for word in _words(rest, names=True)) or len(marks) != len(
            _LITERAL.findall(text)
        ):
            raise Unusable(
                "A mark such as «hidden 1» may stand only as the whole value of a field that is hidden: elsewhere its value "
                "could be seen. Put it back to its place, or write a new value there."
            )
        if unknown := [mark for mark in marks if not 1 <= mark <= len(originals)]:
            raise Unusable(f"There is no hidden value {unknown[0]}. Write a new value there.")

        def reveal(mark: re.Match[str]) -> str:
            return json.dumps(originals[int(mark[1]) - 1], ensure_ascii=False)

        return _compact(_LITERAL.sub(reveal, text))

    def _hide(self, value: object) -> tuple[object, list[object]]:
        values: list[object] = []

        def hide(found: object) -> object:
            if isinstance(found, _Mark):
                return found
            values.append(found)
            return _Mark(f"«hidden {len(values)}»")

        return self._replace(value, hide), values

    def _replace(self, value: object, change: Callable[[object], object]) -> object:
        for path in self.paths:
            value = _walk(value, path, change)
        return value


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
        self._by_name: dict[str, Hidden] = {}
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

    def error(self, type: str, text: str, data: bytes) -> str:  # noqa: A002
        """The text of an error about a body of this type, as people may see it."""
        hidden = self.of(type)
        if hidden and self._hides_errors and text:
            return "«hidden: fields of this type are hidden»"
        return hidden.scrub(text, data)

    def record(self, text: str) -> str:
        """The text of an audit record, which names keys, as people may see it."""
        if not any(one.hides_key for one in self._by_type.values()):
            return text
        return _KEY.sub("key «hidden»", text)

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
        key_path = (message.key,) if message.key is not None else None
        return Hidden(paths, hides_key=key_path in paths or ("*",) in paths)


def _compact(text: str) -> bytes:
    """Without the indentation, token by token: a number stays as it was written."""
    try:
        return msgspec.json.format(text.encode(), indent=-1)
    except msgspec.MsgspecError as error:
        raise Unusable(f"This is no JSON: {error}.") from None


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _path(text: str) -> Path:
    parts = tuple(text.split("."))
    if not all(parts):
        raise ConfigurationError(
            f"redact: {text!r} is no path of fields. Write names with dots between, such as 'card.number'."
        )
    return parts


def _walk(value: object, path: Path, change: Callable[[object], object]) -> object:
    if isinstance(value, list):
        return [_walk(one, path, change) for one in cast("list[object]", value)]
    if not isinstance(value, dict):
        # Where an object should be stands a value: it may be what is to be hidden, in a form that nobody expected.
        return value if value is None else change(value)
    found = cast("dict[str, object]", value)
    head, *rest = path
    for name in list(found) if head == "*" else [head] if head in found else []:
        if rest:
            # Any name may lead to the field: other fields beside are no such place.
            if head != "*" or isinstance(found[name], dict | list):
                found[name] = _walk(found[name], tuple(rest), change)
        else:
            found[name] = change(found[name])
    return found


def _words(value: object, *, names: bool = False) -> Iterable[str]:
    """Every scalar below a value as text."""
    if isinstance(value, dict):
        for name, one in cast("dict[str, object]", value).items():
            if names:
                yield name
            yield from _words(one, names=names)
    elif isinstance(value, list):
        for one in cast("list[object]", value):
            yield from _words(one, names=names)
    elif isinstance(value, str):
        yield value
    elif value is not None and not isinstance(value, bool):
        yield json.dumps(value)
