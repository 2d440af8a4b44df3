"""What an app counts, and how counts are written as text."""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Mapping
from typing import Final


class Count(enum.StrEnum):
    """What an app counts since it was assembled (G13)."""

    SENT = "headrace.request.sent"
    SEND_FAILED = "headrace.request.failed"
    HANDLED = "headrace.handler.handled"
    HANDLER_FAILED = "headrace.handler.failed"
    RAISED = "headrace.event.raised"
    EVENT_UNHANDLED = "headrace.event.unhandled"
    AFTER_COMMIT_FAILED = "headrace.after_commit.failed"
    FINALIZER_FAILED = "headrace.unit.finalizer_failed"
    PUBLISHED = "headrace.relay.published"
    PUBLISH_REJECTED = "headrace.relay.rejected"
    RELAY_PAUSED = "headrace.relay.paused"
    CONSUMED = "headrace.consumer.handled"
    DUPLICATE = "headrace.consumer.duplicate"
    HELD = "headrace.consumer.held"
    RETRIED = "headrace.consumer.retried"
    DEAD = "headrace.consumer.dead"
    SKIPPED = "headrace.consumer.skipped"
    BATCH_SPLIT = "headrace.consumer.batch_split"
    CLASHED = "headrace.consumer.clashed"
    CONSUMER_PAUSED = "headrace.consumer.paused"
    DEDUP_WINDOW_MISSED = "headrace.consumer.dedup_window_missed"
    LEASE_LOST = "headrace.lease.lost"
    TAKEN_OVER = "headrace.lease.taken_over"
    OWNERLESS = "headrace.lease.ownerless"
    PULSE_MISSED = "headrace.pulse.missed"
    GAUGES_MISSED = "headrace.gauges.missed"
    DRAIN_CUT = "headrace.drain.cut"
    REDRIVEN = "headrace.dead_letter.redriven"
    DROPPED = "headrace.dead_letter.dropped"
    EDITED = "headrace.dead_letter.edited"


Labels = tuple[tuple[str, str], ...]
"""What a count was of: names and values, sorted by name."""


def written(what: str, labels: Labels = ()) -> str:
    """A count with its labels as text: `headrace.relay.published{topic=meetings}`.

    A comma, a brace or a backslash in a value has a backslash before it; `read` undoes that.
    """
    if not labels:
        return what
    inside = ",".join(f"{name}={re.sub(_SPECIAL, _ESCAPED, value)}" for name, value in labels)
    return f"{what}{{{inside}}}"


def read(text: str) -> tuple[str, Labels]:
    """The opposite of `written`: the name of a count and its labels."""
    what, brace, rest = text.partition("{")
    if not brace:
        return what, ()
    pairs = re.findall(_PAIR, rest.removesuffix("}"))
    return what, tuple((name, re.sub(_UNESCAPED, r"\1", value)) for name, value in pairs)


def total(counts: Mapping[str, int], what: Count, **labels: str) -> int:
    """How much was counted with these labels, whatever others there are.

    Args:
        counts: as `Telemetry.snapshot` answers.
        what: which count.
        labels: those that are wanted; none gives the total.
    """
    if not labels:
        return counts.get(what, 0)
    wanted = labels.items()
    return sum(
        amount
        for name, found, amount in ((*read(text), n) for text, n in counts.items())
        if name == what and wanted <= dict(found).items()
    )


class Tallies:
    """All counts of an app. They only grow.

    What is counted on the hot path has a *cell*, which is fetched once and grown in place; the rest is added.
    """

    __slots__ = ("_cells", "_labelled", "_totals")

    def __init__(self) -> None:
        self._totals: Counter[Count] = Counter()
        self._labelled: Counter[tuple[Count, Labels]] = Counter()
        self._cells: dict[tuple[Count, Labels], list[int]] = {}

    def add(self, what: Count, labels: Labels, amount: int = 1) -> None:
        """Add to a count."""
        self._totals[what] += amount
        if labels:
            self._labelled[what, labels] += amount

    def cell(self, what: Count, labels: Labels) -> list[int]:
        """The cell of a count with labels, for `cell[0] += 1` (measured: a tenth of `add`); always the same one."""
        return self._cells.setdefault((what, labels), [0])

    @property
    def totals(self) -> Counter[Count]:
        """Each count now, whatever its labels; a copy."""
        found = self._totals.copy()
        for (what, _), amount in self._grown():
            found[what] += amount
        return found

    @property
    def labelled(self) -> Counter[tuple[Count, Labels]]:
        """Each count now by its labels, if it has any; a copy."""
        found = self._labelled.copy()
        for key, amount in self._grown():
            found[key] += amount
        return found

    def parts(self, what: Count) -> list[tuple[Labels, int]]:
        """A count by its labels, and without labels what was counted without them. Any thread may ask."""
        # Copies: the event loop counts on.
        added = [(labels, n) for (one, labels), n in self._labelled.copy().items() if one is what]
        rest = self._totals[what] - sum(n for _, n in added)
        cells = [(labels, n) for (one, labels), n in self._grown() if one is what]
        return [*added, *cells, *([((), rest)] if rest > 0 else [])]

    def snapshot(self) -> dict[str, int]:
        """All counts as text and number, each total before its parts."""
        found = {written(what): amount for what, amount in self.totals.items()}
        found.update((written(what, labels), n) for (what, labels), n in self.labelled.items())
        return dict(sorted(found.items()))

    def _grown(self) -> list[tuple[tuple[Count, Labels], int]]:
        return [(key, cell[0]) for key, cell in list(self._cells.items()) if cell[0]]


# Patterns are compiled when the first one asks: `import headrace` stays quick.
_SPECIAL: Final = r"([\\,{}])"
_ESCAPED: Final = r"\\\1"
_PAIR: Final = r"(\w+)=((?:\\.|[^,\\])*)(?:,|$)"
_UNESCAPED: Final = r"\\(.)"
