"""The table of everything that leaves Headrace for OpenTelemetry: spans, metrics, attributes. Spelled here and nowhere else.

Source: OpenTelemetry semantic conventions 1.44, messaging spans and messaging metrics
(https://opentelemetry.io/docs/specs/semconv/messaging/). What has no name there begins with `headrace.`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from headrace.telemetry.counts import Count

SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
"""Of which version of the conventions the names are."""

SCOPE: Final = "headrace"
"""The name of the instrumentation scope."""


class Attribute(enum.StrEnum):
    """Attributes of spans and metrics."""

    SYSTEM = "messaging.system"
    OPERATION_NAME = "messaging.operation.name"
    OPERATION_TYPE = "messaging.operation.type"
    DESTINATION = "messaging.destination.name"
    PARTITION = "messaging.destination.partition.id"
    GROUP = "messaging.consumer.group.name"
    MESSAGE_ID = "messaging.message.id"
    CORRELATION_ID = "messaging.message.conversation_id"
    BATCH_COUNT = "messaging.batch.message_count"
    ERROR_TYPE = "error.type"
    APP = "headrace.app"
    REQUEST = "headrace.request"
    HANDLER = "headrace.handler"
    MESSAGE = "headrace.message"
    EVENT = "headrace.event"
    MESSAGE_TYPE = "headrace.message.type"
    MESSAGE_KEY = "headrace.message.key"
    ATTEMPT = "headrace.message.attempt"
    OUTCOME = "headrace.message.outcome"
    QUEUE = "headrace.queue"
    STATE = "headrace.queue.state"


LABELS: Final = {
    "request": Attribute.REQUEST,
    "handler": Attribute.HANDLER,
    "message": Attribute.MESSAGE,
    "event": Attribute.EVENT,
    "topic": Attribute.DESTINATION,
    "group": Attribute.GROUP,
    "type": Attribute.MESSAGE_TYPE,
    "queue": Attribute.QUEUE,
    "error": Attribute.ERROR_TYPE,
}
"""What the labels of counts are called as attributes of metrics."""


class Outcome(enum.StrEnum):
    """What became of a message that was processed: the values of `headrace.message.outcome`."""

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    HELD = "held"
    RETRIED = "retried"
    DEAD = "dead"
    ROLLED_BACK = "rolled back"


OUTCOMES: Final = {
    Count.CONSUMED: Outcome.HANDLED,
    Count.DUPLICATE: Outcome.DUPLICATE,
    Count.HELD: Outcome.HELD,
    Count.RETRIED: Outcome.RETRIED,
    Count.DEAD: Outcome.DEAD,
}
"""The outcome that each of these counts counts."""


@dataclass(frozen=True, slots=True)
class SpanName:
    """A kind of span.

    Args:
        name: with the varying part in braces.
        kind: as OpenTelemetry names it.
        type: `messaging.operation.type`, or "" for none.
        about: what it spans.
        attributes: those that it may have.
    """

    name: str
    kind: str
    type: str
    about: str
    attributes: tuple[Attribute, ...]

    @property
    def operation(self) -> str:
        """The first word of the name."""
        return self.name.partition(" ")[0]

    def of(self, what: str) -> str:
        """The name of one span: `publish meetings`."""
        return f"{self.operation} {what}" if what else self.operation


_A = Attribute
_MESSAGING = (_A.SYSTEM, _A.OPERATION_NAME, _A.OPERATION_TYPE, _A.DESTINATION)
_MESSAGE = (_A.MESSAGE_ID, _A.CORRELATION_ID, _A.MESSAGE_TYPE, _A.MESSAGE_KEY)

SEND: Final = SpanName(
    "send {request}",
    "INTERNAL",
    "",
    "one send, with its unit of work, up to and including the commit",
    (_A.APP, _A.REQUEST, _A.ERROR_TYPE),
)
HANDLE: Final = SpanName(
    "handle {handler}",
    "INTERNAL",
    "",
    "one run of one handler",
    (_A.APP, _A.HANDLER, _A.MESSAGE, _A.ERROR_TYPE),
)
PUBLISH: Final = SpanName(
    "publish {topic}",
    "PRODUCER",
    "send",
    "one message on its way to the broker; its parent is the span that raised the event",
    (*_MESSAGING, *_MESSAGE, _A.APP, _A.ERROR_TYPE),
)
PUBLISH_BATCH: Final = SpanName(
    "publish {topic}",
    "CLIENT",
    "send",
    "one call of the broker with several messages, linked to the span of each",
    (*_MESSAGING, _A.BATCH_COUNT, _A.APP, _A.ERROR_TYPE),
)
RECEIVE: Final = SpanName(
    "receive {topic}",
    "CLIENT",
    "receive",
    "one reading from the broker that brought messages, linked to the span that published each",
    (*_MESSAGING, _A.GROUP, _A.BATCH_COUNT, _A.APP),
)
PROCESS: Final = SpanName(
    "process {topic}",
    "CONSUMER",
    "process",
    "what a group does with one message; its parent is the span that published it, its link the one that received it",
    (*_MESSAGING, _A.GROUP, _A.PARTITION, *_MESSAGE, _A.ATTEMPT, _A.OUTCOME, _A.APP, _A.ERROR_TYPE),
)
SETTLE: Final = SpanName(
    "settle {topic}",
    "CLIENT",
    "settle",
    "telling the broker how far a group has come",
    (*_MESSAGING, _A.GROUP, _A.APP, _A.ERROR_TYPE),
)

SPANS: Final = (SEND, HANDLE, PUBLISH, PUBLISH_BATCH, RECEIVE, PROCESS, SETTLE)
"""Every span."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Args:
        name: of the instrument.
        kind: "counter", "histogram" or "gauge".
        unit: in UCUM, as OpenTelemetry writes it.
        about: what it measures.
        attributes: those that it may have, besides `headrace.app`.
    """

    name: str
    kind: str
    unit: str
    about: str
    attributes: tuple[Attribute, ...] = ()


SEND_DURATION: Final = Metric(
    *("headrace.send.duration", "histogram", "s", "how long sends take, with their commit"),
    (_A.REQUEST, _A.ERROR_TYPE),
)
HANDLE_DURATION: Final = Metric(
    *("headrace.handle.duration", "histogram", "s", "how long handlers run"),
    (_A.HANDLER, _A.MESSAGE, _A.ERROR_TYPE),
)
OPERATION_DURATION: Final = Metric(
    "messaging.client.operation.duration",
    "histogram",
    "s",
    "how long the broker takes to publish, to receive and to settle",
    (*_MESSAGING, _A.GROUP, _A.ERROR_TYPE),
)
PROCESS_DURATION: Final = Metric(
    "messaging.process.duration",
    "histogram",
    "s",
    "how long a group takes for a message, with its share of the transaction",
    (*_MESSAGING, _A.GROUP, _A.MESSAGE_TYPE, _A.OUTCOME, _A.ERROR_TYPE),
)
DURATIONS: Final = (SEND_DURATION, HANDLE_DURATION, OPERATION_DURATION, PROCESS_DURATION)

QUEUE_MESSAGES: Final = Metric(
    "headrace.queue.messages",
    "gauge",
    "{message}",
    "messages that stand in storage: ready, waiting, held, dead",
    (_A.QUEUE, _A.STATE),
)
OLDEST_AGE: Final = Metric(
    "headrace.queue.oldest_age",
    "gauge",
    "s",
    "the age of the oldest message of a queue that is not dead; of the outbox, the oldest unsent event",
    (_A.QUEUE,),
)
LAG: Final = Metric(
    "headrace.consumer.lag",
    "gauge",
    "{message}",
    "messages on the broker that a group has not come to",
    (_A.GROUP, _A.DESTINATION),
)
OWNED: Final = Metric(
    *("headrace.lease.owned", "gauge", "{partition}", "partitions that this process works"),
    (_A.QUEUE,),
)
UNOWNED: Final = Metric(
    *("headrace.lease.unowned", "gauge", "{partition}", "partitions that no process works now"),
    (_A.QUEUE,),
)
GAUGES: Final = (QUEUE_MESSAGES, OLDEST_AGE, LAG, OWNED, UNOWNED)

_FLOW = (_A.GROUP, _A.DESTINATION, _A.MESSAGE_TYPE)
_WORK = (_A.GROUP, _A.DESTINATION)
_REPAIRED = (_A.QUEUE, _A.DESTINATION, _A.HANDLER)

COUNTERS: Final = {
    Count.SENT: ("sends, if `observe_sends` is on", (_A.REQUEST,)),
    Count.SEND_FAILED: ("sends that raised, if `observe_sends` is on", (_A.REQUEST, _A.ERROR_TYPE)),
    Count.HANDLED: (
        "requests and events that a handler has handled, if `observe_sends` is on",
        (_A.HANDLER, _A.MESSAGE),
    ),
    Count.HANDLER_FAILED: (
        "runs of a handler that raised or took too long: of consumed and after-commit handlers in any case, of all if "
        "`observe_sends` is on",
        (_A.HANDLER, _A.MESSAGE, _A.ERROR_TYPE),
    ),
    Count.RAISED: ("events that handlers raised, if `observe_sends` is on", (_A.EVENT, _A.HANDLER)),
    Count.EVENT_UNHANDLED: ("domain events without a handler", (_A.EVENT,)),
    Count.AFTER_COMMIT_FAILED: (
        "after-commit handlers that failed, in an app without storage",
        (_A.HANDLER,),
    ),
    Count.FINALIZER_FAILED: ("finalizers of dependencies that failed after a commit", ()),
    Count.PUBLISHED: (
        "notifications that the broker has confirmed",
        (_A.DESTINATION, _A.MESSAGE_TYPE),
    ),
    Count.PUBLISH_REJECTED: (
        "notifications that it will never accept: dead letters of the outbox",
        (_A.DESTINATION,),
    ),
    Count.RELAY_PAUSED: (
        "outages that paused the relay or one topic",
        (_A.DESTINATION, _A.QUEUE),
    ),
    Count.CONSUMED: ("messages handled, and after-commit deliveries", (*_FLOW, _A.HANDLER)),
    Count.DUPLICATE: ("repeats that had no effect", _FLOW),
    Count.HELD: ("messages that wait behind an earlier one of their key", _FLOW),
    Count.RETRIED: ("failures that are tried again", (*_FLOW, _A.HANDLER, _A.ERROR_TYPE)),
    Count.DEAD: (
        "dead letters of groups and of after-commit handlers",
        (*_FLOW, _A.HANDLER, _A.ERROR_TYPE),
    ),
    Count.SKIPPED: ("messages of a type that the group never bound, or that cannot be read", _WORK),
    Count.BATCH_SPLIT: ("batches that were run again one by one", _WORK),
    Count.CLASHED: (
        "batches that a deadlock or a serialization failure undid; for a while, the batches of the process take turns",
        _WORK,
    ),
    Count.CONSUMER_PAUSED: ("outages that paused consuming", (*_WORK, _A.QUEUE)),
    Count.DEDUP_WINDOW_MISSED: (
        "messages that were raised longer ago than the inbox remembers: a repeat of such a one cannot be recognised",
        _WORK,
    ),
    Count.LEASE_LOST: ("partitions whose lease was lost or not renewed in time", (_A.QUEUE,)),
    Count.TAKEN_OVER: ("partitions taken over from a process that died or hung", (_A.QUEUE,)),
    Count.OWNERLESS: ("partitions that nobody worked for two leases", (_A.QUEUE,)),
    Count.PULSE_MISSED: ("times that the process could not tell the storage what it does", ()),
    Count.GAUGES_MISSED: ("outages that paused the reading of gauges", ()),
    Count.DRAIN_CUT: ("stops that did not end within their deadline", ()),
    Count.REDRIVEN: ("dead letters that were redriven", _REPAIRED),
    Count.DROPPED: ("dead letters that were dropped", _REPAIRED),
    Count.EDITED: ("dead letters whose body was edited", _REPAIRED),
}
"""What each count counts, and its attributes."""

METRICS: Final = (
    *(Metric(name, "counter", "1", about, found) for name, (about, found) in COUNTERS.items()),
    *DURATIONS,
    *GAUGES,
)
"""Every metric."""

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Of all durations, in seconds: those of the conventions for messaging metrics."""

ABOUT: Final = {
    _A.SYSTEM: "`kafka`, `rabbitmq`, `nats`, `redis`, `sql`, `memory`; `headrace` for after-commit deliveries",
    _A.OPERATION_NAME: "the first word of the span's name",
    _A.OPERATION_TYPE: "`send`, `receive`, `process` or `settle`",
    _A.DESTINATION: "the topic; `after-commit` for deliveries to after-commit handlers",
    _A.PARTITION: "the partition of the topic",
    _A.GROUP: "the consuming group; for after-commit deliveries the app",
    _A.MESSAGE_ID: "the envelope's `id`",
    _A.CORRELATION_ID: "the envelope's `correlationid`",
    _A.BATCH_COUNT: "how many messages one call published or brought",
    _A.ERROR_TYPE: "the qualified name of the exception; `rejected` for a message that the broker refused",
    _A.APP: "the app's name",
    _A.REQUEST: "the request's class, with its module",
    _A.HANDLER: "the handler's class or function, with its module",
    _A.MESSAGE: "the class of what it handles, with its module",
    _A.EVENT: "the event's class, with its module",
    _A.MESSAGE_TYPE: "the envelope's `type`",
    _A.MESSAGE_KEY: "the key; only if asked for, because it may be personal",
    _A.ATTEMPT: "which attempt this is, from 1",
    _A.OUTCOME: ", ".join(f"`{one}`" for one in Outcome),
    _A.QUEUE: "`outbox:<app>`, `group:<group>/<topic>` or `after:<app>`",
    _A.STATE: "`ready`, `waiting`, `held` or `dead`",
}
"""What each attribute tells."""
