"""Plain values as YAML: what JSON can say, in blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

import msgspec

# Words and numbers that YAML would read as something else than text stay in quotes.
_PLAIN: Final = re.compile(r"[A-Za-z_$/][A-Za-z0-9_$./ -]*[A-Za-z0-9_$/.]|[A-Za-z_]")
_WORDS: Final = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan"])


def to_yaml(value: object) -> str:
    """A document of plain values as YAML 1.2, which older readers understand too."""
    return "\n".join(_lines(value, 0)) + "\n"


def _lines(value: object, depth: int) -> Iterator[str]:
    start = "  " * depth
    given = value
    if isinstance(value, Mapping) and value:
        for key, one in cast("Mapping[str, object]", value).items():
            if _is_block(one):
                yield f"{start}{_text(key)}:"
                yield from _lines(one, depth + 1)
            else:
                yield f"{start}{_text(key)}: {_inline(one)}"
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for one in cast("Sequence[object]", value):
            if _is_block(one):
                first, *rest = _lines(one, depth + 1)
                yield f"{start}- {first.lstrip(' ')}"
                yield from rest
            else:
                yield f"{start}- {_inline(one)}"
    else:
        yield f"{start}{_inline(given)}"


def _is_block(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple) and bool(cast("Sequence[object]", value))


def _inline(value: object) -> str:
    return _text(value) if isinstance(value, str) else msgspec.json.encode(value).decode()


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return msgspec.json.encode(value).decode()
