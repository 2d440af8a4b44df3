"""Where everything in the picture of a flow stands: cards in columns, arrows between them, parts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from headrace.drawing.cards import FIGURE_WIDTH, PORT_SPACE, SMALL_SIZE, Card, Wire, folded
from headrace.drawing.graph import Graph
from headrace.drawing.layers import Layers, Link, layered
from headrace.drawing.measure import width_of
from headrace.drawing.places import Tie, placed

CURVE: Final = 56.0
"""The least width in which arrows bend, between two columns."""

HEAD: Final = 9.0
"""The length of an arrow's head and the space before it."""

SPACE: Final = 18.0
"""Between two cards of a column, and two parts of the picture."""

LANE: Final = 12.0
"""Between two arrows that lead back."""

WIDE: Final = 1180.0
"""Parts of the picture stand side by side up to this width, or that of the widest."""


class Place(Struct, frozen=True):
    """A card and where its upper left corner is."""

    card: Card
    x: float
    y: float


class Line(Struct, frozen=True):
    """An arrow.

    Args:
        wire: what it shows.
        points: where it goes: from each to the next it is level at both ends; or straight, with round corners, if `back`.
        back: it leads back, against the flow.
        text_x: where the words on it end, before its head.
        text_y: the line on which they stand.
    """

    wire: Wire
    points: tuple[tuple[float, float], ...]
    back: bool
    text_x: float
    text_y: float


class Picture(Struct, frozen=True):
    """All cards and arrows, and the size that they need."""

    places: tuple[Place, ...]
    lines: tuple[Line, ...]
    width: float
    height: float


def picture_of(graph: Graph, *, figures: bool) -> Picture:
    """Lay out a graph. Parts that no arrow joins are laid out alone, the largest first."""
    cards, wires = folded(graph, figures=figures)
    parts = [_part(cards, wires, members, figures=figures) for members in _parts(len(cards), wires)]
    parts.sort(key=lambda part: (-len(part.places), -part.height))
    return _together(parts)


def _parts(count: int, wires: Sequence[Wire]) -> list[list[int]]:
    part = list(range(count))

    def root(card: int) -> int:
        while part[card] != card:
            part[card] = part[part[card]]
            card = part[card]
        return card

    for wire in wires:
        one, other = sorted((root(wire.source), root(wire.target)))
        part[other] = one
    found: dict[int, list[int]] = {}
    for card in range(count):
        found.setdefault(root(card), []).append(card)
    return list(found.values())


def _part(
    cards: Sequence[Card], every: Sequence[Wire], members: Sequence[int], *, figures: bool
) -> Picture:
    number = {card: n for n, card in enumerate(members)}
    own = [cards[card] for card in members]
    wires = [wire for wire in every if wire.source in number]
    links = [
        Link(
            number[wire.source],
            number[wire.target],
            _rank(cards[wire.source], wire.source_place),
            _rank(cards[wire.target], wire.target_place),
        )
        for wire in wires
    ]
    layers = layered(len(own), links)
    drawn = _Part(own, wires, links, layers, figures=figures)
    if drawn.sort_rows():
        drawn.arrange()
    return drawn.picture()


def _rank(card: Card, place: int) -> float:
    return card.middle(place) / card.height


class _Part:
    """One part while it is laid out."""

    def __init__(
        self,
        cards: Sequence[Card],
        wires: Sequence[Wire],
        links: Sequence[Link],
        layers: Layers,
        *,
        figures: bool,
    ) -> None:
        self._cards, self._wires, self._links, self._layers = list(cards), wires, links, layers
        self._figures = figures
        self._column = {item: n for n, one in enumerate(layers.columns) for item in one}
        self._ports: dict[int, float] = {}  # how far below its middle a wire arrives
        self._x, self._widths, self._words = self._across()
        self.arrange()

    def arrange(self) -> None:
        """Find the height at which everything stands."""
        self._tops = self._down()
        self._set_ports()
        self._tops = self._down()

    def sort_rows(self) -> bool:
        """Put the notifications of a topic into the order in which arrows come to them, and a group's handlers into theirs.

        The rows of other cards stay: handlers run in the order in which they were bound.
        """
        changed = False
        order: dict[str, int] = {}
        for kind in ("topic", "group"):
            for number, card in enumerate(self._cards):
                if card.kind != kind:
                    continue
                came = self._order_of_arrival(number)
                if kind == "topic":
                    keys = [came.get(n, (True, 0.0)) for n in range(len(card.rows))]
                else:
                    keys = [(False, float(order.get(r.node.message, 0))) for r in card.rows]
                rows = sorted(range(len(card.rows)), key=keys.__getitem__)
                if kind == "topic":
                    order |= {card.rows[n].node.id: len(order) + m for m, n in enumerate(rows)}
                if rows == sorted(rows):
                    continue
                changed = True
                self._cards[number] = replace(card, rows=tuple(card.rows[n] for n in rows))
                self._wires = [_sorted(wire, card, rows) for wire in self._wires]
        return changed

    def _order_of_arrival(self, number: int) -> dict[int, tuple[bool, float]]:
        came: dict[int, list[tuple[bool, float]]] = {}
        for n, link in enumerate(self._links):
            if link.target == number:
                came.setdefault(self._wires[n].target_place, []).append(self._comes_from(n))
        return {place: min(found) for place, found in came.items()}

    def picture(self) -> Picture:
        places = tuple(
            Place(card, self._x[self._column[n]], self._tops[n])
            for n, card in enumerate(self._cards)
        )
        bottom = max(place.y + place.card.height for place in places)
        backward = [n for n, path in enumerate(self._layers.paths) if path is None]
        lines = tuple(
            self._backward(n, backward.index(n), bottom) if path is None else self._forward(n, path)
            for n, path in enumerate(self._layers.paths)
        )
        width = max(place.x + place.card.width for place in places)
        height = bottom + (SPACE + LANE * (len(backward) - 1) if backward else 0.0)
        rightmost = max((x for line in lines for x, _ in line.points), default=0.0)
        leftmost = min((x for line in lines for x, _ in line.points), default=0.0)
        moved = Picture(places, lines, max(width, rightmost), height)
        return _moved(moved, -min(leftmost, 0.0), 0.0)

    def _down(self) -> dict[int, float]:
        heights = {n: card.height for n, card in enumerate(self._cards)}
        for column in self._layers.columns:
            for item in column:
                heights.setdefault(item, 2.0)
        ties: list[Tie] = []
        for number, path in enumerate(self._layers.paths):
            if path is None:
                continue
            for left, right in pairwise(path):
                bends = (left >= len(self._cards)) + (right >= len(self._cards))
                ties.append(
                    Tie(
                        left,
                        self._leaves(number) if left == path[0] else 1.0,
                        right,
                        self._arrives(number) if right == path[-1] else 1.0,
                        (1.0, 2.0, 8.0)[bends],
                    )
                )
        return placed(self._layers.columns, heights, ties, SPACE)

    def _leaves(self, number: int) -> float:
        """How far below the top of its source an arrow leaves."""
        wire, link = self._wires[number], self._links[number]
        return self._cards[link.source].middle(wire.source_place)

    def _arrives(self, number: int) -> float:
        """How far below the top of its target it arrives."""
        wire, link = self._wires[number], self._links[number]
        return self._cards[link.target].middle(wire.target_place) + self._ports.get(number, 0.0)

    def _set_ports(self) -> None:
        """Arrows that end at one place arrive one below the other, in the order in which they come."""
        ends: dict[tuple[int, int], list[int]] = {}
        for number, wire in enumerate(self._wires):
            ends.setdefault((wire.target, wire.target_place), []).append(number)
        for arriving in ends.values():
            arriving.sort(key=self._comes_from)
            for place, number in enumerate(arriving):
                self._ports[number] = (place - (len(arriving) - 1) / 2) * PORT_SPACE

    def _comes_from(self, number: int) -> tuple[bool, float]:
        path = self._layers.paths[number]
        if path is None:
            return True, 0.0
        before = path[-2]
        down = self._leaves(number) if before == path[0] else 0.0
        return False, self._tops[before] + down

    def _across(self) -> tuple[list[float], list[float], list[float]]:
        """The left end and width of each column, and the width of the words on the arrows that end there."""
        columns = len(self._layers.columns)
        widths, words, crowd = [0.0] * columns, [0.0] * columns, [0] * columns
        for n, card in enumerate(self._cards):
            widths[self._column[n]] = max(widths[self._column[n]], card.width)
        for number, wire in enumerate(self._wires):
            column = self._column[self._links[number].target]
            room = width_of(wire.edge.label, SMALL_SIZE) + 6 if wire.edge.label else 0.0
            words[column] = max(words[column], room + (FIGURE_WIDTH if self._figures else 0.0))
            crowd[column] += 1
        x: list[float] = []
        right = 0.0
        for column in range(columns):
            # Many arrows between two columns need more room to bend, or they run along each other.
            bend = min(CURVE + 2.0 * crowd[column], 2 * CURVE)
            x.append(right + (bend + words[column] + HEAD if column else 0.0))
            right = x[-1] + widths[column]
        return [round(one, 1) for one in x], widths, words

    def _forward(self, number: int, path: Sequence[int]) -> Line:
        start, end = path[0], path[-1]
        here = self._tops[start] + self._leaves(number)
        there = self._tops[end] + self._arrives(number)
        column = self._column[start]
        points = [(self._x[column] + self._cards[start].width, here)]
        points.append((self._x[column] + self._widths[column], here))
        for bend in path[1:-1]:
            across = self._column[bend]
            level = self._tops[bend] + 1.0
            points.append((self._x[across] - self._words[across] - HEAD, level))
            points.append((self._x[across] + self._widths[across], level))
        column = self._column[end]
        text = self._x[column] - HEAD
        points += [(text - self._words[column], there), (self._x[column] - 2.0, there)]
        return _line(self._wires[number], points, False, text, there)

    def _backward(self, number: int, lane: int, bottom: float) -> Line:
        link = self._links[number]
        here = self._tops[link.source] + self._leaves(number)
        there = self._tops[link.target] + self._arrives(number)
        left, right = self._column[link.source], self._column[link.target]
        out = self._x[left] + self._widths[left] + 10.0 + 4.0 * (lane % 8)
        down = bottom + SPACE + lane * LANE
        text = self._x[right] - HEAD
        up = text - self._words[right] - 8.0 - 4.0 * (lane % 8)
        points = [
            (self._x[left] + self._cards[link.source].width, here),
            *((out, here), (out, down), (up, down), (up, there)),
            (self._x[right] - 2.0, there),
        ]
        return _line(self._wires[number], points, True, text, there)


def _sorted(wire: Wire, card: Card, rows: Sequence[int]) -> Wire:
    """The wire after the rows of a card have another order."""
    ids = {row.node.id for row in card.rows}
    if wire.edge.target in ids:
        wire = replace(wire, target_place=rows.index(wire.target_place))
    if wire.edge.source in ids:
        wire = replace(wire, source_place=rows.index(wire.source_place))
    return wire


def _line(
    wire: Wire, points: Sequence[tuple[float, float]], back: bool, x: float, y: float
) -> Line:
    rounded = tuple((round(one, 1), round(other, 1)) for one, other in points)
    return Line(wire, rounded, back, round(x, 1), round(y, 1))


def _together(parts: Sequence[Picture]) -> Picture:
    """Parts from left to right as long as there is room, then below."""
    wide = max([WIDE, *(part.width for part in parts)])
    places: list[Place] = []
    lines: list[Line] = []
    right = top = deepest = widest = 0.0
    for part in parts:
        if right and right + part.width > wide:
            right, top = 0.0, top + deepest + 2 * SPACE
            deepest = 0.0
        moved = _moved(part, right, top)
        places += moved.places
        lines += moved.lines
        right += part.width + 2 * SPACE
        widest = max(widest, right - 2 * SPACE)
        deepest = max(deepest, part.height)
    return Picture(tuple(places), tuple(lines), widest, top + deepest)


def _moved(part: Picture, x: float, y: float) -> Picture:
    return Picture(
        tuple(Place(one.card, round(one.x + x, 1), round(one.y + y, 1)) for one in part.places),
        tuple(
            Line(
                one.wire,
                tuple((round(a + x, 1), round(b + y, 1)) for a, b in one.points),
                one.back,
                round(one.text_x + x, 1),
                round(one.text_y + y, 1),
            )
            for one in part.lines
        ),
        part.width,
        part.height,
    )
