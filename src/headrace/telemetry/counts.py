"""What an app counts, and how counts are written as text."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
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


def snapshot(
    counts: Mapping[Count, int], labelled: Iterable[tuple[tuple[Count, Labels], int]]
) -> dict[str, int]:
    """All counts as text and number, each total before its parts."""
    found = {written(what): amount for what, amount in counts.items()}
    found.update((written(what, labels), amount) for (what, labels), amount in labelled)
    return dict(sorted(found.items()))


# Patterns are compiled when the first one asks: `import headrace` stays quick.
_SPECIAL: Final = r"([\\,{}])"
_ESCAPED: Final = r"\\\1"
_PAIR: Final = r"(\w+)=((?:\\.|[^,\\])*)(?:,|$)"
_UNESCAPED: Final = r"\\(.)"
