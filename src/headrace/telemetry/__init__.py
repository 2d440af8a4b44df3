"""Every count, span, metric and log record of Headrace by name, in one place. Nothing goes out under another name.

A `Telemetry` belongs to one app. Counting is a dictionary update; records go to the standard `logging` loggers below
"headrace", whose levels and handlers Headrace never sets.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from headrace.telemetry.counts import Count, Labels, Tallies, read, total, written
from headrace.telemetry.events import LogEvent
from headrace.telemetry.log import Logbook, about

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from headrace.telemetry.metering import Metering
    from headrace.telemetry.tracing import Tracing

__all__ = [
    "Count",
    "Labels",
    "LogEvent",
    "Logbook",
    "Telemetry",
    "about",
    "read",
    "total",
    "written",
]


class Telemetry(Logbook):
    """The counts of one app, and its log.

    Args:
        app: the app's name, in every record.
    """

    __slots__ = (
        "_keys",
        "_meters",
        "_tallies",
        "_tracers",
        "app",
        "metering",
        "observe_sends",
        "tracing",
    )

    def __init__(self, app: str) -> None:
        super().__init__(app=app)
        self.app = app
        self._tallies = Tallies()
        self.observe_sends = False
        """Count each send, each raised event and each handler that ran, by name. Default False: a send that nobody watches
        pays nothing for it. Set it before the app starts."""
        self.tracing: Tracing | None = None
        """Makes spans; None while no OpenTelemetry SDK is set up."""
        self.metering: Metering | None = None
        """Records metrics; None while no OpenTelemetry SDK is set up."""
        self._tracers: TracerProvider | None = None
        self._meters: MeterProvider | None = None
        self._keys = False

    @property
    def collected(self) -> bool:
        """True while an OpenTelemetry SDK takes the app's spans or metrics."""
        return self.tracing is not None or self.metering is not None

    @property
    def counts(self) -> Counter[Count]:
        """All counts now, whatever they were of."""
        return self._tallies.totals

    @property
    def labelled(self) -> Counter[tuple[Count, Labels]]:
        """The same counts, of those that tell more: by topic, group, type or handler."""
        return self._tallies.labelled

    def use(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        keys: bool = False,
    ) -> None:
        """Settings of OpenTelemetry for this app; to be called before it starts. Without it the process's providers are used.

        Args:
            tracer_provider: where spans go. Default None: to the provider of the process, if one is set up.
            meter_provider: where metrics go. Default None: in the same way.
            keys: write the keys of messages into spans. Default False: they may be personal.
        """
        self._tracers, self._meters, self._keys = tracer_provider, meter_provider, keys

    def open(self) -> None:
        """The app starts: look for an SDK. An app that finds none compiles nothing of it in."""
        from headrace.telemetry import providers

        tracers = self._tracers or providers.tracer_provider()
        meters = self._meters or providers.meter_provider()
        self.tracing = None
        if tracers is not None:
            from headrace.telemetry.tracing import Tracing

            self.tracing = Tracing(tracers, self.app, self, keys=self._keys)
        if meters is not None and self.metering is None:
            from headrace.telemetry.metering import Metering

            self.metering = Metering(meters, self.app, self, self._tallies)

    def fresh(self) -> Telemetry:
        """A telemetry of the same app with the same settings, and no counts: for a variant of the app."""
        twin = Telemetry(self.app)
        twin.observe_sends = self.observe_sends
        twin.use(tracer_provider=self._tracers, meter_provider=self._meters, keys=self._keys)
        return twin

    def count(self, what: Count, amount: int = 1, **labels: str) -> None:
        """Add to a count.

        Args:
            what: which.
            amount: how much.
            labels: what it was of, from a small set of values, such as `topic`, `group`, `type` and `handler`; never an id
                or a key.
        """
        self.tally(what, tuple(sorted(labels.items())), amount)

    def tally(self, what: Count, labels: Labels, amount: int = 1) -> None:
        """Add to a count whose labels are made already; see `count`. What is called often has them ready."""
        self._tallies.add(what, labels, amount)

    def cell(self, what: Count, labels: Labels) -> list[int]:
        """A count with labels for the hot path: fetch it once, and write `cell[0] += 1` each time."""
        return self._tallies.cell(what, labels)

    def snapshot(self) -> dict[str, int]:
        """All counts as plain data: totals such as `headrace.relay.published`, and their parts.

        A part is written `headrace.lease.lost{queue=outbox:meetings}`; `headrace.telemetry.read` takes it to pieces.
        """
        return self._tallies.snapshot()
