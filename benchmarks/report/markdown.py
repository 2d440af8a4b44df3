"""How figures look in tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.timing import Comparison


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, with its columns aligned in the source too."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    written = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    ]
    written.insert(1, f"| {' | '.join('-' * max(3, width) for width in widths)} |")
    return "\n".join(written) + "\n"


def ratio(found: Comparison) -> str:
    """How many times the work by hand takes."""
    return f"{found.ratio:.2f}" if found.ratio < 10 else f"{found.ratio:.0f}"


def spread(found: Comparison) -> str:
    """The quartiles of the ratio."""
    lower, upper = found.spread
    digits = 2 if upper < 10 else 0
    return f"({lower:.{digits}f} to {upper:.{digits}f})"


def at_most(found: Comparison | None, target: float | None) -> str:
    """Whether the ratio of the times reaches its target."""
    if target is None or found is None:
        return ""
    return f"{target:g}, {'reached' if round(found.ratio, 2) <= target else 'missed'}"


def share(found: Comparison) -> str:
    """The rate as a part of that by hand, the median of the rounds, and the quartiles."""
    lower, upper = found.spread
    return f"**{1 / found.ratio:.0%}** ({1 / upper:.0%} to {1 / lower:.0%})"


def at_least(found: Comparison, target: float) -> str:
    """Whether the share of the rate by hand reaches its target."""
    return f"{target:.0%}, {'reached' if round(1 / found.ratio, 2) >= target else 'missed'}"


def rate(seconds: Sequence[float]) -> str:
    """So many a second, the median."""
    return f"{1 / statistics.median(seconds):,.0f}/s"


def missing(found: dict[str, str]) -> list[str]:
    """A sentence for each that could not be measured."""
    return [f"{name} was not measured: {why}.\n" for name, why in found.items()]
