"""What caused what: the envelope of each message that is being handled, made only when somebody looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

from headrace.envelope import Envelope, new_id, now

callers_trace: ContextVar[str | None] = ContextVar("headrace_callers_trace", default=None)
"""The W3C `traceparent` that an outside caller gave, such as in the header of an HTTP request."""


class Cause:
    """A request or event that is being handled, and what caused it in turn.

    Correlation and metadata flow down from the first cause; making an id and a time costs microseconds, so both wait until
    `envelope` is asked for.

    Args:
        message: the request or event.
        source: the app's name.
        parent: what raised it; None for what came from outside.
        correlation_id: of the outside caller; None takes the message's own id.
        metadata: of the outside caller.
    """

    __slots__ = ("_envelope", "correlation_id", "message", "metadata", "parent", "source")

    def __init__(
        self,
        message: object,
        source: str,
        parent: Cause | None = None,
        *,
        correlation_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.message = message
        self.source = source
        self.parent = parent
        self.correlation_id = correlation_id
        self.metadata = metadata
        self._envelope: Envelope | None = None

    @classmethod
    def received(cls, event: object, envelope: Envelope) -> Cause:
        """The cause that is a message from a broker: it keeps the identity that it came with."""
        cause = cls(
            event,
            envelope.source,
            correlation_id=envelope.correlationid or envelope.id,
            metadata=envelope.extensions,
        )
        cause._envelope = envelope
        return cause

    @property
    def envelope(self) -> Envelope:
        """The message's own envelope."""
        if self._envelope is None:
            kind = type(self.message)
            self._envelope = self.envelope_for(f"{kind.__module__}.{kind.__qualname__}")
        return self._envelope

    def envelope_for(
        self, type_: str, *, key: str | None = None, content_type: str | None = None
    ) -> Envelope:
        """A fresh envelope of this message, with correlation, causation, trace and metadata from what caused it."""
        own_id = new_id()
        parent = self.parent
        above = parent.envelope if parent is not None else None
        inherited: Mapping[str, str] = above.extensions if above is not None else {}
        return Envelope(
            id=own_id,
            source=self.source,
            type=type_,
            time=now(),
            subject=key,
            datacontenttype=content_type,
            partitionkey=key,
            correlationid=self.correlation_id
            or ((above.correlationid or above.id) if above is not None else None)
            or own_id,
            causationid=above.id if above is not None else None,
            traceparent=above.traceparent if above is not None else callers_trace.get(),
            extensions={**inherited, **self.metadata} if self.metadata else inherited,
        )
