"""The table of log records: the level, the meaning and the fields of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from headrace.telemetry.events import LogEvent

INFO, WARNING, ERROR = "INFO", "WARNING", "ERROR"


@dataclass(frozen=True, slots=True)
class Record:
    """A kind of log record.

    Args:
        levels: those that it may have.
        about: when it is written.
        fields: those that it may have, besides `event` and `app`.
    """

    levels: tuple[str, ...]
    about: str
    fields: tuple[str, ...] = ()


MESSAGE: Final = ("message_id", "message_type", "correlation_id", "causation_id")
"""The fields of a record that is about a message; see `headrace.telemetry.about`."""

_OUTAGE = (WARNING, ERROR)
_WORK = ("group", "topic")
_HANDLED = (*_WORK, "handler", *MESSAGE)
_PART = ("queue", "partitions")
_DEAD = ("queue", *_WORK, "handler")

_E = LogEvent
RECORDS: Final = {
    _E.APP_STARTED: Record((INFO,), "the app runs"),
    _E.APP_STOPPED: Record((INFO,), "the app has stopped"),
    _E.APP_WITHOUT_STORAGE: Record(
        (WARNING,), "at the start: without a storage, notifications can be lost or handled twice"
    ),
    _E.STORAGE_UNFIT: Record(
        (WARNING,), "at the start: a setting of the database can lose events or stop work"
    ),
    _E.BROKER_UNFIT: Record(
        (WARNING,), "at the start: a setting of the broker can lose events or stop work"
    ),
    _E.EVENT_UNHANDLED: Record(
        (WARNING,), "a domain event without a handler was raised; once a type", ("event_type",)
    ),
    _E.AFTER_COMMIT_FAILED: Record(
        (ERROR,),
        "an after-commit handler failed, in an app without storage",
        ("handler", "event_type", *MESSAGE),
    ),
    _E.HOOK_FAILED: Record(
        (ERROR,), "what was to follow a commit failed; the commit stands", MESSAGE
    ),
    _E.FINALIZER_FAILED: Record(
        (ERROR,), "a finalizer of a dependency failed; the outcome of the unit stands", MESSAGE
    ),
    _E.ROLLBACK_LATE: Record(
        (WARNING,), "the database did not answer to ROLLBACK in time", MESSAGE
    ),
    _E.ROLLBACK_FAILED: Record((ERROR,), "ROLLBACK failed; the database undoes the unit", MESSAGE),
    _E.PUBLISH_REJECTED: Record(
        (ERROR,),
        "the broker will never accept a notification: a dead letter of the outbox",
        ("queue", "position", "topic", "key", *MESSAGE),
    ),
    _E.RELAY_PAUSED: Record(
        _OUTAGE, "an outage pauses the relay, one topic or its leases; once", ("topic", "queue")
    ),
    _E.RELAY_RESUMED: Record((INFO,), "that outage is over", ("topic", "queue")),
    _E.RETRIED: Record(
        (WARNING,),
        "an attempt failed and is followed by another",
        (*_HANDLED, "partition", "attempts"),
    ),
    _E.DEAD: Record(
        (ERROR,),
        "a message or an after-commit delivery is a dead letter",
        (*_HANDLED, "partition", "attempts"),
    ),
    _E.BATCH_SPLIT: Record(
        (INFO,),
        "a batch was rolled back; its messages are handled again, one by one",
        (*_WORK, "partition", "messages"),
    ),
    _E.ATTEMPT_KEPT: Record(
        (WARNING,),
        "an attempt that was cut off stays counted: the storage could not be told",
        (*_HANDLED, "partition", "attempts"),
    ),
    _E.DEDUP_WINDOW_MISSED: Record(
        (WARNING,),
        "a message was raised longer ago than the inbox remembers; once a topic",
        (*_WORK, *MESSAGE),
    ),
    _E.DECLARED_AGAIN: Record(
        (WARNING,), "something of the group was deleted on the broker and is declared again", _WORK
    ),
    _E.NOT_SETTLED: Record(
        (INFO,), "the broker was not told how far a group came: there may be repeats", _WORK
    ),
    _E.CONSUMER_PAUSED: Record(
        _OUTAGE,
        "an outage pauses a consumer, its leases, its watch or the inbox's retention; once",
        (*_WORK, "queue"),
    ),
    _E.CONSUMER_RESUMED: Record((INFO,), "that outage is over", (*_WORK, "queue")),
    _E.MESSAGE_UNREADABLE: Record(
        (WARNING,),
        "a message on the broker cannot be read and is passed over; once a topic and reason",
        ("topic", "partition", "position"),
    ),
    _E.LEASE_LOST: Record((WARNING,), "leases were lost or not renewed in time", _PART),
    _E.TAKEN_OVER: Record(
        (WARNING,),
        "partitions were taken over from a process that died or hung",
        (*_PART, "owner"),
    ),
    _E.OWNERLESS: Record((WARNING,), "nobody has worked partitions for two leases", _PART),
    _E.OWNED_AGAIN: Record((INFO,), "somebody works them again", _PART),
    _E.NOT_GIVEN_BACK: Record(
        (WARNING,), "leases could not be given back at the stop, and run out", ("queue",)
    ),
    _E.REDRIVEN: Record((WARNING,), "somebody redrove dead letters", (*_DEAD, "messages", "by")),
    _E.DROPPED: Record((WARNING,), "somebody dropped dead letters", (*_DEAD, "messages", "by")),
    _E.EDITED: Record(
        (WARNING,),
        "somebody replaced the body of a dead letter",
        (*_DEAD, "position", *MESSAGE, "by"),
    ),
    _E.DRAIN_CUT: Record(
        (WARNING,), "sends, handlers or the relay did not end within the drain", (*_WORK, "queue")
    ),
    _E.DRAIN_STUCK: Record((ERROR,), "handlers went on after they were cancelled", _WORK),
    _E.DRAIN_LOST: Record((WARNING,), "what was in memory at the stop is lost"),
    _E.PULSE_MISSED: Record(_OUTAGE, "the process cannot tell the storage what it does; once"),
    _E.PULSE_RESUMED: Record((INFO,), "it can again"),
    _E.GAUGES_MISSED: Record(_OUTAGE, "backlogs cannot be read for metrics; once"),
    _E.GAUGES_RESUMED: Record((INFO,), "they can again"),
    _E.SDK_FAILED: Record(
        (ERROR,), "the OpenTelemetry SDK, or what is plugged into it, raised an error; once a type"
    ),
    _E.HTTP_FAILED: Record(
        _OUTAGE, "a request of a web application was answered with 500 or more", ("correlation_id",)
    ),
    _E.WORKER_RUNNING: Record((INFO,), "`headrace worker` runs, and what it works"),
    _E.WORKER_PROBED: Record((INFO,), "where `headrace worker` answers probes"),
    _E.PROCESS_STARTED: Record((INFO,), "`headrace worker` has started a process", ("pid",)),
    _E.PROCESS_ENDED: Record(
        (WARNING,), "a process of `headrace worker` has ended and is replaced", ("exit_code",)
    ),
    _E.DASHBOARD_UNREADABLE: Record(_OUTAGE, "the dashboard could not read what a page shows"),
    _E.HARNESS_NOT_REMOVED: Record(
        (WARNING,), "the harness could not remove what it made on a server"
    ),
    _E.KAFKA_CLIENT: Record(
        (INFO, WARNING, ERROR), "what Kafka's client library has to say; a failure twice a minute"
    ),
    _E.KAFKA_CONSUMER_FAILED: Record((WARNING,), "a call of the client library failed", ("group",)),
    _E.KAFKA_CONSUMER_ENDED: Record(
        (ERROR,), "a consumer of the client library ended and is made anew", ("group",)
    ),
    _E.KAFKA_POSITION_GONE: Record(
        (WARNING,),
        "the servers do not have what a group comes to; it goes on with the earliest",
        (*_WORK, "partition", "position"),
    ),
    _E.KAFKA_ONE_COPY: Record((INFO,), "a topic has one copy, on one disk", ("topic",)),
    _E.NATS_IN_MEMORY: Record((WARNING,), "a stream keeps its messages in memory", ("topic",)),
    _E.RABBITMQ_UNDECODABLE: Record(
        (WARNING,), "properties of a message cannot be decoded and are taken as none"
    ),
    _E.REDIS_SETTLING_FAILED: Record(
        (ERROR,), "what groups have settled could not be written; it is tried again"
    ),
}
"""Every kind of log record."""
