"""What a harness answers to a question: a list that knows what was asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

_MOST_LETTERS = 200


class Answer(list[T]):
    """A list, equal to any list of the same items.

    Args:
        found: the items.
        question: what was asked, as it is written in a test, such as `published(MeetingJoined, key='m1')`.
    """

    def __init__(self, found: Iterable[T], question: str) -> None:
        super().__init__(found)
        self.question = question

    def difference(self, expected: Sequence[object]) -> list[str]:
        """Lines that tell a person how it differs from what a test expected."""
        missing, more = list(expected), list[object]()
        for one in self:
            if one in missing:
                missing.remove(one)
            else:
                more.append(one)
        if not missing and not more:
            return [f"{self.question} has these, in another order:", *_numbered(self)]
        lines = [f"{self.question} has {len(self) or 'none'}, not {len(expected) or 'none'}"]
        if len(self) == len(expected):
            lines = [f"{self.question} has others than these"]
        lines += [f"missing: {_short(one)}" for one in missing]
        lines += [f"besides: {_short(one)}" for one in more]
        return lines


def _numbered(found: Sequence[object]) -> list[str]:
    return [f"  {number}. {_short(one)}" for number, one in enumerate(found, 1)]


def _short(one: object) -> str:
    text = repr(one)
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 3]}..."


def asked(question: str, *arguments: object, **named: object) -> str:
    """A question as a test writes it."""
    parts = [getattr(one, "__qualname__", None) or repr(one) for one in arguments]
    parts += [f"{name}={value!r}" for name, value in named.items() if value is not None]
    return f"{question}({', '.join(part.rpartition('<locals>.')[2] for part in parts)})"
