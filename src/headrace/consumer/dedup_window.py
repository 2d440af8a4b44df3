"""Messages that are older than the inbox remembers: nobody can tell whether they were handled before (G7, G13)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.telemetry import Count, LogEvent, about

if TYPE_CHECKING:
    from headrace.envelope import Message
    from headrace.telemetry import Labels, Telemetry

_SLACK_SECONDS = 24 * 3600.0
"""Times of other producers have offsets of up to 14 hours: as text they are compared with a day's slack."""

_SAME_TEXT_SECONDS = 60.0
"""How long the text of a time is good for, which is dearer than all comparisons with it; the slack is far larger."""


class DedupWindow:
    """Counts messages that were handled as new although they are older than the inbox's retention.

    Such a message may be new indeed, after a long outage. Or it is a repeat, of which the inbox has forgotten the first.

    Args:
        group: whose inbox it is.
        telemetry: the app's.
        retention_seconds: how long the inbox remembers; None leaves the look out.
    """

    __slots__ = ("_group", "_retention", "_said", "_surely_inside", "_telemetry", "_until")

    def __init__(self, group: str, telemetry: Telemetry, retention_seconds: float | None) -> None:
        self._group = group
        self._telemetry = telemetry
        self._retention = retention_seconds
        self._said = False
        self._until = 0.0
        self._surely_inside = ""

    def look(self, messages: Iterable[Message], labels: Labels) -> None:
        """Look at messages that were handled as new just now."""
        if self._retention is None:
            return
        now = time.time()
        begins = now - self._retention
        if not now < self._until <= now + _SAME_TEXT_SECONDS:
            self._until = now + _SAME_TEXT_SECONDS
            self._surely_inside = _text(begins + _SLACK_SECONDS)
        surely_inside = self._surely_inside
        for message in messages:
            at = message.envelope.time
            # Most are of this minute: one comparison of text tells it.
            if at and at < surely_inside and _seconds(at) < begins:
                self._missed(message, labels)

    def _missed(self, message: Message, labels: Labels) -> None:
        self._telemetry.tally(Count.DEDUP_WINDOW_MISSED, labels)
        if self._said or self._retention is None:
            return
        self._said = True
        self._telemetry.warning(
            LogEvent.DEDUP_WINDOW_MISSED,
            f"Group {self._group!r} handled message {message.envelope.id}, which was raised at {message.envelope.time}, longer "
            f"ago than the inbox remembers ({self._retention:g} s): had it been handled before, nobody could tell. Raise "
            "Limits(inbox_retention_seconds=...) above the time that messages stay on the broker. It is said once; all are "
            "counted.",
            group=self._group,
            topic=message.topic,
            **about(message.envelope),
        )


def _text(seconds: float) -> str:
    if seconds < 0:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _seconds(at: str) -> float:
    try:
        return datetime.fromisoformat(at).timestamp()
    except (ValueError, OverflowError):  # a leap second, or a fraction that Python does not read
        return float("inf")
