"""The flow of an app as a picture: SVG without scripts and without anything from elsewhere, light and dark.

from headrace.drawing import svg

picture = svg.draw(app.describe())
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Final

from headrace.description import Description
from headrace.drawing.cards import PADDING, Card
from headrace.drawing.graph import Edge, Graph, Node, graph_of
from headrace.drawing.measure import width_of
from headrace.drawing.picture import Line, Picture, Place, picture_of
from headrace.drawing.style import STYLE

__all__ = ["STYLE", "draw", "draw_graph"]

MARGIN: Final = 24.0
TITLE_HEIGHT: Final = 44.0
LINE_HEIGHT: Final = 18.0
CORNER: Final = 7.0


def draw(
    description: Description,
    *,
    command: str | None = None,
    figures: bool = False,
    title: bool = True,
    style: bool = True,
    where: bool = False,
    link: Callable[[Node], str | None] | None = None,
) -> str:
    """The flow of an app as one `<svg>` element. The same app gives the same text.

    Every node has `data-node` with its id, see `headrace.drawing.graph`, and the `id` "flow-" with the same. Every arrow has
    `data-edge` with the ids of both ends, and an empty `<text class="figure">` with the same `data-edge`, where a page may
    write a rate; with the class `bad` too it is red.

    Args:
        description: from `app.describe()`.
        command: only what this message leads to, by name.
        figures: leave room for the figures.
        title: begin with the app's name, storage and broker, on a panel of its own; for pictures that stand alone.
        style: contain the style sheet. Without it the page has to have `STYLE`: where a policy forbids styles in the page.
        where: tell in tooltips where handlers are bound. Default False: a picture in a repository is to change with the flow,
            and not with every line above a handler.
        link: the address that a click on a node leads to; None for no link.

    Raises:
        ConfigurationError: there is no message of the name in `command`.
    """
    graph = graph_of(description, command=command)
    return draw_graph(graph, figures=figures, title=title, style=style, where=where, link=link)


def draw_graph(
    graph: Graph,
    *,
    figures: bool = False,
    title: bool = True,
    style: bool = True,
    where: bool = False,
    link: Callable[[Node], str | None] | None = None,
) -> str:
    """As `draw`, of a graph."""
    picture = picture_of(graph, figures=figures)
    notes = _wrapped(graph.missing, max(picture.width, 480.0)) if graph.missing else []
    top = MARGIN + (TITLE_HEIGHT if title else 0.0)
    width = max(picture.width, 480.0 if notes or title else 0.0) + 2 * MARGIN
    foot = len(notes) * LINE_HEIGHT + (12.0 if notes else 0.0)
    height = top + picture.height + foot + MARGIN
    written = _Written(link, where=where)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="headrace-flow" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(_told(graph))}">'
    ]
    if style:
        lines.append(f"<style>\n{STYLE}\n</style>")
    if title:
        lines += [
            f'<rect class="back" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="10"/>',
            f'<text class="app" x="{MARGIN:g}" y="{MARGIN + 14:g}">{escape(graph.app)}</text>',
            f'<text class="soft" x="{MARGIN + width_of(graph.app, 16, bold=True) + 12:g}" y="{MARGIN + 14:g}">'
            f"{escape(graph.summary)}</text>",
        ]
    lines.append(f'<g transform="translate({MARGIN:g} {top:g})">')
    lines += written.all_of(picture)
    for number, note in enumerate(notes):
        down = picture.height + 12 + (number + 1) * LINE_HEIGHT
        lines.append(f'<text class="missing soft" x="0" y="{down:g}">{escape(note)}</text>')
    lines += ["</g>", "</svg>"]
    return "\n".join(lines) + "\n"


class _Written:
    def __init__(self, link: Callable[[Node], str | None] | None, *, where: bool) -> None:
        self._link = link
        self._where = where

    def all_of(self, picture: Picture) -> Iterator[str]:
        for line in picture.lines:
            yield from self._line(line)
        for place in picture.places:
            yield from self._card(place)

    def _line(self, line: Line) -> Iterator[str]:
        edge = line.wire.edge
        kind = edge.label.replace(" ", "-")
        x, y = line.points[-1]
        yield f'<g class="edge {kind}" data-edge="{escape(edge.id)}">'
        yield f'<path class="wire {kind}" d="{_path(line)}"/>'
        yield f'<path class="point" d="M{x + 1:g} {y:g}l-7 -3.5v7z"/>'
        if edge.label:
            left = line.text_x - _stub(line)
            yield f'<text class="label" x="{left + 2:g}" y="{y - 4:g}">{escape(edge.label)}</text>'
        yield "</g>"
        yield _figure(edge, line.text_x - 2, y - 4)

    def _card(self, place: Place) -> Iterator[str]:
        card, x, y = place.card, place.x, place.y
        yield f'<g class="{card.kind}" transform="translate({x:g} {y:g})">'
        yield f'<rect class="card" width="{card.width:g}" height="{card.height:g}" rx="{CORNER:g}"/>'
        yield from self._node(card.node, self._head(card))
        for number in range(len(card.rows)):
            yield from self._node(card.rows[number].node, self._row(card, number))
        yield "</g>"

    def _node(self, node: Node, inside: Iterator[str]) -> Iterator[str]:
        name = escape(node.id)
        yield f'<g class="node" id="flow-{name}" data-node="{name}">'
        facts = (node.name, node.note, node.where if self._where else "")
        yield f"<title>{escape(' · '.join(fact for fact in facts if fact))}</title>"
        address = self._link(node) if self._link is not None else None
        if address is not None:
            yield f'<a href="{escape(address)}">'
        yield from inside
        if address is not None:
            yield "</a>"
        yield "</g>"

    def _head(self, card: Card) -> Iterator[str]:
        middle = card.head_height / 2
        yield f'<path class="head" d="{_head_shape(card)}"/>'
        yield f'<rect class="mark" y="{middle - 13:g}" width="3" height="26" rx="1.5"/>'
        yield f'<text class="kind" x="{PADDING:g}" y="{middle - 5:g}">{escape(card.over)}</text>'
        yield f'<text class="title" x="{PADDING:g}" y="{middle + 11:g}">{escape(card.title)}</text>'

    def _row(self, card: Card, number: int) -> Iterator[str]:
        row = card.rows[number]
        middle = card.middle(number)
        # A line from the head, or from the row above, to this one.
        above = card.head_height if number == 0 else card.middle(number - 1)
        yield (
            f'<path class="inner" data-edge="{escape(row.inner.id)}" '
            f'd="M{PADDING + 2:g} {above:g}V{middle:g}h7"/>'
        )
        x = PADDING + 14
        if row.over:
            yield f'<text class="soft" x="{x:g}" y="{middle - 5:g}">{escape(row.over)}</text>'
        down = middle + (9 if row.over else 4)
        yield f'<text class="name" x="{x:g}" y="{down:g}">{escape(row.text)}</text>'
        right = card.width - PADDING
        if row.tag:
            tag_x = x + width_of(row.text, 12) + 10
            yield f'<text class="soft" x="{tag_x:g}" y="{down:g}">{escape(row.tag)}</text>'
        yield _figure(row.inner, right, down)


def _figure(edge: Edge, x: float, y: float) -> str:
    return f'<text class="figure" data-edge="{escape(edge.id)}" x="{x:g}" y="{y:g}" text-anchor="end"></text>'


def _stub(line: Line) -> float:
    """The length of the level part before the head, on which the words stand."""
    return line.text_x - (line.points[-2][0] if not line.back else line.points[-2][0] + 8)


def _head_shape(card: Card) -> str:
    """The upper part of the card, with the card's round corners; all of it if there are no rows."""
    w, h, r = card.width, card.head_height, CORNER
    upper = f"M{r:g} 0H{w - r:g}Q{w:g} 0 {w:g} {r:g}"
    if card.rows:
        return f"{upper}V{h:g}H0V{r:g}Q0 0 {r:g} 0z"
    lower = f"V{h - r:g}Q{w:g} {h:g} {w - r:g} {h:g}H{r:g}Q0 {h:g} 0 {h - r:g}"
    return f"{upper}{lower}V{r:g}Q0 0 {r:g} 0z"


def _path(line: Line) -> str:
    points = line.points
    if line.back:
        return _rounded(points)
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for (x, y), (to_x, to_y) in pairwise(points):
        if y == to_y:
            parts.append(f"H{to_x:g}")
            continue
        half = (x + to_x) / 2
        parts.append(f"C{half:g} {y:g} {half:g} {to_y:g} {to_x:g} {to_y:g}")
    return "".join(parts)


def _rounded(points: Sequence[tuple[float, float]]) -> str:
    """Level and upright lines with round corners."""
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        size = min(6.0, _length(before, corner) / 2, _length(corner, after) / 2)
        begin, end = _towards(corner, before, size), _towards(corner, after, size)
        parts.append(
            f"L{begin[0]:g} {begin[1]:g}Q{corner[0]:g} {corner[1]:g} {end[0]:g} {end[1]:g}"
        )
    parts.append(f"L{points[-1][0]:g} {points[-1][1]:g}")
    return "".join(parts)


def _length(one: tuple[float, float], other: tuple[float, float]) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _towards(
    start: tuple[float, float], end: tuple[float, float], size: float
) -> tuple[float, float]:
    far = _length(start, end) or 1.0
    part = size / far
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def _wrapped(text: str, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width_of(longer, 12) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _told(graph: Graph) -> str:
    """What the picture shows, for those who do not see it."""
    counts = [
        (len(graph.of_kind("command", "query")), "requests"),
        (len(graph.of_kind("handler")), "handlers"),
        (len(graph.of_kind("event", "notification")), "events"),
        (len(graph.of_kind("topic")), "topics"),
        (len(graph.of_kind("group")), "groups"),
    ]
    return f"The flow of {graph.app}: " + ", ".join(f"{n} {what}" for n, what in counts)
