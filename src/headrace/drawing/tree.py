"""The flow of an app as a tree: from each command to everything that it leads to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct

from headrace.drawing.graph import Graph, Node, NodeKind


class Branch(Struct, frozen=True, kw_only=True):
    """A node of the tree and what follows from it.

    Args:
        kind: of the node.
        name: of the node.
        note: further facts, or "".
        ended: why nothing follows here though something does: "above", shown there already; "again", it leads back to itself.
        branches: what follows.
    """

    kind: NodeKind
    name: str
    note: str = ""
    ended: Literal["above", "again"] | None = None
    branches: tuple[Branch, ...] = ()


def branches_of(graph: Graph) -> tuple[Branch, ...]:
    """A tree for each request, and for each event that nothing here raises."""
    return tuple(_Growing(graph).trees())


def text_of(graph: Graph) -> str:
    """The trees as plain text."""
    lines = [f"{graph.app} ({graph.summary})"]
    for branch in branches_of(graph):
        lines += ["", *_lines(branch)]
    if graph.missing:
        lines += ["", graph.missing]
    return "\n".join(lines) + "\n"


def words_of(branch: Branch) -> tuple[str, str]:
    """What a branch is called, and what is said beside it."""
    kinds = {"command": "command", "query": "query", "topic": "topic", "group": "group"}
    kinds |= {"event": "domain event", "notification": "notification"}
    notes = [kinds.get(branch.kind, ""), branch.note]
    notes.append(
        {"above": "see above", "again": "leads back to itself"}.get(branch.ended or "", "")
    )
    return branch.name, ", ".join(note for note in notes if note)


class _Growing:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._grown: set[str] = set()

    def trees(self) -> Iterator[Branch]:
        raised = {edge.target for edge in self._graph.edges}
        requests = self._graph.of_kind("command", "query")
        others = self._graph.of_kind("event", "notification")
        roots = [*requests, *(node for node in others if node.id not in raised)]
        for node in roots:
            yield self._branch(node, ())
        for node in others:  # those that only raise each other
            if node.id not in self._grown:
                yield self._branch(node, ())

    def _branch(self, node: Node, path: tuple[str, ...]) -> Branch:
        note = ", ".join(fact for fact in (node.note, node.where) if fact)
        if node.id in path:
            return Branch(kind=node.kind, name=node.name, note=node.note, ended="again")
        follows = self._follows(node)
        if node.id in self._grown and follows and node.kind in ("event", "notification"):
            return Branch(kind=node.kind, name=node.name, note=node.note, ended="above")
        self._grown.add(node.id)
        if node.kind == "notification":
            return self._notification(node, (*path, node.id))
        below = tuple(self._branch(one, (*path, node.id)) for one in follows)
        return Branch(kind=node.kind, name=node.name, note=note, branches=below)

    def _follows(self, node: Node) -> Sequence[Node]:
        return self._graph.targets(node.id)

    def _notification(self, node: Node, path: tuple[str, ...]) -> Branch:
        """Of its topic and the groups there only what this notification reaches."""
        topics: list[Branch] = []
        handlers = [
            one for one in self._graph.of_kind("handler") if one.message == node.id and one.group
        ]
        for topic in self._graph.targets(node.id):
            groups = [
                Branch(
                    kind="group",
                    name=group.name,
                    note=group.note,
                    branches=tuple(
                        self._branch(one, path) for one in handlers if one.group == group.id
                    ),
                )
                for group in self._graph.targets(topic.id)
                if any(one.group == group.id for one in handlers)
            ]
            note = topic.note if groups else ", ".join(filter(None, (topic.note, "read elsewhere")))
            topics.append(Branch(kind="topic", name=topic.name, note=note, branches=tuple(groups)))
        return Branch(kind=node.kind, name=node.name, note=node.note, branches=tuple(topics))


def _lines(branch: Branch) -> Iterator[str]:
    name, note = words_of(branch)
    yield f"{name}  {note}".rstrip()
    for index, one in enumerate(branch.branches):
        last = index == len(branch.branches) - 1
        for number, line in enumerate(_lines(one)):
            guide = ("└── " if last else "├── ") if number == 0 else ("    " if last else "│   ")
            yield guide + line
