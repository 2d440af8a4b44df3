"""Which characters the text of a message's attributes may have."""

from __future__ import annotations

import re
from typing import Final

_NONCHARACTERS: Final = "".join(
    f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17)
)
_FORBIDDEN: Final = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_NONCHARACTERS}]")


def forbidden_character(text: str) -> str | None:
    """The first character that CloudEvents forbids in a string (control, lone surrogate, noncharacter), or None.

    Source: CloudEvents 1.0.2, "Type System", String.
    """
    if text.isascii() and text.isprintable():
        return None
    found = _FORBIDDEN.search(text)
    return found[0] if found is not None else None
