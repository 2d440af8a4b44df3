"""Messages of an AsyncAPI document: what their headers and bodies are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from headrace.asyncapi.schemas import Schema, Schemas

if TYPE_CHECKING:
    from headrace.description import MessageInfo

HEADERS: Final = "CloudEventsHeaders"
"""The name of the schema that all messages share."""

_ATTRIBUTES: Final[tuple[tuple[str, Schema], ...]] = (
    ("specversion", {"const": "1.0"}),
    ("id", {"type": "string", "minLength": 1, "description": "Unique for each source; a UUIDv7."}),
    ("source", {"type": "string", "minLength": 1, "description": "The app that raised it."}),
    ("type", {"type": "string", "minLength": 1, "description": "What kind of event it is."}),
    ("time", {"type": "string", "format": "date-time", "description": "When it was raised."}),
    ("subject", {"type": "string", "description": "The key."}),
    (
        "partitionkey",
        {"type": "string", "description": "The key: events of one key of a topic stay in order."},
    ),
    ("dataschema", {"type": "string", "description": "Where the schema of the body is."}),
    ("sequence", {"type": "string", "description": "Sorts in the order of first publication."}),
    (
        "correlationid",
        {"type": "string", "description": "The same for all that one outside request caused."},
    ),
    ("causationid", {"type": "string", "description": "The id of what raised this event."}),
    ("traceparent", {"type": "string", "description": "W3C Trace Context."}),
)
_REQUIRED: Final = ("specversion", "id", "source", "type")


def headers_schema(prefix: str) -> Schema:
    """The headers of every message, in the binary mode of CloudEvents.

    Args:
        prefix: of the protocol; empty where attributes are kept without headers.
    """
    return {
        "title": "CloudEvents 1.0 attributes",
        "description": "The caller's metadata stand beside them, each as an attribute of its own name.",
        "type": "object",
        "properties": {f"{prefix}{name}": schema for name, schema in _ATTRIBUTES},
        "required": [f"{prefix}{name}" for name in _REQUIRED],
        "additionalProperties": {"type": "string"},
    }


def names_of(messages: Iterable[MessageInfo]) -> dict[str, str]:
    """The key of each message in the document, by its id: the name of the class, longer where two have the same."""
    given = list(messages)
    count: dict[str, int] = {}
    for one in given:
        count[one.name] = count.get(one.name, 0) + 1
    return {
        one.id: one.name if count[one.name] == 1 else _plain(one.id.replace(":", "."))
        for one in given
    }


def message(info: MessageInfo, schemas: Schemas, *, prefix: str, content_type: str) -> Schema:
    """A notification as a message object."""
    found: Schema = {"name": info.type, "title": info.name}
    if info.doc:
        found["summary"] = info.doc
    found["contentType"] = content_type
    found["headers"] = {
        "allOf": [
            {"$ref": f"#/components/schemas/{HEADERS}"},
            {"type": "object", "properties": {f"{prefix}type": {"const": info.type}}},
        ]
    }
    found["payload"] = schemas.of(info.cls)
    found["correlationId"] = {"$ref": "#/components/correlationIds/request"}
    found["x-headrace-key"] = info.key
    return found


def request(info: MessageInfo, schemas: Schemas, *, content_type: str) -> Schema:
    """A command or query, which never leaves its process, as a message object."""
    found: Schema = {"name": info.id, "title": info.name}
    if info.doc:
        found["summary"] = info.doc
    found["contentType"] = content_type
    found["payload"] = schemas.of(info.cls)
    found["x-headrace-kind"] = info.kind
    return found


def _plain(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
