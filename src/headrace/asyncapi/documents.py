"""The whole document, put together from the description of an app."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from headrace.asyncapi import places
from headrace.asyncapi.messages import HEADERS, headers_schema, message, names_of, request
from headrace.asyncapi.schemas import Schema, Schemas
from headrace.broker import Wire, Wired
from headrace.description import Description, MessageInfo

if TYPE_CHECKING:
    from headrace.app import Headrace

ASYNCAPI: Final = "3.0.0"
"""The version of the specification."""

_NO_VERSION: Final = "0.0.0"
_REQUESTS: Final = "requests"


def document(
    of: Headrace | Description,
    *,
    title: str | None = None,
    version: str = _NO_VERSION,
    description: str | None = None,
    servers: Mapping[str, Mapping[str, object]] | None = None,
    requests: bool = False,
) -> dict[str, object]:
    """The AsyncAPI 3.0 document of an app, as plain values. Does no I/O.

    Channels are topics, with their addresses on the app's broker. Operations are what the app publishes to a topic, and what
    each of its groups reads from it. Payloads are the JSON Schemas of the classes; headers are those of CloudEvents.

    What handlers publish is known as far as they declare it by `raises=`, or have been seen to raise it; the document names
    the handlers that do not declare it, as `x-headrace-undeclared`.

    Args:
        of: the app, which need not run; or its description, of which the broker is not known.
        title: of the document; default the app's name.
        version: of what the document describes, as you count it; default "0.0.0".
        description: a text about it, in Markdown; default none.
        servers: the broker's servers as server objects of AsyncAPI, by name; default those that the app connects to, without
            user and password.
        requests: include commands and queries too, which never leave the process; default False.
    """
    wire: Wire | None = None
    content_type = "application/json"
    if isinstance(of, Description):
        found = of
    else:
        found = of.describe()
        broker: object = of.broker
        wire = broker.wire() if isinstance(broker, Wired) else None
        content_type = of.codec.content_type
    return _Document(found, wire, content_type).made(
        {"title": title or found.app, "version": version, "description": description},
        {name: dict(one) for name, one in (servers or places.servers(wire)).items()},
        requests=requests,
    )


class _Document:
    def __init__(self, description: Description, wire: Wire | None, content_type: str) -> None:
        self._description = description
        self._wire = wire
        self._content_type = content_type
        self._schemas = Schemas()
        self._names = names_of(description.messages)
        self._notifications = [m for m in description.messages if m.type is not None]
        self._messages: dict[str, Schema] = {}

    def made(
        self, info: Mapping[str, object], servers: Mapping[str, Schema], *, requests: bool
    ) -> dict[str, object]:
        """The document."""
        prefix = self._wire.header_prefix if self._wire is not None else ""
        channels = self._channels(prefix)
        operations = self._operations()
        self._schemas.components[HEADERS] = headers_schema(prefix)
        if requests:
            self._add_requests(channels, operations)
        made: dict[str, object] = {
            "asyncapi": ASYNCAPI,
            "info": {name: value for name, value in info.items() if value is not None},
            "defaultContentType": self._content_type,
        }
        if servers:
            made["servers"] = dict(servers)
        made["channels"] = channels
        made["operations"] = operations
        made["components"] = {
            "messages": self._messages,
            "schemas": self._schemas.components,
            "correlationIds": {
                "request": {
                    "description": "The same for all that one outside request caused.",
                    "location": f"$message.header#/{prefix}correlationid",
                }
            },
        }
        undeclared = [one.id for one in self._description.undeclared]
        if undeclared:
            made["x-headrace-undeclared"] = list(dict.fromkeys(undeclared))
        return made

    def _channels(self, prefix: str) -> dict[str, Schema]:
        channels: dict[str, Schema] = {}
        for topic in self._description.topics:
            channel = places.channel(topic, self._wire)
            own = [one for one in self._notifications if one.topic == topic.name]
            channel["messages"] = {
                self._names[one.id]: {"$ref": f"#/components/messages/{self._names[one.id]}"}
                for one in own
            }
            channels[topic.name] = channel
            for one in own:
                made = message(one, self._schemas, prefix=prefix, content_type=self._content_type)
                bindings = places.message_bindings(self._wire, keyed=one.key is not None)
                if bindings:
                    made["bindings"] = bindings
                self._messages[self._names[one.id]] = made
        return channels

    def _operations(self) -> dict[str, Schema]:
        operations: dict[str, Schema] = {}
        raised = {name for handler in self._description.handlers for name in handler.raises}
        for topic in self._description.topics:
            sent = [m for m in self._notifications if m.topic == topic.name and m.id in raised]
            if sent:
                summary = f"{self._description.app} publishes to {topic.name}"
                operation = self._operation("send", topic.name, summary, sent)
                bindings = places.send_bindings(self._wire)
                if bindings:
                    operation["bindings"] = bindings
                operations[f"send.{topic.name}"] = operation
        for group in self._description.groups:
            for name in group.topics:
                read = [m for m in self._notifications if m.topic == name]
                read = [m for m in read if self._reads(group.name, m)]
                summary = f"group {group.name} reads {name}"
                operation = self._operation("receive", name, summary, read)
                bindings = places.receive_bindings(self._wire, group.name)
                if bindings:
                    operation["bindings"] = bindings
                operation["x-headrace-group"] = group.name
                operation["x-headrace-ordered"] = group.ordered
                if self._wire is not None and self._wire.queue is not None:
                    queue = self._wire.queue(group.name, name, "{partition}")
                    operation["x-headrace-queue"] = queue
                operations[_key(f"receive.{group.name}.{name}", operations)] = operation
        return operations

    def _reads(self, group: str, info: MessageInfo) -> bool:
        return any(group in one.groups for one in self._description.handlers_of(info.id))

    def _operation(
        self, action: str, topic: str, summary: str, messages: Iterable[MessageInfo]
    ) -> Schema:
        place = f"#/channels/{topic}"
        return {
            "action": action,
            "channel": {"$ref": place},
            "summary": summary,
            "messages": [{"$ref": f"{place}/messages/{self._names[one.id]}"} for one in messages],
        }

    def _add_requests(self, channels: dict[str, Schema], operations: dict[str, Schema]) -> None:
        """Commands and queries, in a channel without an address."""
        found = [m for m in self._description.messages if m.kind in ("command", "query")]
        if not found:
            return
        place = _key(_REQUESTS, channels)
        channels[place] = {
            "address": None,
            "title": "Requests",
            "description": "In the process, by `app.send(request)`: none of them is on the wire.",
            "messages": {
                self._names[one.id]: {"$ref": f"#/components/messages/{self._names[one.id]}"}
                for one in found
            },
        }
        for one in found:
            name = self._names[one.id]
            made = request(one, self._schemas, content_type=self._content_type)
            self._messages[name] = made
            summary = f"{self._description.app} handles the {one.kind} {one.name}"
            operation = self._operation("receive", place, summary, [one])
            operations[_key(f"handle.{name}", operations)] = operation


def _key(wanted: str, taken: Mapping[str, object]) -> str:
    """A key of the document that is not taken: names of groups may have any characters."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", wanted)
    number, found = 1, plain
    while found in taken:
        number += 1
        found = f"{plain}-{number}"
    return found
