"""How what was done about dead letters is counted and logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from headrace.telemetry import Count, LogEvent

if TYPE_CHECKING:
    from headrace.telemetry import Telemetry

_EVENTS: Final = {
    Count.REDRIVEN: LogEvent.REDRIVEN,
    Count.DROPPED: LogEvent.DROPPED,
    Count.EDITED: LogEvent.EDITED,
}


class Placed(Protocol):
    """What stands somewhere: a dead letter."""

    @property
    def queue(self) -> str:
        """The queue."""
        ...

    @property
    def group(self) -> str | None:
        """The group, if it is one's."""
        ...

    @property
    def topic(self) -> str:
        """The topic."""
        ...


def note_repair(
    telemetry: Telemetry,
    what: Count,
    letters: Sequence[Placed],
    count: int,
    text: str,
    by: str,
    **named: object,
) -> None:
    """Count and log what somebody has done about dead letters.

    Args:
        telemetry: the app's.
        what: was done.
        letters: for which it was asked.
        count: how many of them were dead letters still.
        text: what was done, as a sentence.
        by: who wanted it, or "".
        named: fields of the log record, besides where they all stand and `by`.
    """
    queues = Counter((("queue", letter.queue), ("topic", letter.topic)) for letter in letters)
    if count == len(letters) or len(queues) == 1:
        for labels, amount in queues.items():
            telemetry.tally(what, labels, min(amount, count))
    else:  # somebody else was faster with some of them, and the storage does not tell with which
        telemetry.tally(what, (), count)
    if by:
        text, named = f"{text} By {by!r}.", {**named, "by": by}
    telemetry.warning(_EVENTS[what], text, **_common(letters), **named)


def _common(letters: Sequence[Placed]) -> dict[str, str]:
    """Queue, group and topic, as far as all have the same."""
    found: dict[str, set[str | None]] = {
        "queue": {letter.queue for letter in letters},
        "group": {letter.group for letter in letters},
        "topic": {letter.topic for letter in letters},
    }
    common = {name: values.pop() for name, values in found.items() if len(values) == 1}
    return {name: value for name, value in common.items() if value is not None}
