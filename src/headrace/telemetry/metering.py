"""Metrics on the OpenTelemetry API. Exists only while an SDK is set up; the rest of Headrace asks for `Telemetry.metering`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary, WeakSet

from headrace.telemetry.counts import Count, Tallies
from headrace.telemetry.faults import SdkFaults
from headrace.telemetry.names import (
    BUCKETS,
    DURATIONS,
    GAUGES,
    HANDLE_DURATION,
    LABELS,
    METRICS,
    OPERATION_DURATION,
    PROCESS_DURATION,
    SCHEMA,
    SCOPE,
    SEND_DURATION,
    Attribute,
    Metric,
    Outcome,
)
from headrace.telemetry.providers import error_type, version

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation

    from headrace.telemetry.log import Logbook

Found = tuple[tuple[str, str], ...]
"""Attributes and their values, sorted: what a number is of."""

Reading = Mapping[tuple[Metric, Found], float]
"""The gauges of an app, as they were read last."""


class Metering:
    """Records the metrics of one app. Counts and gauges are read when somebody collects; reading them does no I/O.

    Args:
        provider: of meters.
        app: the app's name.
        log: where errors of the SDK are told; they disturb nobody.
        counts: its counts.
    """

    def __init__(
        self,
        provider: MeterProvider,
        app: str,
        log: Logbook,
        counts: Tallies,
    ) -> None:
        instruments = _instruments.get(provider)
        if instruments is None:
            instruments = _instruments[provider] = _Instruments(provider)
        instruments.sources.add(self)
        self._histograms = instruments.histograms
        self._app = app
        self._faults = SdkFaults(log)
        self._counts = counts
        self.gauges: Reading = {}
        """Set from time to time by whoever reads the storage; empty while the app does not run."""

    def sent(self, request: str, seconds: float, error: BaseException | None) -> None:
        """A send has ended."""
        self._record(SEND_DURATION, seconds, error, {Attribute.REQUEST: request})

    def handled(
        self, handler: str, message: str, seconds: float, error: BaseException | None
    ) -> None:
        """A handler has ended."""
        attributes: dict[str, str] = {Attribute.HANDLER: handler, Attribute.MESSAGE: message}
        self._record(HANDLE_DURATION, seconds, error, attributes)

    def operation(
        self,
        name: str,
        type_: str,
        system: str,
        topic: str,
        group: str | None,
        seconds: float,
        error: BaseException | None,
    ) -> None:
        """A call of the broker has ended."""
        attributes: dict[str, str] = {
            Attribute.OPERATION_NAME: name,
            Attribute.OPERATION_TYPE: type_,
            Attribute.SYSTEM: system,
            Attribute.DESTINATION: topic,
        }
        if group is not None:
            attributes[Attribute.GROUP] = group
        self._record(OPERATION_DURATION, seconds, error, attributes)

    def processed(
        self,
        system: str,
        topic: str,
        group: str,
        type_: str,
        outcome: Outcome | None,
        seconds: float,
        error: BaseException | None,
    ) -> None:
        """A group has done with a message, for now."""
        attributes: dict[str, str] = {
            Attribute.OPERATION_NAME: "process",
            Attribute.OPERATION_TYPE: "process",
            Attribute.SYSTEM: system,
            Attribute.DESTINATION: topic,
            Attribute.GROUP: group,
            Attribute.MESSAGE_TYPE: type_,
        }
        if outcome is not None:
            attributes[Attribute.OUTCOME] = outcome.value
        self._record(PROCESS_DURATION, seconds, error, attributes)

    def _record(
        self,
        metric: Metric,
        seconds: float,
        error: BaseException | None,
        attributes: dict[str, str],
    ) -> None:
        attributes[Attribute.APP] = self._app
        if error is not None:
            attributes[Attribute.ERROR_TYPE] = error_type(error)
        try:
            self._histograms[metric].record(seconds, attributes)
        except Exception as fault:
            self._faults.took(fault)

    def observed(self, metric: Metric) -> Iterable[tuple[Found, float]]:
        """The numbers of a count or gauge now."""
        if metric.kind == "gauge":
            for (what, found), number in self.gauges.items():
                if what is metric:
                    yield self._of_app(found), number
            return
        parts = self._counts.parts(Count(metric.name))
        # Zero of everything is known beforehand only where there are no labels.
        if not (parts or metric.attributes):
            parts.append(((), 0))
        for labels, number in parts:
            yield self._of_app(tuple((LABELS[name], value) for name, value in labels)), number

    def _of_app(self, found: Found) -> Found:
        return tuple(sorted((*found, (Attribute.APP.value, self._app))))


class _Instruments:
    """The instruments of one provider, which keeps a single one of a name: all apps of the process share them."""

    def __init__(self, provider: MeterProvider) -> None:
        from opentelemetry.metrics import Observation

        meter = provider.get_meter(SCOPE, version(), schema_url=SCHEMA)
        self.sources: WeakSet[Metering] = WeakSet()
        self.histograms: dict[Metric, Histogram] = {
            one: meter.create_histogram(
                one.name,
                unit=one.unit,
                description=one.about,
                explicit_bucket_boundaries_advisory=BUCKETS,
            )
            for one in DURATIONS
        }
        for one in METRICS:
            if one.kind == "histogram":
                continue
            make = (
                meter.create_observable_gauge if one in GAUGES else meter.create_observable_counter
            )
            make(one.name, [self._callback(one, Observation)], one.unit, one.about)

    def _callback(
        self, metric: Metric, make: type[Observation]
    ) -> Callable[[CallbackOptions], Sequence[Observation]]:
        sources = self.sources

        def observe(options: CallbackOptions) -> Sequence[Observation]:
            found: dict[Found, float] = {}
            for source in tuple(sources):
                for attributes, number in source.observed(metric):
                    # A second app of one name (a variant, a test) adds to the first.
                    found[attributes] = found.get(attributes, 0) + number
            return [make(number, dict(attributes)) for attributes, number in found.items()]

        return observe


# As the instruments themselves, this belongs to the process: a provider takes a name's callbacks once.
_instruments: Final[WeakKeyDictionary[MeterProvider, _Instruments]] = WeakKeyDictionary()
