"""Structured mode: a CloudEvent as one JSON object, attributes and data together.

Source: CloudEvents 1.0.2, JSON Event Format.
"""

from __future__ import annotations

import base64
import re
from typing import Final

import msgspec

from headrace.errors import EnvelopeError

_JSON: Final = re.compile(r"[^/]+/(?:[^;]*\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)

# The members stay as bytes: the data is handed on as it came, however deep it is.
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_value: Final = msgspec.json.Decoder(str | bool | int | None).decode
_text: Final = msgspec.json.Decoder(str).decode


def read_structured(body: bytes) -> tuple[dict[str, str], bytes]:
    """The attributes, as text, and the data of an event in JSON.

    Raises:
        EnvelopeError: it is no JSON object, an attribute is no text, number or truth value, or the data is not readable.
    """
    try:
        members = _members(body)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(
            f"the body of {len(body)} bytes is no CloudEvent in JSON: {error}."
        ) from error
    data, data_base64 = members.pop("data", None), members.pop("data_base64", None)
    found: dict[str, str] = {}
    for name, member in members.items():
        try:
            value = _value(member)
        except (ValueError, RecursionError) as error:
            raise EnvelopeError(
                f"the attribute {name[:100]!r} is no text, whole number or truth value: {error}."
            ) from error
        if value is None:
            continue  # the same as left out
        found[name] = value if isinstance(value, str) else str(value).lower()
    if data is not None and data_base64 is not None:
        raise EnvelopeError("the event has both 'data' and 'data_base64'.")
    if data is not None:
        return found, _data(bytes(data), found.get("datacontenttype"))
    if data_base64 is not None:
        return found, _from_base64(bytes(data_base64))
    return found, b""


def _data(member: bytes, content_type: str | None) -> bytes:
    if content_type is None or _JSON.fullmatch(content_type):
        return member
    if member == b"null":
        return b""
    try:
        return _text(member).encode()
    except (ValueError, RecursionError):
        return member  # a JSON value under another media type: what it is the codec finds out


def _from_base64(member: bytes) -> bytes:
    try:
        text = _value(member)
        return b"" if text is None else base64.b64decode(str(text), validate=True)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(f"'data_base64' is no base64: {error}.") from error
