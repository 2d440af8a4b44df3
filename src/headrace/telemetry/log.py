"""Writes log records. Each tells by name of what kind it is, and has its details as fields."""

from __future__ import annotations

import logging
import traceback
from typing import Protocol

from headrace.telemetry.events import LogEvent


class Logbook:
    """A logger of the standard library whose records have a name and fields, in `record.headrace`.

    Args:
        name: of the logger. Its level and its handlers are the user's.
        always: fields of every record.
    """

    __slots__ = ("_always", "logger")

    def __init__(self, name: str = "headrace", **always: object) -> None:
        self.logger = logging.getLogger(name)
        self._always = always

    def info(self, event: LogEvent, text: str, /, **fields: object) -> None:
        """Log at INFO.

        Args:
            event: what kind of record it is.
            text: a sentence for people.
            fields: its details, for machines: ids, names and numbers that the text tells too.
        """
        self._log(logging.INFO, event, text, fields)

    def warning(self, event: LogEvent, text: str, /, **fields: object) -> None:
        """Log at WARNING: something that a person should know of. See `info`."""
        self._log(logging.WARNING, event, text, fields)

    def error(
        self, event: LogEvent, text: str, error: BaseException | None = None, /, **fields: object
    ) -> None:
        """Log at ERROR, with the traceback of `error`. See `info`."""
        self._log(logging.ERROR, event, text, fields, error)

    def _log(
        self,
        level: int,
        event: LogEvent,
        text: str,
        fields: dict[str, object],
        error: BaseException | None = None,
    ) -> None:
        if not self.logger.isEnabledFor(level):
            return
        try:
            self.logger.log(
                level,
                text,
                exc_info=error,
                extra={"headrace": {"event": event.value, **self._always, **fields}},
                stacklevel=3,
            )
        except Exception:
            # A filter of the user's: what `logging` itself does for handlers. A send whose commit stands, or the loop of a
            # relay, must not end of it.
            if logging.raiseExceptions:
                traceback.print_exc()


class Named(Protocol):
    """What names a message: an envelope."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def type(self) -> str:
        """Its type."""
        ...

    @property
    def correlationid(self) -> str | None:
        """The id of the flow that it belongs to."""
        ...

    @property
    def causationid(self) -> str | None:
        """The id of what caused it."""
        ...


def about(envelope: Named) -> dict[str, str]:
    """The fields of a record that is about a message."""
    fields = {"message_id": envelope.id, "message_type": envelope.type}
    if envelope.correlationid is not None:
        fields["correlation_id"] = envelope.correlationid
    if envelope.causationid is not None:
        fields["causation_id"] = envelope.causationid
    return fields
