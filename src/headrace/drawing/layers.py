"""Which column each card stands in, and in what order: the first two steps of a layered drawing.

Source: K. Sugiyama, S. Tagawa, M. Toda, "Methods for Visual Understanding of Hierarchical System Structures" (1981).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

ROUNDS = 12


class Link(Struct, frozen=True):
    """An arrow, or a part of one, between neighbouring columns. The ends are places in the numbering of `Layers.items`.

    Args:
        source: in the left column.
        target: in the right column.
        source_rank: where it leaves, as a part of its source's height from 0 to 1.
        target_rank: where it arrives.
    """

    source: int
    target: int
    source_rank: float = 0.5
    target_rank: float = 0.5


class Layers(Struct):
    """Columns of items. Items up to the number of cards are cards, those after them are bends of long arrows.

    Args:
        columns: the items of each column, from top to bottom.
        links: between neighbouring columns.
        paths: for each arrow that goes forward, its items from source to target; None for one that leads back.
    """

    columns: list[list[int]]
    links: list[Link]
    paths: list[list[int] | None]


def layered(count: int, arrows: Sequence[Link]) -> Layers:
    """Put `count` cards into columns so that arrows lead to the right, but for those that close a circle."""
    back = _back(count, arrows)
    column = _columns(count, [a for n, a in enumerate(arrows) if n not in back])
    columns: list[list[int]] = [[] for _ in range(max(column, default=0) + 1)]
    for card in range(count):
        columns[column[card]].append(card)
    links: list[Link] = []
    paths: list[list[int] | None] = []
    items = count
    for number, arrow in enumerate(arrows):
        if number in back:
            paths.append(None)
            continue
        path = [arrow.source]
        for between in range(column[arrow.source] + 1, column[arrow.target]):
            columns[between].append(items)
            path.append(items)
            items += 1
        path.append(arrow.target)
        for n, (left, right) in enumerate(pairwise(path)):
            leaves = arrow.source_rank if n == 0 else 0.5
            arrives = arrow.target_rank if n == len(path) - 2 else 0.5
            links.append(Link(left, right, leaves, arrives))
        paths.append(path)
    layers = Layers(columns, links, paths)
    _order(layers, items)
    return layers


def _back(count: int, arrows: Sequence[Link]) -> set[int]:
    """The arrows that lead back to a card on the way to them, found depth first in the order given."""
    leaving: list[list[int]] = [[] for _ in range(count)]
    for number, arrow in enumerate(arrows):
        leaving[arrow.source].append(number)
    found: set[int] = set()
    state = [0] * count  # 1: on the way, 2: done
    entered = {arrow.target for arrow in arrows if arrow.source != arrow.target}
    for start in sorted(range(count), key=lambda card: (card in entered, card)):
        if state[start]:
            continue
        state[start] = 1
        stack = [(start, iter(leaving[start]))]
        while stack:
            card, ahead = stack[-1]
            following = next(ahead, None)
            if following is None:
                state[card] = 2
                stack.pop()
                continue
            target = arrows[following].target
            if state[target] == 1:
                found.add(following)
            elif state[target] == 0:
                state[target] = 1
                stack.append((target, iter(leaving[target])))
    return found


def _columns(count: int, forward: Sequence[Link]) -> list[int]:
    """The longest way to each card; then sources move right, to stand beside what they lead to."""
    column = [0] * count
    entered = {arrow.target for arrow in forward}
    changed = True
    while changed:
        changed = False
        for arrow in forward:
            if column[arrow.target] <= column[arrow.source]:
                column[arrow.target] = column[arrow.source] + 1
                changed = True
    for card in range(count):
        ahead = [column[arrow.target] for arrow in forward if arrow.source == card]
        if card not in entered and ahead and min(ahead) - column[card] > 2:
            column[card] = min(ahead) - 1
    return column


def _order(layers: Layers, items: int) -> None:
    """Few crossings: each item goes to the mean place of its neighbours, column by column, to and fro; the best round is kept."""
    before: list[list[tuple[int, float, float]]] = [[] for _ in range(items)]
    after: list[list[tuple[int, float, float]]] = [[] for _ in range(items)]
    for link in layers.links:
        after[link.source].append((link.target, link.target_rank, link.source_rank))
        before[link.target].append((link.source, link.source_rank, link.target_rank))
    best = [list(column) for column in layers.columns]
    fewest = _crossings(layers.columns, layers.links)
    for number in range(ROUNDS):
        forward = number % 2 == 0
        neighbours = before if forward else after
        for column in layers.columns if forward else reversed(layers.columns):
            place = {item: index for one in layers.columns for index, item in enumerate(one)}
            wanted = {
                item: sum(place[other] + rank for other, rank, _ in neighbours[item])
                / len(neighbours[item])
                if neighbours[item]
                else float(place[item])
                for item in column
            }
            column.sort(key=lambda item: wanted[item])
        crossings = _crossings(layers.columns, layers.links)
        if crossings < fewest:
            fewest, best = crossings, [list(column) for column in layers.columns]
        if not fewest:
            break
    layers.columns = best


def _crossings(columns: Sequence[Sequence[int]], links: Sequence[Link]) -> int:
    """How many pairs of links cross."""
    place = {item: (n, index) for n, one in enumerate(columns) for index, item in enumerate(one)}
    gaps: list[list[tuple[float, float]]] = [[] for _ in columns]
    for link in links:
        column, index = place[link.source]
        gaps[column].append((index + link.source_rank, place[link.target][1] + link.target_rank))
    crossed = 0
    for gap in gaps:
        gap.sort()
        seen: list[float] = []
        for _, right in gap:
            crossed += sum(one > right for one in seen)
            seen.append(right)
    return crossed
