"""Which message a log record is about: for Headrace's own records and for the user's, with `logging` and with structlog."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from typing import cast

from headrace.telemetry import about
from headrace.unit_of_work import current_unit

__all__ = ["FIELDS", "ContextFilter", "add_context"]

FIELDS = (
    *("event_name", "app", "message_id", "message_type", "correlation_id", "causation_id"),
    *("group", "topic", "queue", "partition", "partitions", "position", "attempts"),
    *("handler", "event_type", "owner", "by", "messages", "pid", "exit_code"),
)
"""The fields that a record may have. A key is not among them: it may be personal; it stands in the details of the record."""


def context() -> Iterator[tuple[str, str]]:
    """What is being handled now in the running task, as fields; nothing outside of a unit of work."""
    unit = current_unit.get()
    if unit is None or unit.closed or unit.cause.message is None:
        return
    yield "app", unit.app
    yield from about(unit.envelope).items()


class ContextFilter(logging.Filter):
    """Puts the fields of `FIELDS` onto every record as attributes: those of Headrace's records, and what is handled now.

    Put it on a handler, so that it sees the records of all loggers: `handler.addFilter(ContextFilter())`. A field that does not
    apply is the empty text, so that a format may name it: `"%(message)s %(message_id)s"`. It drops nothing, and leaves attributes
    alone that a record has already.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; always True."""
        found: dict[str, object] = dict(context())
        details: object = getattr(record, "headrace", None)
        if isinstance(details, Mapping):
            fields = _flat(cast("Mapping[str, object]", details))
            found.update((name, value) for name, value in fields if name in FIELDS)
        for name in FIELDS:
            if not hasattr(record, name):
                setattr(record, name, found.get(name, ""))
        return True


def add_context(
    logger: object, method: str, event_dict: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """A structlog processor: adds what is handled now, and unfolds the details of Headrace's own records.

    Put it before the renderer, and into `foreign_pre_chain` of `structlog.stdlib.ProcessorFormatter`, which renders the records
    of `logging`. What the event has already stays as it is.
    """
    record: object = event_dict.get("_record")
    details: object = getattr(record, "headrace", None) or event_dict.pop("headrace", None)
    if isinstance(details, Mapping):
        for name, value in _flat(cast("Mapping[str, object]", details)):
            event_dict.setdefault(name, value)
    for name, value in context():
        event_dict.setdefault(name, value)
    return event_dict


def _flat(details: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Details under the names of flat fields: in structlog, and in most formats, `event` is the text."""
    for name, value in details.items():
        yield ("event_name" if name == "event" else name), value
