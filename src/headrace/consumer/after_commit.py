"""The work on durable after-commit deliveries: a queue whose topics are the names of handlers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.consumer.delivery import Work
from headrace.storage import Failure

if TYPE_CHECKING:
    from headrace.envelope import Message
    from headrace.telemetry import Labels

UNKNOWN_HANDLER = "headrace.UnknownHandler"
"""The error by which a delivery waits for a process that has its handler."""


@dataclass(frozen=True, slots=True)
class AfterWork(Work):
    """Runs the handlers that deliveries name: the message's topic is the handler's name, its type the event's.

    Args:
        kind_of: the event's class, or None if this process has no such handler of such an event.
    """

    kind_of: Callable[[Message], type[object] | None]

    @property
    def title(self) -> str:
        """Whose work it is, as the subject of a sentence."""
        return f"The running of after-commit handlers of {self.group!r}"

    def labels_of(self, message: Message) -> Labels:
        """What a delivery is, for counts."""
        handler = ("handler", message.topic)
        return (self.labels[0], handler, self.labels[1], ("type", message.envelope.type))

    def fields_of(self, message: Message) -> dict[str, str]:
        """What a delivery is, for log records."""
        return {**Work.fields_of(self, message), "handler": message.topic}

    def called(self, message: Message) -> str:
        """A delivery in a log record, as the subject of a sentence."""
        return f"Delivery {message.envelope.id} of {message.envelope.type} to the after-commit handler {message.topic}"

    def knows(self, message: Message) -> bool:
        """True if this process has the handler, for this event."""
        return self.kind_of(message) is not None

    def unknown(self, message: Message) -> Failure:
        """Why a delivery waits."""
        return Failure(
            UNKNOWN_HANDLER,
            f"The after-commit handler {message.topic} of {message.envelope.type} is not bound in the process that looked at "
            "this delivery. It waits for one in which it is (a rolling deploy). If the handler or the event was renamed or "
            "removed for good, bind one under the old name, which may do nothing.",
        )

    def decode(self, message: Message) -> object:
        """The event of a delivery that is known.

        Raises:
            Exception: the body does not fit the class; most often `DecodeError`.
        """
        kind = self.kind_of(message)
        if kind is None:
            raise LookupError(f"{self.called(message)} is not known here")
        return self.codec.decode(message.data, kind)
