"""Names on the server: streams, subjects and keys for topics and groups of any name."""

from __future__ import annotations

import re
from typing import Final

from headrace.errors import ConfigurationError

_TO_ESCAPE: Final = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPED: Final = re.compile(rb"=([0-9A-F]{2})")
_LONGEST: Final = 200
"""Characters of an escaped name. The server allows 255, and makes file names of streams."""


def escaped(name: str) -> str:
    """A name as one token of a subject. Letters, digits, `-` and `_` stay; other bytes are `=` and two hexadecimal digits.

    `unescaped` gives the name back, so no two names share a token. The empty name is a lone `=`.

    Raises:
        ConfigurationError: it is too long for the server.
    """
    if not name:
        return "="
    token = _TO_ESCAPE.sub(lambda found: b"=%02X" % found[0][0], name.encode()).decode()
    if len(token) > _LONGEST:
        raise ConfigurationError(
            f"the name {name[:80]!r}... has {len(token)} characters on a NATS server, where {_LONGEST} are allowed. Take a "
            "shorter one; each character other than a-z, A-Z, 0-9, - and _ counts three or more."
        )
    return token


def unescaped(token: str) -> str:
    """The name that `escaped` was given."""
    if token == "=":
        return ""
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), token.encode()).decode()


class Names:
    """What stands on the server under which name.

    Args:
        prefix: put before all of them, so that several installations share a server.
    """

    __slots__ = ("_prefix",)

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def stream(self, topic: str) -> str:
        """The stream of a topic."""
        return self._prefix + escaped(topic)

    def subject(self, topic: str, partition: int) -> str:
        """The subject of a partition."""
        return f"{self._prefix}{escaped(topic)}.{partition}"

    def subjects(self, topic: str, count: int) -> list[str]:
        """The subjects of a topic of so many partitions."""
        base = self._prefix + escaped(topic)
        return [f"{base}.{partition}" for partition in range(count)]

    @property
    def bucket(self) -> str:
        """The key-value bucket with the positions of groups."""
        return f"{self._prefix}headrace_positions"

    def position_subject(self, group: str, topic: str, partition: int) -> str:
        """The subject of the position of a group in a partition: `$KV.<bucket>.<group>.<topic>.<partition>`."""
        return f"$KV.{self.bucket}.{escaped(group)}.{escaped(topic)}.{partition}"
