"""The parts of an app, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, cast

from headrace.assembly.after_commit import AfterCommit
from headrace.assembly.deliveries import AFTER_PARTITIONS, Deliveries
from headrace.assembly.edits import EditCheck
from headrace.assembly.groups import Group, readings_of, topics_of
from headrace.assembly.ownership import OwnershipWatch, Watched, flow_queues
from headrace.assembly.probing import Probe
from headrace.assembly.settings import Settings
from headrace.assembly.settling import look, settle
from headrace.assembly.status import AppStatus
from headrace.assembly.statuses import status_of
from headrace.assembly.urls import storage_from
from headrace.assembly.watching import watch
from headrace.assembly.wiring import wiring_faults
from headrace.bindings import Binding
from headrace.broker import Broker, Reading, Topic
from headrace.container import Container
from headrace.dead_letters import DeadLetters
from headrace.description import Consuming, Description, describe
from headrace.envelope import Message
from headrace.errors import DrainTimeout
from headrace.mediator import RequestMediator
from headrace.middleware import Middleware
from headrace.retention import Retention
from headrace.runners import EventRunner
from headrace.signatures import where
from headrace.storage import Storage, Transaction, outbox_queue
from headrace.telemetry import Count, LogEvent, Telemetry

if TYPE_CHECKING:
    from headrace.consumer import Consumer
    from headrace.consumer.delivery import Deliver, Delivery
    from headrace.relay import Relay

OUTBOX_PARTITIONS = 8
"""Partitions of an app's outbox: as many relays may share it, and one relay reads them all with one query."""


class Parts:
    """The parts of one app, assembled.

    Args:
        settings: what the app was given.
        telemetry: the app's counts and log records.
        container: where dependencies come from.
        mediator: the heart; holds the emitter and the dispatcher.
        storage: or None.
        broker: or None.
        groups: what is consumed, by whom.
        group_faults: faults of the subscriptions.
    """

    def __init__(
        self,
        settings: Settings,
        telemetry: Telemetry,
        container: Container,
        mediator: RequestMediator,
        storage: Storage | None,
        broker: Broker | None,
        groups: tuple[Group, ...],
        group_faults: tuple[str, ...],
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.container = container
        self.mediator = mediator
        self.storage = storage
        self.broker = broker
        self.groups = groups
        self.relay: Relay | None = None
        self.consumers: list[Consumer] = []
        self.retention: Retention | None = None
        self.after_commit = AfterCommit(mediator, telemetry)
        self.deliveries: Deliveries | None = None
        if storage is not None and mediator.emitter.has_after_commit:
            self.deliveries = Deliveries(
                settings.name, mediator, storage, settings.after_commit, settings.limits
            )
        self.probe = Probe(self, OUTBOX_PARTITIONS)
        self.watch = self._watch(storage) if storage is not None else None
        # Without a storage, consumers keep their positions and parked messages in memory, as lasting as the broker's.
        self.bookkeeping: Storage = storage if storage is not None else storage_from("memory://")
        self.dead_letters = DeadLetters(
            self.bookkeeping, telemetry, wake=self.wake, check=EditCheck(self).check
        )
        self._group_faults = group_faults

    def wake(self) -> None:
        """Let all that works in the background look for work at once."""
        if self.relay is not None:
            self.relay.wake()
        for consumer in self.consumers:
            consumer.wake()
        if self.deliveries is not None:
            self.deliveries.wake()
        if self.retention is not None:
            self.retention.wake()

    def faults(self) -> tuple[str, ...]:
        """Every wiring fault."""
        classes = [
            m
            for m in (*self.settings.middlewares, *self.settings.event_middlewares)
            if isinstance(m, type)
        ]
        found = wiring_faults(
            self.mediator.request_map,
            self.mediator.emitter.dispatcher.event_map,
            self.container,
            self.mediator.injector,
            has_broker=self.broker is not None,
            has_storage=self.storage is not None,
            codec=self.mediator.emitter.codec,
            others=[(m, where(m)) for m in classes],
        )
        return (*found, *self._group_faults, *self._broker_faults())

    def _broker_faults(self) -> list[str]:
        if self.broker is None or self.storage is not None or not self.broker.guarantees.in_storage:
            return []
        return [
            f"{type(self.broker).__name__} keeps its topics in the app's storage, and the app has none. Pass storage=..., "
            f'such as "sqlite+aiosqlite:///app.db", or another broker, such as "memory://".'
        ]

    def topics(self) -> tuple[Topic, ...]:
        """Every topic that the app publishes to or reads, with its settings."""
        return topics_of(self.settings.topics, self.groups, self.bindings())

    def bindings(self) -> tuple[Binding, ...]:
        """Every binding of a handler to a message."""
        requests, events = self.mediator.request_map, self.mediator.emitter.dispatcher.event_map
        return (*requests.bindings, *events.bindings)

    def describe(self) -> Description:
        """What the app is made of."""
        dispatcher = self.mediator.emitter.dispatcher
        owners = {
            id(binding): module.name
            for module in self.settings.modules
            for binding in (*module.requests.bindings, *module.events.bindings)
        }
        return describe(
            app=self.settings.name,
            storage=type(self.storage).__name__ if self.storage is not None else None,
            broker=type(self.broker).__name__ if self.broker is not None else None,
            roles=self.settings.roles,
            requests=self.mediator.request_map.bindings,
            events=dispatcher.event_map.bindings,
            consuming=[Consuming(one.subscription, one.events.bindings) for one in self.groups],
            topics=self.topics(),
            learnt=dispatcher.learnt.of,
            modules=lambda binding: owners.get(id(binding)),
            middlewares=self.settings.middlewares,
            event_middlewares=self.settings.event_middlewares,
        )

    def readings(self) -> tuple[Reading, ...]:
        """Which group reads which topic."""
        return readings_of(self.groups)

    def _watch(self, storage: Storage) -> OwnershipWatch:
        """Of all queues that somebody is to work, whether this process does or not."""
        watched: list[Watched] = []
        if self.broker is not None:
            watched += flow_queues(self.settings.name, OUTBOX_PARTITIONS, self.readings())
        if self.deliveries is not None:
            watched.append(Watched(self.deliveries.queue, "consume", AFTER_PARTITIONS))
        seconds = self.settings.limits.lease_seconds
        return OwnershipWatch(storage, watched, self.telemetry, lease_seconds=seconds)

    def description(self) -> str:
        """One line for the log: what runs."""
        storage = type(self.storage).__name__ if self.storage is not None else "no storage"
        broker = type(self.broker).__name__ if self.broker is not None else "no broker"
        groups = ", ".join(g.name for g in self.groups) or "none"
        return f"{storage}, {broker}, roles {', '.join(sorted(self.settings.roles))}, consumer groups {groups}"

    async def status(self) -> AppStatus:
        """What runs here and what waits; a query for the outbox, some for each queue, and a question to the broker."""
        return await status_of(self)

    async def settle(self, timeout_seconds: float) -> None:
        """Wait until all that was sent has had its effects; `DrainTimeout` if it takes longer."""

        async def left() -> list[str]:
            return (await look(self)).left

        await settle(left, self.telemetry, timeout_seconds)

    async def start(self, stack: AsyncExitStack, owner: str) -> None:
        """Start everything in order; `stack` stops it in the opposite order."""
        await self._start_storage(stack)
        stack.push_async_callback(self.probe.stop)
        # A process that only sends leaves notifications in the outbox: a broker that is away is no concern of its.
        only_sends = self.storage is not None and self.settings.roles == frozenset({"send"})
        broker = None if only_sends else self.broker
        if broker is not None:
            await self._start_broker(broker, stack)
        await self.container.start()
        stack.push_async_callback(self.container.stop)
        await self._start_mediator()
        stack.callback(self.mediator.forget)
        if broker is not None:
            await self._start_relay(broker, stack, owner)
            await self._start_consumers(broker, stack, owner)
        if self.deliveries is not None and "consume" in self.settings.roles:
            stack.push_async_callback(self.deliveries.stop)
            await self.deliveries.start(owner)
        if self.watch is not None:
            self.watch.start()
            stack.push_async_callback(self.watch.stop)
        if self.storage is not None:
            from headrace.assembly.telling import tell  # here: `import headrace` stays quick

            tell(self, self.storage, owner, stack)
        stack.push_async_callback(self._drain)

    async def _start_storage(self, stack: AsyncExitStack) -> None:
        for warning in await self.bookkeeping.start(
            self.settings.name, partitions=OUTBOX_PARTITIONS
        ):
            self.telemetry.warning(LogEvent.STORAGE_UNFIT, warning)
        stack.push_async_callback(self.bookkeeping.stop)
        if self.storage is None and self.broker is not None:
            self.telemetry.warning(
                LogEvent.APP_WITHOUT_STORAGE,
                f"{self.settings.name} has a broker and no storage: notifications are published after the handlers succeeded, "
                f"and are lost if the process or the broker fails just then. Pass storage=... to lose none."
            )
            if self.groups and "consume" in self.settings.roles and self.broker.guarantees.durable:
                self.telemetry.warning(
                    LogEvent.APP_WITHOUT_STORAGE,
                    f"{self.settings.name} consumes without storage: what was handled is known to this process alone, so two "
                    f"processes of a group both handle everything, and a restart may repeat. Consume in one process, or pass "
                    f"storage=... to handle each message once."
                )

    async def _start_broker(self, broker: Broker, stack: AsyncExitStack) -> None:
        for warning in await broker.start(self.storage):
            self.telemetry.warning(LogEvent.BROKER_UNFIT, warning)
        stack.push_async_callback(broker.stop)
        await broker.declare(self.topics(), self.readings())

    async def _start_mediator(self) -> None:
        self.mediator.middlewares = (
            *watch(self.telemetry, self.mediator.emitter.dispatcher),
            *await self._middlewares(self.settings.middlewares),
        )
        self.mediator.emitter.dispatcher.middlewares = await self._middlewares(
            self.settings.event_middlewares
        )
        self.mediator.units.after_commit = self.after_commit.run
        self.mediator.units.on_outbox = self._on_outbox
        self.mediator.units.topics = {t.name: t for t in self.topics()}
        if self.deliveries is not None:
            self.mediator.emitter.defers = self.deliveries.of
            self.mediator.units.after_queue = self.deliveries.queue
            self.mediator.units.placed = self.deliveries.placed
            self.mediator.units.on_deferred = self.deliveries.stored
        elif self.mediator.emitter.has_after_commit:
            self.mediator.units.throttle = self.after_commit.room
        await self.mediator.prepare()

    def _on_outbox(self) -> None:
        relay, storage = self.relay, self.storage
        if relay is not None:
            relay.wake()
        if storage is not None and (
            relay is None or len(relay.status.partitions) < OUTBOX_PARTITIONS
        ):
            storage.hint(outbox_queue(self.settings.name))

    async def _middlewares(self, given: Sequence[Middleware | type]) -> tuple[Middleware, ...]:
        return tuple([await self._instance(m) if isinstance(m, type) else m for m in given])

    async def _instance(self, kind: type) -> Middleware:
        plan = await self.mediator.injector.ready(
            self.mediator.injector.plan(kind, skip_first=False)
        )
        positional = [a.value for a in plan.arguments if not a.keyword]
        return cast(
            Middleware, kind(*positional, **{a.name: a.value for a in plan.arguments if a.keyword})
        )

    async def _start_relay(self, broker: Broker, stack: AsyncExitStack, owner: str) -> None:
        if "relay" not in self.settings.roles or self.storage is None:
            return
        from headrace.relay import Relay  # here, so that `import headrace` stays quick

        self.relay = Relay(
            self.storage,
            broker,
            self.settings.name,
            owner=owner,
            partitions=OUTBOX_PARTITIONS,
            topics={t.name: t for t in self.topics()},
            readings=self.readings(),
            limits=self.settings.limits,
            telemetry=self.telemetry,
        )
        self.relay.start()
        stack.push_async_callback(self._stop_relay)
        stack.callback(self.storage.listen(outbox_queue(self.settings.name), self.relay.wake))

    async def _stop_relay(self) -> None:
        relay, self.relay = self.relay, None
        if relay is not None:
            await relay.stop()

    async def _start_consumers(self, broker: Broker, stack: AsyncExitStack, owner: str) -> None:
        if "consume" not in self.settings.roles:
            return
        stack.push_async_callback(self._stop_consumers)
        from headrace.consumer import Consumer  # here, so that `import headrace` stays quick

        for group in self.groups:
            consumer = Consumer(
                group.subscription,
                storage=self.bookkeeping,
                broker=broker,
                deliver=await self._deliver(group),
                types=group.types,
                codec=self.mediator.emitter.codec,
                owner=owner,
                limits=self.settings.limits,
                telemetry=self.telemetry,
            )
            await consumer.start()
            self.consumers.append(consumer)
        if self.consumers:
            self.retention = Retention(self.bookkeeping, self.settings.limits, self.telemetry)
            self.retention.start()
            stack.push_async_callback(self.retention.stop)

    async def _stop_consumers(self) -> None:
        consumers, self.consumers = self.consumers, []
        await asyncio.gather(*(consumer.stop() for consumer in consumers))

    async def _deliver(self, group: Group) -> Deliver:
        dispatcher = self.mediator.emitter.dispatcher
        runners: dict[type, EventRunner] = {
            kind: await dispatcher.runner_of(
                kind.__qualname__,
                group.events.handlers_of(kind),
                consumed=True,
                group=group.name,
            )
            for kind in group.types.values()
        }

        def runner(event: object, message: Message) -> EventRunner:
            return runners[type(event)]

        async def deliver(begin: Callable[[Transaction], Awaitable[Iterable[Delivery]]], /) -> None:
            await self.mediator.units.deliver(runner, self.bookkeeping, begin)

        return deliver

    async def _drain(self) -> None:
        """One deadline for all: sends first, because they cause the rest."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.settings.limits.drain_seconds

        def left() -> float:
            return max(0.0, deadline - clock())

        if not await self.mediator.drain(left()):
            self.telemetry.count(Count.DRAIN_CUT)
        await self.after_commit.drain(left())
        lasting = self.bookkeeping.durable and (
            self.broker is None or self.broker.guarantees.durable
        )
        if lasting or (self.broker is None and self.deliveries is None):
            return
        if self.settings.recorder is not None:
            return  # a test is over: what it has left, it has left on purpose
        try:  # what lives in memory would be gone with the process
            await self.settle(left())
        except DrainTimeout as error:
            self.telemetry.warning(LogEvent.DRAIN_LOST, f"{error} It was in memory and is lost.")
