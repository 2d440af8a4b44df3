"""Units of work from begin to end: run the work, commit or roll back, then tell who waits for it.

The mediator begins one for each outermost send, consumers one for each message, after-commit handlers one for each event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar, cast

from headrace.broker import Broker, Rejected, Topic
from headrace.causes import Cause
from headrace.container import Container
from headrace.emitter import EventEmitter
from headrace.envelope import Message
from headrace.errors import BrokerUnavailable, TopicNotFound
from headrace.messages import Event
from headrace.runners import EventRunner
from headrace.storage import Storage, Transaction
from headrace.telemetry import Count, LogEvent
from headrace.topics import ensure_topic
from headrace.tracing import part as telling
from headrace.tracing import publish
from headrace.unit_of_work import UnitOfWork, current_unit

R = TypeVar("R")


class Units:
    """Runs units of work for one mediator.

    Args:
        mediator: nested sends through it join its units.
        container: opens their scopes.
        emitter: takes the events of consumed messages, holds the broker.
        storage: makes each a transaction; None for no storage.
        commit_wait_seconds: how long a cancelled unit waits for the outcome of its COMMIT.
    """

    def __init__(
        self,
        mediator: object,
        container: Container,
        emitter: EventEmitter,
        storage: Storage | None,
        commit_wait_seconds: float,
    ) -> None:
        self.after_commit: Callable[[Sequence[tuple[Event, Cause]]], None] | None = None
        """Takes the events of after-commit handlers when a unit has succeeded."""
        self.on_outbox: Callable[[], None] | None = None
        """Called when a commit has put something into the outbox."""
        self.after_queue = ""
        """Where the deliveries to durable after-commit handlers are put."""
        self.placed: Callable[[Sequence[Message]], Sequence[tuple[int, Message]]] | None = None
        """Gives each of these deliveries its partition; None in an app without storage."""
        self.on_deferred: Callable[[set[int]], None] | None = None
        """Called with the partitions when a commit has stored such deliveries."""
        self.throttle: Callable[[], Awaitable[None]] | None = None
        """Awaited before each outermost send: slows senders that are ahead of the work that they cause (G11)."""
        self.topics: Mapping[str, Topic] = {}
        """The app's settings of topics, by name, for notifications that are published without a storage."""
        self._made: set[str] = set()
        self._mediator = mediator
        self._container = container
        self._emitter = emitter
        self._storage = storage
        self.commit_wait = commit_wait_seconds
        self._telemetry = emitter.telemetry

    def running(self) -> UnitOfWork | None:
        """The innermost unit of this mediator that the calling code is in, also through units of other apps."""
        unit = current_unit.get()
        while unit is not None and (unit.mediator is not self._mediator or unit.closed):
            unit = unit.outer
        return unit

    def new(self, cause: Cause, *, read_only: bool = False) -> UnitOfWork:
        """A unit in the app's storage."""
        return self._in(self._storage, cause, read_only=read_only)

    def _in(self, storage: Storage | None, cause: Cause, *, read_only: bool = False) -> UnitOfWork:
        return UnitOfWork(
            self._mediator, self._container, storage, cause, self._telemetry, read_only=read_only
        )

    def forget(self) -> None:
        """The app has stopped: its broker may be another, or empty, at the next start."""
        self._made.clear()

    async def run(self, unit: UnitOfWork, work: Callable[[], Awaitable[R]]) -> R:
        """Run `work` as the unit's content, then commit; on any error roll back and raise it."""
        token = current_unit.set(unit)
        deferred: Sequence[tuple[int, Message]] = ()
        try:
            try:
                response = await work()
                if unit.outgoing or unit.deferred:
                    deferred = await self.stage(unit)
            except BaseException as error:
                raising = await self.undo(unit, error)
                if raising is not error:
                    raise raising from error
                raise
            cancelled = await unit.commit(wait_seconds=self.commit_wait)
        finally:
            current_unit.reset(token)
        self.committed(unit, deferred)
        if cancelled is not None:
            raise cancelled
        return response

    async def stage(self, unit: UnitOfWork) -> Sequence[tuple[int, Message]]:
        """Before the commit: publish if there is no storage, and store the deliveries to after-commit handlers.

        Answers these deliveries with their partitions, for `committed`.
        """
        deferred: Sequence[tuple[int, Message]] = ()
        if self._storage is None and unit.outgoing and unit.doom_of_all is None:
            await self._publish(unit.outgoing)
            unit.outgoing.clear()
        if unit.deferred and unit.transaction is not None and self.placed is not None:
            if unit.doom_of_all is None:
                deferred = self.placed(unit.deferred)
                unit.transaction.defer(self.after_queue, deferred)
        return deferred

    async def undo(self, unit: UnitOfWork, error: BaseException) -> BaseException:
        """Roll back after `error`; answer what the caller is to raise.

        That is the error itself, or what doomed the unit before, or a cancellation that came during the rollback.
        """
        doom = unit.doom_of_all
        cancelled = await unit.rollback(doom or error)
        if cancelled is not None:
            return cancelled
        if doom is not None and isinstance(error, Exception) and not _led_to(doom, error):
            return doom
        return error

    def committed(self, unit: UnitOfWork, deferred: Sequence[tuple[int, Message]]) -> None:
        """After the commit: wake who waits for what it stored. Raises nothing."""
        try:
            if unit.outgoing and self.on_outbox is not None:
                self.on_outbox()
            if deferred and self.on_deferred is not None:
                self.on_deferred({partition for partition, _ in deferred})
            if unit.after_commit and self.after_commit is not None:
                self.after_commit(unit.after_commit)
        except Exception as error:  # after a successful COMMIT nothing fails the send
            self._telemetry.count(Count.AFTER_COMMIT_FAILED)
            self._telemetry.error(
                LogEvent.HOOK_FAILED, "a hook after the commit failed", error, **unit.about()
            )

    async def _publish(self, outgoing: Sequence[Message]) -> None:
        """Without storage: publish after all handlers succeeded."""
        broker = self._emitter.broker
        if broker is None:
            return
        topics = dict.fromkeys(message.topic for message in outgoing)
        try:
            rejected = await self._publish_to(broker, topics, outgoing)
        except TopicNotFound:
            # Somebody deleted what was there before.
            self._made.difference_update(topics)
            rejected = await self._publish_to(broker, topics, outgoing)
        if rejected:
            first = outgoing[rejected[0].index]
            raise BrokerUnavailable(
                f"the broker refused {len(rejected)} of {len(outgoing)} notifications, the first {first.envelope.type} (key "
                f"{first.key!r}): {rejected[0].reason}. Without a storage there is no outbox to keep them: they are lost."
            )

    async def _publish_to(
        self, broker: Broker, topics: Iterable[str], outgoing: Sequence[Message]
    ) -> Sequence[Rejected]:
        for name in topics:
            if name not in self._made:
                await ensure_topic(broker, self.topics, name)
                self._made.add(name)
        return await publish(broker, outgoing, self._telemetry)

    async def deliver(
        self,
        runner: Callable[[object, Message], EventRunner],
        storage: Storage,
        begin: Callable[[Transaction], Awaitable[Iterable[tuple[object, Message]]]],
    ) -> None:
        """Run the handlers of consumed messages as one unit of work, each message in a part of its own.

        Args:
            runner: answers what runs the handlers of a decoded event and its message.
            storage: where the consumer keeps its books: the app's storage if it has one.
            begin: called first with the unit's transaction (inbox, position). Answers the decoded events and their
                messages, whose envelopes become the causes of what the handlers do. What it staged is committed with
                their effects, also if there are none.
        """
        unit = self._in(storage, Cause(None, self._emitter.source))

        async def work() -> None:
            if unit.transaction is not None:
                for event, message in await begin(unit.transaction):
                    part = unit.part(Cause.received(event, message.envelope))
                    token = current_unit.set(part)
                    try:
                        with telling(self._telemetry, message):
                            await self._emitter.run_consumed(
                                runner(event, message), cast(Event, event), part
                            )
                    finally:
                        current_unit.reset(token)
                    await unit.end_part(part)

        await self.run(unit, work)

    async def run_apart(self, run: EventRunner, event: Event, cause: Cause) -> None:
        """Run handlers as a unit of their own, caused by what has been committed before (after-commit handlers)."""
        unit = self.new(cause)

        async def work() -> None:
            await self._emitter.run_consumed(run, event, unit)

        await self.run(unit, work)


def _led_to(doom: BaseException, error: BaseException) -> bool:
    """True if `error` is the doom, or was raised because of it, as by `raise OrderFailed from error`."""
    at: BaseException | None = error
    seen: set[int] = set()
    while at is not None and id(at) not in seen:
        if at is doom or at is doom.__cause__:
            return True
        seen.add(id(at))
        at = at.__cause__ or at.__context__
    return False
