"""How what was done about dead letters is counted and logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from headrace.stored import AFTER_COMMIT, after_queue
from headrace.telemetry import Count, LogEvent

if TYPE_CHECKING:
    from headrace.telemetry import Labels, Telemetry

_DELIVERIES: Final = after_queue("")

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
        letters: for which it was asked; at least one.
        count: how many of them were dead letters still.
        text: what was done, as a sentence.
        by: who wanted it, or "".
        named: fields of the log record, besides where they all stand and `by`.
    """
    places = Counter(_place(letter) for letter in letters)
    if count == len(letters) or len(places) == 1:
        for labels, amount in places.items():
            telemetry.tally(what, labels, min(amount, count))
    else:  # somebody else was faster with some of them, and the storage does not tell with which
        telemetry.tally(what, (), count)
    if by:
        text, named = f"{text} By {by!r}.", {**named, "by": by}
    first, *others = places
    where = dict(label for label in first if all(label in labels for labels in others))
    groups = {letter.group for letter in letters}
    if len(groups) == 1 and (group := groups.pop()) is not None:
        where["group"] = group
    telemetry.warning(_EVENTS[what], text, **where, **named)


def _place(letter: Placed) -> Labels:
    """Where it stands, as counts of the work there tell it too: the topic of a delivery is the name of its handler."""
    if letter.queue.startswith(_DELIVERIES):
        return (("handler", letter.topic), ("queue", letter.queue), ("topic", AFTER_COMMIT))
    return (("queue", letter.queue), ("topic", letter.topic))
