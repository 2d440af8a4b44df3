"""The hidden fields of one type: a body without them, and an edited body with them put back."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import msgspec

Path: TypeAlias = tuple[str, ...]

_MARK: Final = re.compile(r"«hidden (\d{1,9})»")
_LITERAL: Final = re.compile(r'"«hidden (\d{1,9})»"')
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
        words = {
            form
            for value in values
            for word in _words(value)
            if len(word) >= _SHORTEST
            for form in _quoted(word)
        }
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

    def changed(self, before: bytes, after: bytes) -> int:
        """How many of the hidden values of one body are other ones, or none, in another body."""
        if not self:
            return 0
        try:
            old, new = (self._hide(json.loads(data))[1] for data in (before, after))
        except (ValueError, RecursionError):
            return 0
        return sum(a != b for a, b in itertools.zip_longest(old, new, fillvalue=_Mark()))

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


def _quoted(word: str) -> Iterable[str]:
    """A value as errors quote it: as it is, and with escapes as Python and JSON write it."""
    yield word
    for quoted in (repr(word), ascii(word), json.dumps(word), json.dumps(word, ensure_ascii=False)):
        yield quoted[1:-1]


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
