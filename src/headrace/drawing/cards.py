"""The graph folded into cards: a message with its handlers, a topic with its notifications, a group with its handlers.

With a box for each of them the picture would be twice as wide. Within a card an arrow goes from its head to its rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from headrace.drawing.graph import Edge, Graph, Node, NodeKind
from headrace.drawing.measure import cut, width_of

HEAD_HEIGHT: Final = 44.0
ROW_HEIGHT: Final = 25.0
TALL_ROW_HEIGHT: Final = 38.0
PORT_SPACE: Final = 17.0
PADDING: Final = 14.0
INDENT: Final = 14.0
FIGURE_WIDTH: Final = 62.0
TITLE_SIZE: Final = 13.0
ROW_SIZE: Final = 12.0
SMALL_SIZE: Final = 10.0
LONGEST: Final = 44
NARROWEST: Final = 130.0
HEAD: Final = -1
"""The place of a card's head, where its rows are 0, 1, 2, ..."""


class Row(Struct, frozen=True, kw_only=True):
    """A handler or a notification in a card.

    Args:
        node: what stands here.
        text: its name, cut if it is too long.
        over: a smaller line above it, or "".
        tag: a few words at its right, or "".
        inner: the edge between the head of the card and this row.
        height: of the row.
    """

    node: Node
    text: str
    inner: Edge
    height: float
    over: str = ""
    tag: str = ""


class Card(Struct, frozen=True, kw_only=True):
    """A box of the picture.

    Args:
        node: what its head is.
        kind: of the head, for its colour.
        over: the small line above the title.
        title: its name, cut if it is too long.
        rows: what it holds.
        width: so that nothing in it is cut off or overlaps.
        head_height: grows with the arrows that end there.
    """

    node: Node
    kind: NodeKind
    over: str
    title: str
    rows: tuple[Row, ...]
    width: float
    head_height: float

    @property
    def height(self) -> float:
        """Of the whole card."""
        return self.head_height + sum(row.height for row in self.rows) + (6.0 if self.rows else 0.0)

    def middle(self, place: int) -> float:
        """How far below the card's top the middle of its head or of a row is."""
        if place == HEAD:
            return self.head_height / 2
        above = sum(row.height for row in self.rows[:place])
        return self.head_height + above + self.rows[place].height / 2


class Wire(Struct, frozen=True):
    """An arrow between two cards: from the right of a head or row to the left of one. `port` is its place among those there."""

    source: int
    source_place: int
    target: int
    target_place: int
    edge: Edge


def folded(graph: Graph, *, figures: bool) -> tuple[tuple[Card, ...], tuple[Wire, ...]]:
    """The cards of a graph and the arrows between them.

    Args:
        graph: what is drawn.
        figures: leave room at the right of each row for a figure of the arrow that leads to it.
    """
    places: dict[str, tuple[int, int]] = {}
    heads = graph.of_kind("command", "query", "event", "topic", "group")
    inner: set[str] = set()
    for number, head in enumerate(heads):
        places[head.id] = (number, HEAD)
        for place, (node, edge) in enumerate(_held(graph, head)):
            places[node.id] = (number, place)
            inner.add(edge.id)
    wires = tuple(
        Wire(*places[edge.source], *places[edge.target], edge)
        for edge in graph.edges
        if edge.id not in inner
    )
    ends: dict[tuple[int, int], int] = {}
    for wire in wires:
        end = (wire.target, wire.target_place)
        ends[end] = ends.get(end, 0) + 1
    cards = tuple(
        _card(graph, head, number, ends, figures=figures) for number, head in enumerate(heads)
    )
    return cards, wires


def _held(graph: Graph, head: Node) -> Iterable[tuple[Node, Edge]]:
    """What a card holds besides its head, and the edge between the two."""
    for edge in graph.edges:
        if head.kind == "topic":
            if edge.target == head.id:
                yield graph.nodes[edge.source], edge
        elif edge.source == head.id and graph.nodes[edge.target].kind == "handler":
            yield graph.nodes[edge.target], edge


def _card(
    graph: Graph, head: Node, number: int, ends: dict[tuple[int, int], int], *, figures: bool
) -> Card:
    over = " · ".join(one for one in (_KINDS[head.kind], head.note) if one)
    title = cut(head.name, LONGEST)
    rows: list[Row] = []
    widths = [
        NARROWEST,
        PADDING * 2 + width_of(over, SMALL_SIZE),
        PADDING * 2 + width_of(title, TITLE_SIZE, bold=True),
    ]
    for place, (node, edge) in enumerate(_held(graph, head)):
        text = cut(node.name, LONGEST)
        over_row = cut(edge.label, LONGEST) if head.kind == "group" else ""
        tag = node.note if head.kind != "group" else ""
        if node.kind == "handler" and not node.declared:
            tag = f"{tag} …".strip()
        room = ends.get((number, place), 1) * PORT_SPACE + 8
        height = max(TALL_ROW_HEIGHT if over_row else ROW_HEIGHT, room)
        rows.append(Row(node=node, text=text, over=over_row, tag=tag, inner=edge, height=height))
        beside = width_of(tag, SMALL_SIZE) + 12 if tag else 0.0
        beside += FIGURE_WIDTH if figures else 0.0
        words = max(width_of(text, ROW_SIZE), width_of(over_row, SMALL_SIZE))
        widths.append(PADDING * 2 + INDENT + words + beside)
    room = ends.get((number, HEAD), 1) * PORT_SPACE + 8
    return Card(
        node=head,
        kind=head.kind,
        over=over,
        title=title,
        rows=tuple(rows),
        width=float(round(max(widths))),
        head_height=max(HEAD_HEIGHT, room),
    )


_KINDS: Final = {
    "command": "command",
    "query": "query",
    "event": "domain event",
    "topic": "topic",
    "group": "group",
}
