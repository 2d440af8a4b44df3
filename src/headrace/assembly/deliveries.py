"""Durable after-commit handlers: a delivery is stored with the commit, and run by whoever has its partition (G9).

It is a queue like those of parked messages: worked under leases, retried, dead-lettered and redriven by the same code.

Source: the same pattern as "Transactional outbox", microservices.io, with handlers of the app in the broker's place.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from headrace.bindings import Binding
from headrace.broker import stable_hash
from headrace.causes import Cause
from headrace.envelope import Message
from headrace.errors import ConfigurationError
from headrace.leases import clock
from headrace.messages import Event
from headrace.runners import EventRunner
from headrace.signatures import stable_name
from headrace.storage import Backlog, Storage, Transaction, after_queue
from headrace.stored import AFTER_COMMIT
from headrace.subscriptions import Subscription
from headrace.text import said_by
from headrace.tracing import traced

if TYPE_CHECKING:
    from headrace.consumer.delivery import Delivery
    from headrace.consumer.queue import QueueConsumer
    from headrace.limits import Limits
    from headrace.mediator import RequestMediator

AFTER_PARTITIONS = 16
"""Partitions of the queue, in each of which one handler runs at a time: more than an app has processes, as a rule."""

DEFAULT = Subscription(concurrency=AFTER_PARTITIONS)
"""The settings of after-commit handlers if the app was given none."""


class AfterCommitStatus(Struct, frozen=True):
    """What waits for after-commit handlers, and what this process does about it.

    Args:
        running: this process runs them.
        partitions: those of their queue that it owns.
        in_memory: deliveries read and not yet finished.
        last_error: why a part of the work is paused now, or None.
        backlog: the deliveries that are stored, dead letters among them.
    """

    running: bool
    partitions: tuple[int, ...]
    in_memory: int
    last_error: str | None
    backlog: Backlog


class Deliveries:
    """Writes the deliveries of an app with storage, and runs them in a process that consumes.

    Args:
        app: the app's name.
        mediator: its emitter raises the events, its units run the handlers.
        storage: where the deliveries are.
        settings: `retry`, `concurrency` and `timeout_seconds` are used.
        limits: of the app.
    """

    def __init__(
        self,
        app: str,
        mediator: RequestMediator,
        storage: Storage,
        settings: Subscription,
        limits: Limits,
    ) -> None:
        self._app = app
        self._mediator = mediator
        self._storage = storage
        self._settings = settings
        self._limits = limits
        self._runners: dict[Binding, EventRunner] = {}
        self._found: dict[tuple[str, str], tuple[type[object], Binding]] = {}
        self._turns = itertools.count()
        self._worker: QueueConsumer | None = None
        self._unlisten: Callable[[], None] = lambda: None
        self.queue = after_queue(app)

    # Writing ------------------------------------------------------------------------------------------------------------

    def of(
        self, event: Event, cause: Cause, data: bytes, bindings: Sequence[Binding]
    ) -> list[Message]:
        """The deliveries of an event that was raised: one for each handler, with the event's own identity.

        Raises:
            ConfigurationError: whoever reads it could not tell the event's class by its name.
        """
        emitter, kind = self._mediator.emitter, type(event)
        envelope = replace(
            cause.envelope, type=stable_name(kind), datacontenttype=emitter.codec.content_type
        )
        envelope = traced(emitter.telemetry, envelope)
        messages = [Message(stable_name(b.handler), None, envelope, data) for b in bindings]
        for message in messages:
            if self.kind_of(message) is not kind:
                raise ConfigurationError(
                    f"{stable_name(kind)} was raised, and another class of that name has the after-commit handler "
                    f"{message.topic}: whoever runs the handler could not tell the two apart. Nothing was committed. Give one "
                    "of them another name."
                )
        return messages

    def placed(self, messages: Sequence[Message]) -> list[tuple[int, Message]]:
        """Each with a partition: one that this process works, best an idle one, so that it runs at once; else any."""
        loads: Mapping[int, int] = self._worker.loads if self._worker is not None else {}
        mine = [p for p, load in loads.items() if not load] or list(loads)
        if not mine:
            return [(_anywhere(message), message) for message in messages]
        return [(mine[next(self._turns) % len(mine)], message) for message in messages]

    # Running ------------------------------------------------------------------------------------------------------------

    async def start(self, owner: str) -> None:
        """Run deliveries in the background."""
        from headrace.consumer.after_commit import AfterWork  # here: `import headrace` stays quick
        from headrace.consumer.clashes import Clashes
        from headrace.consumer.queue import QueueConsumer

        emitter = self._mediator.emitter
        dispatcher = emitter.dispatcher
        for binding in _after_commit(dispatcher.event_map.bindings):
            self._runners[binding] = await dispatcher.runner_of(
                binding.name, [binding], consumed=True
            )
        work = AfterWork(
            *(self._settings, self._app, AFTER_COMMIT, self.queue, self._storage, self._deliver),
            *(dict[str, type[object]](), emitter.codec, emitter.telemetry),
            slots=asyncio.Semaphore(self._settings.concurrency),
            clashes=Clashes(),
            kind_of=self.kind_of,
        )
        self._worker = QueueConsumer(
            work, owner=owner, limits=self._limits, partitions=AFTER_PARTITIONS, now=clock
        )
        self._worker.start()
        self._unlisten = self._storage.listen(self.queue, self._worker.wake)

    async def stop(self, drain_seconds: float) -> None:
        """Begin no more, let the running ones end within `drain_seconds`; the rest stays stored (G10)."""
        worker, self._worker = self._worker, None
        self._unlisten()
        try:
            if worker is not None:
                await worker.stop(drain_seconds)
        finally:
            self._runners.clear()
            self._found.clear()

    def wake(self) -> None:
        """Hint that a delivery was redriven or dropped."""
        if self._worker is not None:
            self._worker.wake()

    def stored(self, partitions: Collection[int]) -> None:
        """A commit has stored deliveries in these partitions, which are of this process if it has any."""
        mine = self.partitions
        if self._worker is not None and mine:
            self._worker.hint(partitions)
        if not all(partition in mine for partition in partitions):
            self._storage.hint(self.queue)

    @property
    def running(self) -> bool:
        """True if this process runs deliveries."""
        return self._worker is not None

    @property
    def idle(self) -> bool:
        """True if this process has nothing to run that it knows of."""
        return self._worker is None or self._worker.idle

    async def due_in(self) -> float | None:
        """Seconds until a delivery may run, 0.0 for now. Dead letters do not run: None if there is nothing else."""
        return await self._storage.due_in(self.queue, range(AFTER_PARTITIONS))

    @property
    def partitions(self) -> tuple[int, ...]:
        """Those of the queue that this process owns; does no I/O."""
        return self._worker.partitions if self._worker is not None else ()

    @property
    def last_error(self) -> str | None:
        """Why a part of the work is paused now, or None; does no I/O."""
        error = self._worker.error if self._worker is not None else None
        return f"{type(error).__name__}: {said_by(error)}" if error is not None else None

    async def status(self) -> AfterCommitStatus:
        """What waits and what runs here; one query."""
        worker = self._worker
        return AfterCommitStatus(
            running=worker is not None,
            partitions=self.partitions,
            in_memory=worker.in_memory if worker is not None else 0,
            last_error=self.last_error,
            backlog=await self._storage.backlog(self.queue),
        )

    async def _deliver(
        self, begin: Callable[[Transaction], Awaitable[Iterable[Delivery]]], /
    ) -> None:
        await self._mediator.units.deliver(self._runner, self._storage, begin)

    def _runner(self, event: object, message: Message) -> EventRunner:
        _, binding = self._found[message.topic, message.envelope.type]
        return self._runners[binding]

    # Names --------------------------------------------------------------------------------------------------------------

    def kind_of(self, message: Message) -> type[object] | None:
        """The class of a delivery's event, if this process has its handler for it.

        Only classes that are bound, and those derived from them, are ever built (G14).
        """
        names = (message.topic, message.envelope.type)
        found = self._found.get(names) or self._find(*names)
        if found is None:
            return None
        self._found[names] = found
        return found[0]

    def _find(self, handler: str, event: str) -> tuple[type[object], Binding] | None:
        event_map = self._mediator.emitter.dispatcher.event_map
        mine = [b for b in _after_commit(event_map.bindings) if stable_name(b.handler) == handler]
        for kind in _with_derived([b.message for b in mine]):
            if stable_name(kind) == event:
                for binding in event_map.handlers_of(kind, phase="after_commit"):
                    if stable_name(binding.handler) == handler:
                        return kind, binding
        return None


def _anywhere(message: Message) -> int:
    # With the handler's name, because all deliveries of an event have its id.
    return stable_hash(f"{message.envelope.id} {message.topic}") % AFTER_PARTITIONS


def _after_commit(bindings: Iterable[Binding]) -> list[Binding]:
    return [b for b in bindings if b.phase == "after_commit"]


def _with_derived(kinds: Iterable[type]) -> Iterable[type]:
    """Classes, then those derived from them, nearest first."""
    generation: dict[type, None] = dict.fromkeys(kinds)
    while generation:
        yield from generation
        derived: dict[type, None] = {}
        for kind in generation:
            derived.update(dict.fromkeys(type.__subclasses__(kind)))
        generation = derived
