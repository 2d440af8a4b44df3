"""The emitter: routes collected events, breadth first. Domain events to the dispatcher, notifications out of the process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from headrace.bindings import Binding
from headrace.broker import Broker
from headrace.causes import Cause
from headrace.codec import Codec, JsonCodec
from headrace.dispatcher import DispatchUnit, EventDispatcher
from headrace.envelope import Message
from headrace.errors import ConfigurationError, EventCycle, EventNotHandled, MessageTooLarge
from headrace.learnt import Learnt
from headrace.messages import Event
from headrace.notifications import Notification, notification_of
from headrace.recorder import Recorder
from headrace.runners import EventRunner
from headrace.signatures import stable_name
from headrace.telemetry import Count, LogEvent, Telemetry
from headrace.tracing import traced
from headrace.watching import Watch

_SHOWN = 12

Unhandled = Literal["warn", "error", "ignore"]
"""What a domain event without a handler means: a warning once per type, an error, or nothing."""


class EmitUnit(DispatchUnit, Protocol):
    """What the emitter needs of the running unit of work."""

    cause: Cause
    outgoing: list[Message]
    after_commit: list[tuple[Event, Cause]]
    deferred: list[Message]


class Defers(Protocol):
    """Makes the durable deliveries of an event to its after-commit handlers."""

    def __call__(
        self, event: Event, cause: Cause, data: bytes, bindings: Sequence[Binding], /
    ) -> Sequence[Message]:
        """One for each handler. `data` is the encoded event."""
        ...


class EventEmitter:
    """Emits the events that a handler collected, in order, and their follow-ups, breadth first (G2).

    Args:
        dispatcher: runs the handlers of domain events.
        broker: where notifications go. Needed as soon as one is raised.
        source: the app's name, the `source` of every envelope.
        codec: writes the bodies of notifications; default JSON.
        cycle_depth: how many generations of follow-ups may come of one request; more raise `EventCycle`. Default 100: no
            honest chain is as long.
        body_bytes: the largest body of a notification; default 1 MiB, what Kafka brokers accept as they come.
        unhandled: what a domain event without a handler means.
        telemetry: where counts and warnings go.
    """

    def __init__(
        self,
        dispatcher: EventDispatcher,
        broker: Broker | None = None,
        *,
        source: str = "headrace",
        codec: Codec | None = None,
        cycle_depth: int = 100,
        body_bytes: int = 1024 * 1024,
        unhandled: Unhandled = "warn",
        telemetry: Telemetry | None = None,
    ) -> None:
        self.dispatcher = dispatcher
        self.broker = broker
        self.source = source
        self.codec: Codec = codec or JsonCodec()
        self.cycle_depth = cycle_depth
        self.unhandled = unhandled
        self.telemetry = telemetry or Telemetry(source)
        broker_limit = broker.guarantees.max_body_bytes if broker is not None else None
        self.body_bytes = min(body_bytes, broker_limit or body_bytes)
        self.has_after_commit = any(
            b.phase == "after_commit" for b in dispatcher.event_map.bindings
        )
        self.defers: Defers | None = None
        """In an app with storage: makes durable deliveries to after-commit handlers, which are stored with the commit."""
        self._after: dict[type, tuple[Binding, ...]] = {}
        self._warned: set[type] = set()

    async def emit(
        self, events: Sequence[Event], unit: EmitUnit | None = None, depth: int = 0
    ) -> None:
        """Dispatch the events and all that follows from them. The first error ends it.

        Args:
            events: in the order collected.
            unit: the running unit of work; None in an app that needs none.
            depth: how many generations came before these events.
        """
        if unit is not None:
            await self._emit_in_unit([(event, unit.cause) for event in events], unit)
            return
        runners = self.runners
        trail: list[str] = []
        while events:
            following: Sequence[Event] | None = None
            for event in events:
                run = runners.get(type(event)) or await self.find(event)
                more = await run(event, None)
                if more:
                    following = more if following is None else [*following, *more]
            if following is None:
                return
            depth += 1
            if (
                depth > self.cycle_depth - _SHOWN
            ):  # deep enough to note the way, in case it is a circle
                trail.append(type(following[0]).__qualname__)
                if depth > self.cycle_depth:
                    raise self._cycle(["...", *trail] if depth > len(trail) else trail)
            events = following

    async def _emit_in_unit(self, events: list[tuple[Event, Cause]], unit: EmitUnit) -> None:
        runners = self.dispatcher.runners
        recorder = self.dispatcher.recorder
        outer = unit.cause
        depth = 0
        try:
            while events:
                following: list[tuple[Event, Cause]] = []
                for event, raised_by in events:
                    notification = notification_of(type(event))
                    if notification is not None:
                        self._collect(event, notification, raised_by, unit)
                        if recorder is not None:
                            recorder.raised(event, unit.outgoing[-1].envelope)
                        continue
                    cause = unit.cause = Cause(event, self.source, raised_by)
                    if recorder is not None:
                        recorder.raised(event, cause.envelope)
                    if self.has_after_commit:
                        self._defer(event, cause, unit)
                    run = runners.get(type(event)) or await self.find(event)
                    more = await run(event, unit)
                    if more:
                        following.extend((follow, cause) for follow in more)
                depth += 1
                if depth > self.cycle_depth and following:
                    raise self._cycle(_chain(following[0][1], following[0][0]))
                events = following
        finally:
            unit.cause = outer

    async def run_consumed(self, run: EventRunner, event: Event, unit: EmitUnit) -> None:
        """Run the handlers of an event that came from the broker, then emit what they collected."""
        follow = await run(event, unit)
        if follow:
            await self.emit(follow, unit)

    @property
    def runners(self) -> dict[type, EventRunner]:
        """The event runners made so far."""
        return self.dispatcher.runners

    @property
    def recorder(self) -> Recorder | None:
        """Told of what handlers do; for `headrace.testing`."""
        return self.dispatcher.recorder

    @property
    def learnt(self) -> Learnt:
        """What handlers have raised without declaring it."""
        return self.dispatcher.learnt

    @property
    def watch(self) -> Watch | None:
        """What is done about each handler besides running it."""
        return self.dispatcher.watch

    async def find(self, event: Event) -> EventRunner:
        """The runner for an event whose type was not met before; one that does nothing if it has no handler."""
        notification = notification_of(type(event))
        if notification is not None:
            raise self._no_broker(event, notification)
        run = await self.dispatcher.prepare(type(event))
        if run is None:
            return self._unhandled(event)
        return run

    def _unhandled(self, event: Event) -> EventRunner:
        kind = type(event)
        if self.has_after_commit and self._after_handlers(kind):
            return _nothing
        self.telemetry.count(Count.EVENT_UNHANDLED, event=stable_name(kind))
        text = (
            f"{kind.__qualname__} was raised and no handler is bound to it. Bind one with events.bind({kind.__name__}, ...), "
            f'or pass unhandled="ignore" to the app if that is meant.'
        )
        if self.unhandled == "error":
            raise EventNotHandled(text)
        if self.unhandled == "warn" and kind not in self._warned:
            self._warned.add(kind)
            self.telemetry.warning(LogEvent.EVENT_UNHANDLED, text, event_type=kind.__qualname__)
        return _nothing

    def _after_handlers(self, kind: type) -> tuple[Binding, ...]:
        found = self._after.get(kind)
        if found is None:
            found = self.dispatcher.event_map.handlers_of(kind, phase="after_commit")
            self._after[kind] = found
        return found

    def _defer(self, event: Event, cause: Cause, unit: EmitUnit) -> None:
        bindings = self._after_handlers(type(event))
        if not bindings:
            return
        if self.defers is None:
            unit.after_commit.append((event, cause))
            return
        data = self._encoded(event, f"{type(event).__qualname__} (for {bindings[0].name})")
        unit.deferred.extend(self.defers(event, cause, data, bindings))

    def _encoded(self, event: Event, what: str) -> bytes:
        data = self.codec.encode(event)
        if len(data) > self.body_bytes:
            raise MessageTooLarge(
                f"{what} is {len(data)} bytes as {self.codec.content_type}, the limit is {self.body_bytes}. Nothing was "
                "committed. Send a reference to the data instead, or raise Limits(body_bytes=...) if the broker accepts more."
            )
        return data

    def _collect(
        self, event: Event, notification: Notification, raised_by: Cause, unit: EmitUnit
    ) -> None:
        if self.broker is None:
            raise self._no_broker(event, notification)
        key = notification.key_of(event) if notification.key_of is not None else None
        data = self._encoded(
            event, f"{type(event).__qualname__} ({notification.type}, key {key!r})"
        )
        envelope = Cause(event, self.source, raised_by).envelope_for(
            notification.type, key=key, content_type=self.codec.content_type
        )
        envelope = traced(self.telemetry, envelope)
        unit.outgoing.append(Message(notification.topic, key, envelope, data))

    def _no_broker(self, event: Event, notification: Notification) -> ConfigurationError:
        return ConfigurationError(
            f"{type(event).__qualname__} ({notification.type}) is a notification and the app has no broker to publish it. "
            f'Pass broker=..., such as "memory://", or "sql://" together with a storage.'
        )

    def _cycle(self, chain: list[str]) -> EventCycle:
        shown = " -> ".join(chain if len(chain) <= _SHOWN + 1 else ["...", *chain[-_SHOWN:]])
        return EventCycle(
            f"follow-up events are {self.cycle_depth} generations deep: {shown}. A handler raises, perhaps through others, the "
            f"event that it handles. Break the circle, or raise Limits(cycle_depth=...) if the chain is meant."
        )


def _chain(cause: Cause | None, last: Event) -> list[str]:
    names = [type(last).__qualname__]
    while cause is not None:
        names.append(type(cause.message).__qualname__)
        cause = cause.parent
    return names[::-1]


async def _nothing(event: Any, unit: Any) -> list[Event] | None:
    return None
