"""What is told to OpenTelemetry of the processing of messages; nothing, and at no cost, while no SDK is set up."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from headrace.tracing import attributes_of, batch

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from headrace.consumer.delivery import Work
    from headrace.envelope import Message
    from headrace.telemetry import Count
    from headrace.telemetry.names import Outcome

_alone: Final[ContextVar[_One | None]] = ContextVar("headrace_processing", default=None)


@contextmanager
def processing(
    work: Work, partition: int, message: Message, *, attempt: int = 1, fresh: bool = True
) -> Generator[None, None, None]:
    """Around all that is done with one message, until it is handled or stored.

    Args:
        work: what the group does.
        partition: of the message.
        message: as it was received.
        attempt: which attempt begins, from 1.
        fresh: it was read from the broker just now.
    """
    if not work.telemetry.collected:
        yield
        return
    one = _One(work, partition, message, attempt, fresh=fresh)
    token = _alone.set(one)
    try:
        with one.current():
            yield
    except Exception as error:
        one.error = error
        raise
    finally:
        _alone.reset(token)
        one.end()


def became(work: Work, message: Message, what: Count, error: BaseException | None = None) -> None:
    """Tell what became of the message that is processed, by the count that counts it."""
    if not work.telemetry.collected:
        return
    from headrace.telemetry.names import OUTCOMES

    running, outcome = batch.get(), OUTCOMES[what]
    one = running.one(message) if isinstance(running, Batch) else _alone.get()
    if one is not None:
        one.outcome, one.error = outcome, error


class Batch:
    """Tells of messages that are processed in one transaction: their spans end when its outcome is known.

    Args:
        work: what the group does.
        partition: of the messages.
    """

    def __init__(self, work: Work, partition: int) -> None:
        self._work = work
        self._partition = partition
        self._ones: dict[int, _One] = {}

    @contextmanager
    def running(self) -> Generator[Batch, None, None]:
        """While the batch is tried, however often."""
        token = batch.set(self)
        try:
            yield self
        finally:
            batch.reset(token)
            self.again()

    def one(self, message: Message) -> _One | None:
        """Of this message; a message that nobody handled (a repeat, one that is held) is begun and ended now."""
        work = self._work
        if not work.telemetry.collected:
            return None
        found = self._ones.get(id(message))
        if found is None:
            found = self._ones[id(message)] = _One(work, self._partition, message, 1, fresh=True)
        return found

    @contextmanager
    def part(self, message: Message) -> Generator[None, None, None]:
        """Around the handlers of one message."""
        one = self.one(message)
        if one is None:
            yield
            return
        try:
            with one.current():
                yield
        except Exception as error:
            one.error = error
            raise
        finally:
            one.stop()

    def committed(self, messages: Iterable[Message]) -> None:
        """The outcome of these was told: end them."""
        for message in messages:
            one = self._ones.pop(id(message), None)
            if one is not None:
                one.end()

    def again(self) -> None:
        """What was done is undone: what comes is another try, of the batch or of single messages."""
        from headrace.telemetry.names import Outcome

        ones, self._ones = self._ones, {}
        for one in ones.values():
            one.outcome = Outcome.ROLLED_BACK
            one.end()


class _One:
    """The processing of one message."""

    __slots__ = (
        "_began",
        "_seconds",
        "_span",
        "_stopped_ns",
        "_work",
        "error",
        "message",
        "outcome",
    )

    def __init__(
        self, work: Work, partition: int, message: Message, attempt: int, *, fresh: bool
    ) -> None:
        self._work = work
        self.message = message  # kept, so that its id() is nobody else's
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self._began = time.perf_counter()
        self._seconds: float | None = None
        self._stopped_ns: int | None = None
        self._span: Span | None = None
        tracing = work.telemetry.tracing
        if tracing is None:
            return
        from headrace.telemetry.names import PROCESS, Attribute

        envelope = message.envelope
        received_in = tracing.received_in.get() if fresh else None
        self._span = tracing.start(
            PROCESS,
            work.topic,
            {
                Attribute.SYSTEM: work.system,
                Attribute.DESTINATION: work.topic,
                Attribute.GROUP: work.group,
                Attribute.PARTITION: str(partition),
                Attribute.ATTEMPT: attempt,
                **attributes_of(tracing, message),
            },
            parent=tracing.context_of(envelope.traceparent, envelope.extensions.get("tracestate")),
            links=[received_in] if received_in is not None else (),
        )

    @contextmanager
    def current(self) -> Generator[None, None, None]:
        tracing = self._work.telemetry.tracing
        if tracing is None or self._span is None:
            yield
            return
        with tracing.current(self._span):
            yield

    def stop(self) -> None:
        """Its handlers have ended; whether it stands is not known yet."""
        self._seconds = time.perf_counter() - self._began
        self._stopped_ns = time.time_ns()

    def end(self) -> None:
        from headrace.telemetry.names import Attribute

        telemetry = self._work.telemetry
        if self._span is not None and telemetry.tracing is not None:
            if self.outcome is not None:
                self._span.set_attribute(Attribute.OUTCOME, self.outcome)
            if self.error is not None:
                telemetry.tracing.failed(self._span, self.error)
            telemetry.tracing.end(self._span, self._stopped_ns)
        if telemetry.metering is not None:
            seconds = self._seconds
            telemetry.metering.processed(
                self._work.system,
                self._work.topic,
                self._work.group,
                self.message.envelope.type,
                self.outcome,
                time.perf_counter() - self._began if seconds is None else seconds,
                self.error,
            )
