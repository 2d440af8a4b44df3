"""Which characters text may have: the attributes of messages, and what is kept for people."""

from __future__ import annotations

import re
from functools import cache


@cache
def _forbidden() -> re.Pattern[str]:
    # Compiled when the first text asks that is not plain ASCII: `import headrace` stays quick.
    planes = "".join(
        f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17)
    )
    return re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{planes}]")


def forbidden_character(text: str) -> str | None:
    """The first character that CloudEvents forbids in a string (control, lone surrogate, noncharacter), or None.

    Source: CloudEvents 1.0.2, "Type System", String.
    """
    if text.isascii() and text.isprintable():
        return None
    found = _forbidden().search(text)
    return found[0] if found is not None else None


def keepable(text: str) -> str:
    """Text as every database, and JSON, can keep it: NUL and lone surrogates are written as escapes.

    PostgreSQL refuses NUL in a text, and nothing encodes a lone surrogate as UTF-8. A message whose error quotes one, of its
    own payload perhaps, could not be stored as a dead letter, and would stop its partition.
    """
    if "\x00" in text:
        text = text.replace("\x00", "\\x00")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def said_by(error: BaseException) -> str:
    """What an exception says, `keepable`; also of one whose `str()` raises."""
    try:
        return keepable(str(error))
    except Exception as failed:
        return f"<str() of it raised {type(failed).__name__}>"
