"""A real OpenTelemetry SDK whose spans and metrics stay in memory, and words to ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headrace import Headrace


class Collected:
    """What apps that `watch` was called for have told."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider(metric_readers=[self._reader])

    def watch(self, app: Headrace, **settings: Any) -> Headrace:
        app.telemetry.use(tracer_provider=self.tracers, meter_provider=self.meters, **settings)
        return app

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._spans.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def path(self, span: ReadableSpan) -> list[str]:
        """The names from the root of its trace down to a span."""
        known = {one.context.span_id: one for one in self.spans}
        names = [span.name]
        while span.parent is not None:
            if span.parent.span_id not in known:
                return ["?", *names]
            span = known[span.parent.span_id]
            names.insert(0, span.name)
        return names

    def numbers(self, metric: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """The points of a metric by attributes: values, and counts of histograms."""
        data = self._reader.get_metrics_data()
        found: dict[tuple[tuple[str, Any], ...], Any] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for one in scope.metrics:
                    if one.name == metric:
                        for point in one.data.data_points:
                            value = getattr(point, "value", None)
                            found[tuple(sorted((point.attributes or {}).items()))] = (
                                value if value is not None else point.count
                            )
        return found
