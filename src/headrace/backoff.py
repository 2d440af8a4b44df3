"""Growing delays with jitter, and the record of an outage: what relay, consumers and leases do when a server is away.

Source: "Exponential Backoff And Jitter", M. Brooker, AWS Architecture Blog (2015).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Final

from headrace.telemetry import Count, LogEvent
from headrace.text import said_by

if TYPE_CHECKING:
    from headrace.telemetry import Telemetry

_EVENTS: Final = {
    Count.RELAY_PAUSED: (LogEvent.RELAY_PAUSED, LogEvent.RELAY_RESUMED),
    Count.CONSUMER_PAUSED: (LogEvent.CONSUMER_PAUSED, LogEvent.CONSUMER_RESUMED),
    Count.PULSE_MISSED: (LogEvent.PULSE_MISSED, LogEvent.PULSE_RESUMED),
    Count.GAUGES_MISSED: (LogEvent.GAUGES_MISSED, LogEvent.GAUGES_RESUMED),
}
"""What is logged at the first failure of an outage, and at its end, by what it is counted as."""


def exponential(
    attempt: int, *, initial_seconds: float, factor: float, max_seconds: float, jitter: float
) -> float:
    """The delay after the attempt of this number, in seconds.

    Args:
        attempt: from 1.
        initial_seconds: the delay after the first.
        factor: by which each delay is longer than the one before.
        max_seconds: never longer than this, before jitter.
        jitter: the part by which it may be shorter or longer, from 0.0 to 1.0, so that those who failed together do not
            return together.
    """
    try:
        delay = min(initial_seconds * factor ** (attempt - 1), max_seconds)
    except OverflowError:
        delay = max_seconds
    return delay * random.uniform(1.0 - jitter, 1.0 + jitter)


class Backoff:
    """The delays of one outage: 0.1 s, then twice as long each time.

    Args:
        max_seconds: the longest delay, default 30: a server that came back is used again within half a minute, and a
            thousand clients do not keep it from coming back.
    """

    __slots__ = ("_failures", "_max_seconds")

    def __init__(self, max_seconds: float = 30.0) -> None:
        self._failures = 0
        self._max_seconds = max_seconds

    def next(self) -> float:
        """The seconds to wait after one more failure."""
        self._failures += 1
        return exponential(
            self._failures,
            initial_seconds=min(0.1, self._max_seconds),
            factor=2.0,
            max_seconds=self._max_seconds,
            jitter=0.2,
        )

    def reset(self) -> None:
        """It works again: the next outage begins with the shortest delay."""
        self._failures = 0


class Outage:
    """Counts and logs that some work is paused, once from the first failure until all of it goes on again (G13).

    Args:
        what: the work, as the subject of a sentence: "The relay of 'shop'".
        count: the count to add to, once an outage; log records have its name.
        telemetry: the app's.
        expected: True for the errors of infrastructure, which are logged without a traceback.
        labels: what the count is of, such as the topic.
    """

    __slots__ = (
        "_count",
        "_events",
        "_expected",
        "_labels",
        "_parts",
        "_telemetry",
        "_what",
        "error",
    )

    def __init__(
        self,
        what: str,
        count: Count,
        telemetry: Telemetry,
        expected: Callable[[BaseException], bool],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._what = what
        self._labels = tuple(sorted((labels or {}).items()))
        self._count = count
        self._events = _EVENTS[count]
        self._telemetry = telemetry
        self._expected = expected
        self._parts: set[Hashable] = set()
        self.error: BaseException | None = None
        """The last error of the outage that lasts, or None."""

    def failed(self, error: BaseException, part: Hashable = None) -> None:
        """A part of the work has failed and will be tried again."""
        first = not self._parts
        self._parts.add(part)
        self.error = error
        if not first:
            return
        self._telemetry.tally(self._count, self._labels)
        text = (
            f"{self._what} is paused by {type(error).__name__}: {said_by(error)}; it tries again, at growing "
            "intervals, and nothing is lost."
        )
        begun, fields = self._events[0], dict(self._labels)
        if self._expected(error):
            self._telemetry.warning(begun, text, **fields)
        else:
            self._telemetry.error(begun, text, error, **fields)

    def over(self, part: Hashable = None) -> None:
        """A part of the work goes on."""
        if part in self._parts:
            self._parts.discard(part)
            if not self._parts:
                self.error = None
                over = self._events[1]
                self._telemetry.info(over, f"{self._what} goes on.", **dict(self._labels))
