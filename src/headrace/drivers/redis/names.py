"""The names of what the driver keeps in Redis, and the form of its positions."""

from __future__ import annotations

import re
from typing import Final

COUNT: Final = "partitions"
"""The field of a topic's hash that has its number of partitions."""

START: Final = "0-0"
"""Before every entry of a stream."""

_ID: Final = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?", re.ASCII)


class Names:
    """The keys below one prefix.

    The braces make all keys of a topic hash to one slot, so that a proxy in front of a sharded Redis keeps them together.

    Args:
        prefix: what every key begins with.
    """

    __slots__ = ("prefix",)

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def topic(self, topic: str) -> str:
        """The hash that has the topic's number of partitions."""
        return f"{self.prefix}:{{{topic}}}"

    def stream(self, topic: str, partition: int) -> str:
        """The stream of one partition."""
        return f"{self.prefix}:{{{topic}}}:{partition}"

    def settled(self, topic: str) -> str:
        """The hash that has, for each `group/partition`, the id up to which the group has settled."""
        return f"{self.prefix}:{{{topic}}}:settled"


def id_of(position: str) -> tuple[int, int] | None:
    """The two numbers of an entry's id, which compare as entries stand in a stream; None if it is no id."""
    found = _ID.fullmatch(position)
    return None if found is None else (int(found[1]), int(found[2] or 0))


def id_text(number: tuple[int, int]) -> str:
    """The id as Redis writes it."""
    return f"{number[0]}-{number[1]}"
