"""The names of exchanges and queues, and the positions of messages.

| what | name |
| --- | --- |
| exchange of a topic | `<topic>` |
| queue of a group's reading | `<group>.<topic>.<partition>` |
| record of a topic's partition count | `<topic>.partitions` |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from headrace.errors import ConfigurationError

# What AMQP 0-9-1 allows and clients let through, without "+", which begins an escape here.
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9\-_.:@#,/ ]")
_MOST_EXCHANGE_BYTES: Final = 127
_MOST_QUEUE_BYTES: Final = 255


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"+{byte:02X}" for byte in match.group().encode())


@dataclass(frozen=True, slots=True)
class Names:
    """Names on the server.

    A character that names cannot have is written as `+` and the hexadecimal digits of its UTF-8 bytes. So is a dot in the
    name of a group: else group `a` on topic `b.c` and group `a.b` on topic `c` would share a queue, and each lose what
    the other took.

    Args:
        prefix: begins every name; default none.
    """

    prefix: str = ""

    def exchange(self, topic: str) -> str:
        """The exchange of a topic.

        Raises:
            ConfigurationError: the topic has no name, or too long a one.
        """
        name = self.prefix + _NO_NAME.sub(_escaped, topic)
        if name.startswith("amq."):
            # The server keeps these for itself.
            name = "+61" + name[1:]
        return _checked(name, bool(topic), f"topic {topic!r}", _MOST_EXCHANGE_BYTES)

    def queue(self, group: str, topic: str, partition: int) -> str:
        """The queue that keeps a partition of a topic for a group.

        Raises:
            ConfigurationError: topic or group have no name, or the names are too long together.
        """
        start = self.prefix + _NO_NAME.sub(_escaped, group).replace(".", "+2E")
        name = f"{start}.{_NO_NAME.sub(_escaped, topic)}.{partition}"
        usable = bool(topic and group)
        return _checked(name, usable, f"group {group!r} on topic {topic!r}", _MOST_QUEUE_BYTES)

    def record(self, topic: str) -> str:
        """The queue whose arguments record the partition count of a topic."""
        return f"{self.exchange(topic)}.partitions"


def _checked(name: str, usable: bool, what: str, most: int) -> str:
    if not usable:
        raise ConfigurationError(f"{what}: a name is empty. Give one.")
    if len(name) > most:
        raise ConfigurationError(
            f"{what}: its name on the server, {name[:60]!r}..., would have {len(name)} bytes, and RabbitMQ's clients take "
            f"{most} at most. Take shorter names; letters outside of ASCII count three times or more."
        )
    return name


def position(opening: str, tag: int) -> str:
    """The position of a message: delivery tags count within one opening of a channel only, so that is named too."""
    return f"{opening}.{tag}"


def tag_of(position: str | None, opening: str) -> int:
    """The delivery tag of a position of this opening; 0, behind which all messages stand, for any other."""
    if position is None:
        return 0
    of, _, tag = position.rpartition(".")
    return int(tag) if of == opening and tag.isdecimal() else 0
