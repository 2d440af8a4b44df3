"""Topics of an app and their names on the servers, which allow few characters."""

from __future__ import annotations

import re
from typing import Final

from headrace.errors import ConfigurationError

_ALLOWED: Final = re.compile(r"[a-zA-Z0-9._-]+")
_ESCAPED: Final = "headrace.escaped."
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_LONGEST: Final = 249


def server_name(topic: str, prefix: str) -> str:
    """The topic's name on the servers: prefix and name; a name that Kafka forbids is escaped, `ü` as `_C3_BC`.

    Two topics never get one name: an escaped one says so at its beginning, and its own underscores are escaped too.

    Raises:
        ConfigurationError: it would be longer than 249 characters, or empty.
    """
    name = prefix + topic
    if name in (".", "..") or not _ALLOWED.fullmatch(name) or name.startswith(_ESCAPED):
        name = _ESCAPED + "".join(
            chr(byte) if byte in _PLAIN else f"_{byte:02X}" for byte in name.encode()
        )
    if not topic or len(name) > _LONGEST:
        raise ConfigurationError(
            f"the topic {topic!r} would be {name!r} on the Kafka servers, whose names have 1 to {_LONGEST} characters. Give "
            "it a shorter name."
        )
    return name
