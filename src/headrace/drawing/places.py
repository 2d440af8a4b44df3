"""How far down each item of a column stands: the last step of a layered drawing, so that arrows are as level as they can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

ROUNDS = 30


class Tie(Struct, frozen=True):
    """A wish for a level line between two items.

    Args:
        source: an item.
        source_down: how far below its top the line leaves.
        target: another item.
        target_down: how far below its top the line arrives.
        weight: how much it counts: the bends of a long arrow should be level before anything else.
    """

    source: int
    source_down: float
    target: int
    target_down: float
    weight: float = 1.0


def placed(
    columns: Sequence[Sequence[int]],
    heights: Mapping[int, float],
    ties: Sequence[Tie],
    space: float,
) -> dict[int, float]:
    """The top of each item, the first at 0. Items of a column keep their order and `space` between them."""
    tops: dict[int, float] = {}
    for column in columns:
        down = 0.0
        for item in column:
            tops[item] = down
            down += heights[item] + space
    wishes: dict[int, list[tuple[int, float, float]]] = {item: [] for item in tops}
    for tie in ties:
        shift = tie.source_down - tie.target_down
        wishes[tie.target].append((tie.source, shift, tie.weight))
        wishes[tie.source].append((tie.target, -shift, tie.weight))
    for number in range(ROUNDS):
        for column in columns if number % 2 == 0 else list(reversed(columns)):
            wanted: list[float] = []
            weights: list[float] = []
            for item in column:
                heard = wishes[item]
                weight = sum(one[2] for one in heard)
                total = sum((tops[other] + shift) * w for other, shift, w in heard)
                wanted.append(total / weight if weight else tops[item])
                weights.append(weight or 0.01)
            tops.update(
                zip(
                    column,
                    _spread(wanted, weights, [heights[i] + space for i in column]),
                    strict=True,
                )
            )
    least = min(tops.values(), default=0.0)
    return {item: round(top - least, 1) for item, top in tops.items()}


def _spread(
    wanted: Sequence[float], weights: Sequence[float], steps: Sequence[float]
) -> list[float]:
    """The places nearest to those wanted, by the sum of squares, of which each is at least a step behind the one before.

    Source: pool adjacent violators, M. Ayer et al., "An Empirical Distribution Function for Sampling with Incomplete
    Information" (1955).
    """
    before = [sum(steps[:n]) for n in range(len(steps))]
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for place, weight, shift in zip(wanted, weights, before, strict=True):
        mean, many = place - shift, 1
        while pools and pools[-1][0] > mean:
            other, heavy, number = pools.pop()
            mean = (mean * weight + other * heavy) / (weight + heavy)
            weight, many = weight + heavy, many + number
        pools.append((mean, weight, many))
    means = [mean for mean, _, many in pools for _ in range(many)]
    return [mean + shift for mean, shift in zip(means, before, strict=True)]
