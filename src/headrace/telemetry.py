"""Every count and log record of Headrace by name, in one place. Nothing is logged or counted under another name.

A `Telemetry` belongs to one app. Counting is a dictionary update; records go to the standard `logging` loggers below
"headrace", whose levels and handlers Headrace never sets.
"""

from __future__ import annotations

import enum
import logging
from collections import Counter


class Count(enum.StrEnum):
    """What an app counts since it was assembled (G13)."""

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
    LEASE_LOST = "headrace.lease.lost"
    TAKEN_OVER = "headrace.lease.taken_over"
    OWNERLESS = "headrace.lease.ownerless"
    DRAIN_CUT = "headrace.drain.cut"
    REDRIVEN = "headrace.dead_letter.redriven"
    DROPPED = "headrace.dead_letter.dropped"


Labels = tuple[tuple[str, str], ...]
"""What a count was of: names and values, sorted by name."""


class Telemetry:
    """The counts and loggers of one app.

    Args:
        app: the app's name, in every record.
    """

    __slots__ = ("app", "counts", "labelled", "logger")

    def __init__(self, app: str) -> None:
        self.app = app
        self.counts: Counter[Count] = Counter()
        self.labelled: Counter[tuple[Count, Labels]] = Counter()
        """The same counts, of those that tell more: by topic, group, type or handler."""
        self.logger = logging.getLogger("headrace")

    def count(self, what: Count, amount: int = 1, **labels: str) -> None:
        """Add to a count.

        Args:
            what: which.
            amount: how much.
            labels: what it was of, from a small set of values, such as `topic`, `group`, `type` and `handler`; never an id
                or a key.
        """
        self.counts[what] += amount
        if labels:
            self.labelled[what, tuple(sorted(labels.items()))] += amount

    def info(self, text: str, **fields: object) -> None:
        """Log at INFO; fields become attributes of the record, under `headrace`."""
        self._log(logging.INFO, text, fields)

    def warning(self, text: str, **fields: object) -> None:
        """Log at WARNING: something that a person should know of."""
        self._log(logging.WARNING, text, fields)

    def error(self, text: str, error: BaseException | None = None, **fields: object) -> None:
        """Log at ERROR, with the traceback of `error`."""
        self._log(logging.ERROR, text, fields, error)

    def _log(
        self, level: int, text: str, fields: dict[str, object], error: BaseException | None = None
    ) -> None:
        if self.logger.isEnabledFor(level):
            self.logger.log(
                level,
                text,
                exc_info=error,
                extra={"headrace": {"app": self.app, **fields}},
                stacklevel=3,
            )
