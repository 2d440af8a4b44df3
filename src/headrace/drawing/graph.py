"""The flow of an app as a graph: what every picture of it is made from."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct

from headrace.description import Description, HandlerInfo, MessageInfo
from headrace.errors import ConfigurationError

NodeKind = Literal["command", "query", "event", "notification", "handler", "topic", "group"]
"""What a node is. An `event` is a domain event."""


class Node(Struct, frozen=True, kw_only=True):
    """A thing that messages pass.

    Args:
        id: names the node in every picture, and has no blanks: see `message_node`, `handler_node`, `topic_node`, `group_node`.
        kind: see `NodeKind`.
        name: for people; unique among messages.
        note: one more fact for people: a notification's key, a topic's partitions, "after commit"; or "".
        where: "file:line" of a handler's binding, or "".
        message: of a handler: the node of the message that it handles here; of others "".
        group: of a handler that consumes: the node of its group; of others "".
        declared: of a handler: whether all that it raises is known.
        type: of a notification: its type on the wire; of others "".
    """

    id: str
    kind: NodeKind
    name: str
    note: str = ""
    where: str = ""
    message: str = ""
    group: str = ""
    declared: bool = True
    type: str = ""


class Edge(Struct, frozen=True):
    """An arrow: what leaves one node goes to another.

    Args:
        source: the id of a node.
        target: the id of a node.
        label: what happens on the way: "raises", "outbox", "inbox", "after commit"; or "".
    """

    source: str
    target: str
    label: str = ""

    @property
    def id(self) -> str:
        """Both ends, with a blank between them."""
        return f"{self.source} {self.target}"


class Graph(Struct, frozen=True, kw_only=True):
    """Nodes and edges, in the order in which the app's parts were bound.

    Args:
        app: the app's name.
        summary: one line: its storage and broker.
        nodes: by their ids.
        edges: arrows between them.
        undeclared: the names of handlers of which it is not known what else they raise.
    """

    app: str
    summary: str
    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    undeclared: tuple[str, ...] = ()

    def targets(self, node: str) -> list[Node]:
        """Where the arrows of a node lead."""
        return [self.nodes[edge.target] for edge in self.edges if edge.source == node]

    def of_kind(self, *kinds: NodeKind) -> list[Node]:
        """The nodes of these kinds."""
        return [node for node in self.nodes.values() if node.kind in kinds]

    @property
    def missing(self) -> str:
        """A sentence for people if arrows may be missing, or ""."""
        if not self.undeclared:
            return ""
        shown = ", ".join(self.undeclared[:8])
        more = f" and {len(self.undeclared) - 8} more" if len(self.undeclared) > 8 else ""
        return (
            f"What these handlers raise is not declared: {shown}{more}. It is learnt while the app runs; declare it by "
            "raises=[...] to see it here."
        )


def message_node(id: str) -> str:  # noqa: A002
    """The node of a message, by the id of its `MessageInfo`."""
    return _plain(f"m:{id}")


def handler_node(handler: str, message: str, group: str | None = None) -> str:
    """The node of a handler of one class of messages, in one group if it consumes; by the ids of its `HandlerInfo`."""
    return _plain(f"h:{handler}@{message}" + (f"@{group}" if group is not None else ""))


def topic_node(name: str) -> str:
    """The node of a topic."""
    return _plain(f"t:{name}")


def group_node(name: str) -> str:
    """The node of a group, which stands once for all its topics."""
    return _plain(f"g:{name}")


def graph_of(description: Description, *, command: str | None = None) -> Graph:
    """The flow of an app.

    Args:
        description: from `app.describe()`.
        command: the name of a request or event: only what it leads to. Default: everything.

    Raises:
        ConfigurationError: there is no such message.
    """
    drawn = _Drawing(description)
    whole = drawn.graph()
    if command is None:
        return whole
    return _from(whole, _named(whole, command))


class _Drawing:
    """Nodes and edges as they are found."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self._nodes: dict[str, Node] = {}
        self._edges: dict[str, Edge] = {}
        self._names = Counter(one.name for one in description.messages)
        self._undeclared: dict[str, None] = {}

    def graph(self) -> Graph:
        description = self._description
        for message in self._messages():
            self._message(message)
        return Graph(
            app=description.app,
            summary=f"{description.storage or 'no storage'}, {description.broker or 'no broker'}",
            nodes=self._nodes,
            edges=tuple(self._edges.values()),
            undeclared=tuple(self._undeclared),
        )

    def _messages(self) -> Iterable[MessageInfo]:
        """Not a base class that stands for the classes below it and is never raised itself."""
        every = self._description.messages
        for one in every:
            stands_for_others = any(
                issubclass(other.cls, one.cls) for other in every if other is not one
            )
            is_raised = bool(self._description.raised_by(one.id))
            if one.kind in ("command", "query") or is_raised or not stands_for_others:
                yield one

    def _message(self, message: MessageInfo) -> None:
        node = message_node(message.id)
        kind = "event" if message.kind == "domain event" else message.kind
        note = f"key {message.key}" if message.key else ""
        name, type_ = self._name(message), message.type or ""
        self._node(Node(id=node, kind=kind, name=name, note=note, type=type_))
        if message.topic is not None:
            self._notification(node, message, message.topic)
            return
        is_request = message.kind in ("command", "query")
        for handler in self._description.handlers_of(message.id):
            if (handler.runs == "request") == is_request:
                self._handler(handler, message)

    def _notification(self, node: str, message: MessageInfo, topic: str) -> None:
        self._topic(topic)
        self._edge(node, topic_node(topic))
        reading = {one.name for one in self._description.groups if topic in one.topics}
        for handler in self._description.handlers_of(message.id):
            for group in handler.groups:
                if group in reading:
                    self._group(group)
                    label = "inbox" if self._description.storage else "consumes"
                    self._edge(topic_node(topic), group_node(group), label)
                    self._handler(handler, message, group)

    def _handler(
        self, handler: HandlerInfo, message: MessageInfo, group: str | None = None
    ) -> None:
        later = handler.runs == "after_commit"
        node = handler_node(handler.id, message.id, group)
        before = message_node(message.id) if group is None else group_node(group)
        self._node(
            Node(
                id=node,
                kind="handler",
                name=handler.name,
                note="after commit" if later else "",
                where=handler.where,
                message=message_node(message.id),
                group=before if group is not None else "",
                declared=handler.declared,
            )
        )
        label = self._name(message) if group is not None else "after commit" if later else ""
        self._edge(before, node, label)
        if not handler.declared:
            self._undeclared[handler.name] = None
        for raised in handler.raises:
            is_told = self._description.message(raised).kind == "notification"
            stored = "outbox" if self._description.storage else "publishes"
            self._edge(node, message_node(raised), stored if is_told else "raises")

    def _topic(self, name: str) -> None:
        known = [one.partitions for one in self._description.topics if one.name == name]
        count = known[0] if known else None
        note = f"{count} partitions" if count else ""
        self._node(Node(id=topic_node(name), kind="topic", name=name, note=note))

    def _group(self, name: str) -> None:
        settings = next(one for one in self._description.groups if one.name == name)
        facts = ["" if settings.ordered else "unordered"]
        facts.append(f"batch {settings.batch}" if settings.batch > 1 else "")
        note = ", ".join(fact for fact in facts if fact)
        self._node(Node(id=group_node(name), kind="group", name=name, note=note))

    def _name(self, message: MessageInfo) -> str:
        if self._names[message.name] == 1:
            return message.name
        return ".".join(message.id.replace(":", ".").split(".")[-2:])

    def _node(self, node: Node) -> None:
        self._nodes.setdefault(node.id, node)

    def _edge(self, source: str, target: str, label: str = "") -> None:
        edge = Edge(source, target, label)
        self._edges.setdefault(edge.id, edge)


def _named(graph: Graph, name: str) -> str:
    messages = graph.of_kind("command", "query", "event", "notification")
    for node in messages:
        if name in (node.name, node.id.removeprefix("m:")):
            return node.id
    near = difflib.get_close_matches(name, [node.name for node in messages], n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ConfigurationError(
        f"the app {graph.app!r} has no message named {name!r}.{hint} `headrace flow` without --command shows all of them."
    )


def _from(graph: Graph, start: str) -> Graph:
    """What a message leads to. Behind a topic only the handlers of messages that came this way."""
    kept: dict[str, None] = {}
    ahead = [start]
    while ahead:
        node = ahead.pop(0)
        if node in kept:
            continue
        kept[node] = None
        kind = graph.nodes[node].kind
        if kind in ("topic", "group"):
            continue
        ahead += [one.id for one in graph.targets(node)]
        ahead += [
            part
            for one in graph.of_kind("handler")
            if one.message == node and one.group
            for part in (one.group, one.id)
        ]
    nodes = {node.id: node for node in graph.nodes.values() if node.id in kept}
    names = {node.name for node in nodes.values() if not node.declared}
    return Graph(
        app=graph.app,
        summary=graph.summary,
        nodes=nodes,
        edges=tuple(edge for edge in graph.edges if edge.source in kept and edge.target in kept),
        undeclared=tuple(name for name in graph.undeclared if name in names),
    )


def _plain(text: str) -> str:
    return re.sub(r"\s", "_", text)
