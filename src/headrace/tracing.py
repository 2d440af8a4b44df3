"""Messages and spans: what goes with a message to the broker and back, so that one trace shows command to consumer.

Everything here is a plain call while no OpenTelemetry SDK is set up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

    from headrace.broker import Broker, Received, Rejected
    from headrace.envelope import Envelope, Message
    from headrace.telemetry import Telemetry
    from headrace.telemetry.tracing import Tracing

MOST_LINKS: Final = 128
"""Links of one span: what SDKs keep by default."""


def system_of(broker: Broker) -> str:
    """The broker's `messaging.system`: its attribute `system`, else its class without "Broker", in small letters."""
    named = getattr(broker, "system", None)
    return named if isinstance(named, str) else type(broker).__name__.removesuffix("Broker").lower()


def traced(telemetry: Telemetry, envelope: Envelope) -> Envelope:
    """The envelope of an event that is raised now: whoever handles it later continues the current span."""
    if telemetry.tracing is None:
        return envelope
    return _carrying(envelope, *telemetry.tracing.carried())


def _carrying(envelope: Envelope, traceparent: str | None, tracestate: str | None) -> Envelope:
    if traceparent is None:
        return envelope
    extensions: Mapping[str, str] = envelope.extensions
    if tracestate is not None or "tracestate" in extensions:
        kept = {name: value for name, value in extensions.items() if name != "tracestate"}
        extensions = {**kept, "tracestate": tracestate} if tracestate is not None else kept
    return replace(envelope, traceparent=traceparent, extensions=extensions)


async def publish(
    broker: Broker, messages: Sequence[Message], telemetry: Telemetry
) -> Sequence[Rejected]:
    """`Broker.publish`, with a span for each message and one for the call.

    The messages go out with the context of their own spans, so that consumers continue these. See `Broker.publish`.
    """
    tracing, metering = telemetry.tracing, telemetry.metering
    if (tracing is None and metering is None) or not messages:
        return await broker.publish(messages)
    began, error = time.perf_counter(), None
    system = system_of(broker)
    spans = _Publishing(tracing, system, messages) if tracing is not None else None
    try:
        with spans.running() if spans is not None else nullcontext():
            rejected = await broker.publish(spans.messages if spans is not None else messages)
    except BaseException as failed:
        error = failed
        raise
    else:
        if spans is not None:
            spans.rejected(rejected)
        return rejected
    finally:
        if spans is not None:
            spans.end(error)
        if metering is not None:
            seconds = time.perf_counter() - began
            for topic in {message.topic for message in messages}:
                metering.operation("publish", "send", system, topic, None, seconds, error)


class _Publishing:
    """The spans of one call of `Broker.publish`."""

    def __init__(self, tracing: Tracing, system: str, messages: Sequence[Message]) -> None:
        from headrace.telemetry.names import PUBLISH, PUBLISH_BATCH, Attribute

        self._tracing = tracing
        self._spans: list[Span] = []
        self.messages: list[Message] = []
        for message in messages:
            envelope = message.envelope
            span = tracing.start(
                PUBLISH,
                message.topic,
                {
                    Attribute.SYSTEM: system,
                    Attribute.DESTINATION: message.topic,
                    **attributes_of(tracing, message),
                },
                parent=tracing.context_of(
                    envelope.traceparent, envelope.extensions.get("tracestate")
                ),
            )
            self._spans.append(span)
            carrying = _carrying(envelope, *tracing.carried_by(span))
            self.messages.append(replace(message, envelope=carrying))
        self._call: Span | None = None
        if len(messages) > 1:
            topics = Counter(message.topic for message in messages)
            topic = next(iter(topics)) if len(topics) == 1 else ""
            self._call = tracing.start(
                PUBLISH_BATCH,
                topic,
                {
                    Attribute.SYSTEM: system,
                    Attribute.BATCH_COUNT: len(messages),
                    **({Attribute.DESTINATION: topic} if topic else {}),
                },
                parent=tracing.context_of(None, None),
                links=[span.get_span_context() for span in self._spans[:MOST_LINKS]],
            )

    def running(self) -> AbstractContextManager[object]:
        """What the driver's own instrumentation nests in."""
        return self._tracing.current(self._call or self._spans[0])

    def rejected(self, rejected: Sequence[Rejected]) -> None:
        for one in rejected:
            self._tracing.failed(self._spans[one.index], one.reason)

    def end(self, error: BaseException | None) -> None:
        for span in [*self._spans, *([self._call] if self._call is not None else [])]:
            if error is not None:
                self._tracing.failed(span, error)
            self._tracing.end(span)


def attributes_of(tracing: Tracing, message: Message) -> dict[str, str | int]:
    """What every span of a message tells of it."""
    from headrace.telemetry.names import Attribute

    envelope = message.envelope
    found: dict[str, str | int] = {
        Attribute.MESSAGE_ID: envelope.id,
        Attribute.MESSAGE_TYPE: envelope.type,
    }
    if envelope.correlationid is not None:
        found[Attribute.CORRELATION_ID] = envelope.correlationid
    if tracing.keys and message.key is not None:
        found[Attribute.MESSAGE_KEY] = message.key
    return found


async def receive(
    broker: Broker,
    group: str,
    topic: str,
    after: Mapping[int, str | None],
    *,
    limit: int,
    telemetry: Telemetry,
) -> tuple[Sequence[Received], SpanContext | None]:
    """`Broker.read`, with a span if it brought something: looking into an empty log is no news.

    Returns:
        What was read, and the span of it, for those that process it to link to.
    """
    tracing, metering = telemetry.tracing, telemetry.metering
    if tracing is None and metering is None:
        return await broker.read(group, topic, after, limit=limit), None
    began, began_ns = time.perf_counter(), time.time_ns()
    received = await broker.read(group, topic, after, limit=limit)
    if not received:
        return received, None
    system = system_of(broker)
    if metering is not None:
        seconds = time.perf_counter() - began
        metering.operation("receive", "receive", system, topic, group, seconds, None)
    if tracing is None:
        return received, None
    from headrace.telemetry.names import RECEIVE, Attribute

    published = (
        tracing.span_of(e.traceparent, e.extensions.get("tracestate"))
        for e in (one.message.envelope for one in received[:MOST_LINKS])
    )
    span = tracing.start(
        RECEIVE,
        topic,
        {
            Attribute.SYSTEM: system,
            Attribute.DESTINATION: topic,
            Attribute.GROUP: group,
            Attribute.BATCH_COUNT: len(received),
        },
        parent=tracing.context_of(None, None),
        links=[one for one in published if one is not None],
        start_time=began_ns,
    )
    tracing.end(span)
    return received, span.get_span_context()


async def settle(
    broker: Broker, group: str, topic: str, positions: Mapping[int, str], telemetry: Telemetry
) -> None:
    """`Broker.settle`, with a span."""
    tracing, metering = telemetry.tracing, telemetry.metering
    if (tracing is None and metering is None) or not positions:
        await broker.settle(group, topic, positions)
        return
    from headrace.telemetry.names import SETTLE, Attribute

    began, error = time.perf_counter(), None
    system = system_of(broker)
    span: Span | None = None
    if tracing is not None:
        attributes: dict[str, str | int] = {
            Attribute.SYSTEM: system,
            Attribute.DESTINATION: topic,
            Attribute.GROUP: group,
        }
        span = tracing.start(SETTLE, topic, attributes, parent=tracing.context_of(None, None))
    try:
        with tracing.current(span) if tracing is not None and span is not None else nullcontext():
            await broker.settle(group, topic, positions)
    except BaseException as failed:
        error = failed
        raise
    finally:
        if tracing is not None and span is not None:
            if error is not None:
                tracing.failed(span, error)
            tracing.end(span)
        if metering is not None:
            seconds = time.perf_counter() - began
            metering.operation("settle", "settle", system, topic, group, seconds, error)


class Parts(Protocol):
    """The messages of a batch, which are processed one after another in one transaction."""

    def part(self, message: Message) -> AbstractContextManager[object]:
        """What goes around the handlers of one of them."""
        ...


batch: Final[ContextVar[Parts | None]] = ContextVar("headrace_batch", default=None)
"""The batch that the running task processes, while somebody looks; a message alone has none."""


def part(telemetry: Telemetry, message: Message) -> AbstractContextManager[object]:
    """What goes around the handlers of one consumed message."""
    if not telemetry.collected:
        return _NOTHING
    running = batch.get()
    return running.part(message) if running is not None else _NOTHING


_NOTHING: Final = nullcontext()
