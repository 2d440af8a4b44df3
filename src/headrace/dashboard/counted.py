"""The counts of all processes put together: how much in total, and how many a second now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from headrace.telemetry import Count, read


class Amount(NamedTuple):
    """How often something was counted.

    Args:
        total: since the processes that live were started.
        rate: in a second now; None if it is not known yet.
    """

    total: int
    rate: float | None


class Counts:
    """Sums over processes, by the name of a count and by some of its labels.

    Args:
        totals: by count, as `Telemetry.snapshot` writes it.
        rates: the same; None if they are not known yet.
    """

    def __init__(
        self, totals: Mapping[str, int] | None = None, rates: Mapping[str, float] | None = None
    ) -> None:
        self._known = rates is not None
        self._whole: dict[str, Amount] = {}
        self._parts: dict[str, list[tuple[dict[str, str], int, float]]] = {}
        self._sums: dict[tuple[str, tuple[str, ...]], dict[tuple[str, ...], Amount]] = {}
        for text, total in (totals or {}).items():
            name, labels = read(text)
            rate = (rates or {}).get(text, 0.0)
            if labels:
                self._parts.setdefault(name, []).append((dict(labels), total, rate))
            else:
                self._whole[name] = Amount(total, rate if self._known else None)

    def of(self, what: Count, **labels: str) -> Amount:
        """How much was counted with these labels, whatever others there are."""
        nothing = Amount(0, 0.0 if self._known else None)
        if not labels:
            return self._whole.get(what, nothing)
        names = tuple(sorted(labels))
        found = self._sums.get((what, names))
        if found is None:
            found = self._sums[what, names] = self._by(what, names)
        return found.get(tuple(labels[name] for name in names), nothing)

    def _by(self, what: Count, names: tuple[str, ...]) -> dict[tuple[str, ...], Amount]:
        """Sums of one count by the values of these labels, made once however many ask."""
        sums: dict[tuple[str, ...], tuple[int, float]] = {}
        for labels, total, rate in self._parts.get(what, ()):
            if all(name in labels for name in names):
                values = tuple(labels[name] for name in names)
                before = sums.get(values, (0, 0.0))
                sums[values] = (before[0] + total, before[1] + rate)
        return {
            values: Amount(total, rate if self._known else None)
            for values, (total, rate) in sums.items()
        }


def summed(found: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of several processes together."""
    sums: dict[str, int] = {}
    for one in found:
        for text, amount in one.items():
            sums[text] = sums.get(text, 0) + amount
    return sums
