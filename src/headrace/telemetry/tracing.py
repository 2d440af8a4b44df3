"""Spans on the OpenTelemetry API. Exists only while an SDK is set up; the rest of Headrace asks for `Telemetry.tracing`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from headrace.telemetry.faults import SdkFaults
from headrace.telemetry.names import HANDLE, SCHEMA, SCOPE, SEND, Attribute, SpanName
from headrace.telemetry.providers import error_type, version

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, TracerProvider

    from headrace.telemetry.log import Logbook

Attributes = Mapping[str, str | int]
"""What a span is given at its start; samplers see it."""


class Tracing:
    """Makes the spans of one app. What the SDK raises is logged, and disturbs nobody.

    Args:
        provider: of tracers.
        app: the app's name.
        log: where errors of the SDK are told.
        keys: write the keys of messages into spans; they may be personal, so only when asked.
    """

    def __init__(
        self, provider: TracerProvider, app: str, log: Logbook, *, keys: bool = False
    ) -> None:
        # Here, because `import headrace` imports nothing of OpenTelemetry.
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer(SCOPE, version(), schema_url=SCHEMA)
        self._app = app
        self._faults = SdkFaults(log)
        self.keys = keys
        self.received_in: ContextVar[SpanContext | None] = ContextVar(
            "headrace_received_in", default=None
        )
        """The span that received what the running lane processes."""

    def start(
        self,
        name: SpanName,
        what: str,
        attributes: Attributes,
        *,
        parent: Context | None = None,
        links: Sequence[SpanContext] = (),
        start_time: int | None = None,
    ) -> Span:
        """Start a span; whoever asked for it calls `end`.

        Args:
            name: which kind.
            what: the varying part of its name.
            attributes: besides those of every span of its kind.
            parent: the context of its parent; None takes the current span.
            links: spans that belong to it and are not its parent.
            start_time: nanoseconds since the epoch; None is now.
        """
        found: dict[str, str | int] = {Attribute.APP: self._app}
        if name.type:
            found[Attribute.OPERATION_NAME] = name.operation
            found[Attribute.OPERATION_TYPE] = name.type
        found.update(attributes)
        try:
            return self._tracer.start_span(
                name.of(what),
                parent,
                self._trace.SpanKind[name.kind],
                found,
                [self._trace.Link(one) for one in links],
                start_time,
            )
        except Exception as error:
            self._faults.took(error)
            return self._trace.INVALID_SPAN

    def end(self, span: Span, at: int | None = None) -> None:
        """End a span, now or at a time in nanoseconds since the epoch."""
        try:
            span.end(at)
        except Exception as error:
            self._faults.took(error)

    @contextmanager
    def current(self, span: Span) -> Generator[Span, None, None]:
        """Make a span the current one meanwhile. Neither ends it nor looks at errors."""
        with self._trace.use_span(
            span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        ):
            yield span

    @contextmanager
    def sending(self, request: str, trace: str | None) -> Generator[Span, None, None]:
        """The span of one send. Without a current span it continues `trace`, the caller's `traceparent`."""
        parent: Context | None = None
        if trace is not None and not self._trace.get_current_span().get_span_context().is_valid:
            parent = self.context_of(trace, None)
        with self._spanning(SEND, request, {Attribute.REQUEST: request}, parent) as span:
            yield span

    @contextmanager
    def handling(self, handler: str, message: str) -> Generator[Span, None, None]:
        """The span of one run of one handler."""
        attributes: Attributes = {Attribute.HANDLER: handler, Attribute.MESSAGE: message}
        with self._spanning(HANDLE, handler, attributes) as span:
            yield span

    @contextmanager
    def _spanning(
        self, name: SpanName, what: str, attributes: Attributes, parent: Context | None = None
    ) -> Generator[Span, None, None]:
        span = self.start(name, _short(what), attributes, parent=parent)
        try:
            with self.current(span):
                yield span
        except Exception as error:
            self.failed(span, error)
            raise
        finally:
            self.end(span)

    def failed(self, span: Span, error: BaseException | str) -> None:
        """Write an error into a span: an exception with its traceback, or what a broker said."""
        try:
            if isinstance(error, str):
                span.set_attribute(Attribute.ERROR_TYPE, "rejected")
                span.set_status(self._trace.StatusCode.ERROR, error)
                return
            span.set_attribute(Attribute.ERROR_TYPE, error_type(error))
            span.record_exception(error)
            span.set_status(self._trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
        except Exception as fault:  # also of an error that cannot be written as text
            self._faults.took(fault)

    def carried_by(self, span: Span) -> tuple[str | None, str | None]:
        """`traceparent` and `tracestate` by which others continue a span; None if it has none."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._trace.set_span_in_context(span))
        return carrier.get("traceparent"), carrier.get("tracestate")

    def carried(self) -> tuple[str | None, str | None]:
        """The same of the current span."""
        return self.carried_by(self._trace.get_current_span())

    def context_of(self, traceparent: str | None, tracestate: str | None) -> Context:
        """The context in which a span is the child of what came with a message: the root of a new trace if nothing did."""
        from opentelemetry.context import Context

        carrier = {"traceparent": traceparent or "", "tracestate": tracestate or ""}
        return self._propagator.extract(carrier, Context())

    def span_of(self, traceparent: str | None, tracestate: str | None) -> SpanContext | None:
        """The span that came with a message, to link to; None if none did, or none that can be read."""
        context = self.context_of(traceparent, tracestate)
        found = self._trace.get_current_span(context).get_span_context()
        return found if found.is_valid else None


def _short(name: str) -> str:
    """A qualified name without its module: span names are read by people, attributes have the rest."""
    return name.rpartition("<locals>.")[2].rpartition(".")[2] or name
