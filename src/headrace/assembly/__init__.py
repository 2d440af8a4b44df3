"""Assembly: the parts of an app, made from its settings, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from headrace.assembly.after_commit import AfterCommit
from headrace.assembly.groups import Group, plan_groups
from headrace.assembly.settling import pending_of, settle
from headrace.assembly.urls import broker_from, storage_from
from headrace.assembly.wiring import wiring_faults
from headrace.bindings import Binding
from headrace.broker import Broker, Topic
from headrace.container import Container
from headrace.container.dishka import as_container
from headrace.dead_letters import DeadLetters
from headrace.dispatcher import EventDispatcher
from headrace.emitter import EventEmitter, Unhandled
from headrace.errors import DrainTimeout
from headrace.limits import Limits
from headrace.maps import EventMap, RequestMap
from headrace.mediator import RequestMediator
from headrace.middleware import Middleware
from headrace.module import Module
from headrace.notifications import notification_of
from headrace.retention import Retention
from headrace.runners import EventRunner
from headrace.signatures import where
from headrace.storage import Backlog, Storage, Transaction, outbox_queue
from headrace.subscriptions import Subscription
from headrace.telemetry import Telemetry

if TYPE_CHECKING:
    from headrace.consumer import Consumer, ConsumerStatus
    from headrace.consumer.delivery import Deliver, Delivery
    from headrace.relay import Relay, RelayStatus

__all__ = ["OUTBOX_PARTITIONS", "AppStatus", "Parts", "Settings", "assemble"]

OUTBOX_PARTITIONS = 8
"""Partitions of an app's outbox: as many relays may share it, and one relay reads them all with one query."""


class Settings(Struct, frozen=True, kw_only=True):
    """What `Headrace(...)` was given."""

    name: str
    requests: RequestMap
    events: EventMap
    modules: tuple[Module, ...]
    providers: tuple[object, ...]
    container: object | None
    storage: str | Storage | None
    broker: str | Broker | None
    roles: frozenset[str]
    middlewares: tuple[Middleware | type, ...]
    event_middlewares: tuple[Middleware | type, ...]
    subscriptions: tuple[Subscription, ...]
    topics: tuple[Topic, ...]
    limits: Limits
    unhandled: Unhandled
    overrides: tuple[tuple[type, object], ...] = ()
    recorder: Callable[[Binding, object], None] | None = None


class AppStatus(Struct, frozen=True):
    """What an app's process does now, and what waits to be published.

    Args:
        relay: None in a process that does not relay.
        consumers: one for each subscription that this process consumes.
        outbox: the size of the outbox and the age of its oldest message; None without a storage.
    """

    relay: RelayStatus | None
    consumers: tuple[ConsumerStatus, ...]
    outbox: Backlog | None


def assemble(settings: Settings, telemetry: Telemetry) -> Parts:
    """Make the parts of an app. Does no I/O and needs no event loop."""
    storage = storage_from(settings.storage) if settings.storage is not None else None
    broker = broker_from(settings.broker) if settings.broker is not None else None
    requests, events = RequestMap(), EventMap()
    requests.include(settings.requests)
    events.include(settings.events)
    for module in settings.modules:
        requests.include(module.requests)
        events.include(module.events)
    container = as_container(
        [*settings.providers, *(p for m in settings.modules for p in m.providers)],
        settings.container,
        kinds=tuple(storage.provides) if storage is not None else (),
        mediator=RequestMediator,
        overrides=dict(settings.overrides),
    )
    dispatcher = EventDispatcher(events, container)
    dispatcher.recorder = settings.recorder
    emitter = EventEmitter(
        dispatcher,
        broker,
        source=settings.name,
        cycle_depth=settings.limits.cycle_depth,
        body_bytes=settings.limits.body_bytes,
        unhandled=settings.unhandled,
        telemetry=telemetry,
    )
    mediator = RequestMediator(requests, container, emitter, storage=storage)
    groups, faults = plan_groups(
        settings.name,
        settings.events,
        settings.modules,
        settings.subscriptions,
        requests.bindings,
    )
    return Parts(settings, telemetry, container, mediator, storage, broker, groups, faults)


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
        self.after_commit = AfterCommit(mediator, telemetry)
        # Without a storage, consumers keep their positions and parked messages in memory, as lasting as the broker's.
        self.bookkeeping: Storage = storage if storage is not None else storage_from("memory://")
        self.dead_letters = DeadLetters(self.bookkeeping, telemetry, wake=self.wake)
        self._group_faults = group_faults

    def wake(self) -> None:
        """Let relay and consumers look for work at once."""
        if self.relay is not None:
            self.relay.wake()
        for consumer in self.consumers:
            consumer.wake()

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
        given = {t.name: t for t in self.settings.topics}
        names = [topic for group in self.groups for topic in group.subscription.topics]
        for binding in (
            *self.mediator.request_map.bindings,
            *self.mediator.emitter.dispatcher.event_map.bindings,
        ):
            for kind in (binding.message, *(binding.raises or ())):
                notification = notification_of(kind)
                if notification is not None:
                    names.append(notification.topic)
        return tuple({**{name: Topic(name) for name in names}, **given}.values())

    def description(self) -> str:
        """One line for the log: what runs."""
        storage = type(self.storage).__name__ if self.storage is not None else "no storage"
        broker = type(self.broker).__name__ if self.broker is not None else "no broker"
        groups = ", ".join(g.name for g in self.groups) or "none"
        return f"{storage}, {broker}, roles {', '.join(sorted(self.settings.roles))}, consumer groups {groups}"

    async def status(self) -> AppStatus:
        """What runs here and what waits; one query, of the outbox."""
        return AppStatus(
            relay=self.relay.status if self.relay is not None else None,
            consumers=tuple(consumer.status for consumer in self.consumers),
            outbox=await self.storage.backlog(outbox_queue(self.settings.name))
            if self.storage
            else None,
        )

    async def settle(self, timeout_seconds: float) -> None:
        """Wait until all that was sent has had its effects; `DrainTimeout` if it takes longer."""
        await settle(self._pending, self.telemetry, timeout_seconds)

    async def _pending(self) -> list[str]:
        left: list[str] = []
        if self.mediator.active:
            left.append(f"{self.mediator.active} sends are under way")
        if self.after_commit.running:
            left.append(f"{self.after_commit.running} after-commit handlers are under way")
        if self.storage is not None and self.relay is not None:
            queue = outbox_queue(self.settings.name)
            if await self.storage.ready(queue, range(OUTBOX_PARTITIONS), limit=1):
                left.append("the outbox has messages to publish")
        if self.broker is not None and self.consumers:
            for group in self.groups:
                for topic in group.subscription.topics:
                    left += await pending_of(self.bookkeeping, self.broker, group.name, topic)
        return left

    async def start(self, stack: AsyncExitStack, owner: str) -> None:
        """Start everything in order; `stack` stops it in the opposite order."""
        await self._start_storage(stack)
        if self.broker is not None:
            await self._start_broker(self.broker, stack)
        await self.container.start()
        stack.push_async_callback(self.container.stop)
        await self._start_mediator()
        stack.callback(self.mediator.forget)
        if self.broker is not None:
            await self._start_relay(self.broker, stack, owner)
            await self._start_consumers(self.broker, stack, owner)
        stack.push_async_callback(self._drain)

    async def _start_storage(self, stack: AsyncExitStack) -> None:
        for warning in await self.bookkeeping.start(
            self.settings.name, partitions=OUTBOX_PARTITIONS
        ):
            self.telemetry.warning(warning)
        stack.push_async_callback(self.bookkeeping.stop)
        if self.storage is None and self.broker is not None:
            self.telemetry.warning(
                f"{self.settings.name} has a broker and no storage: notifications are published after the handlers succeeded, "
                f"and are lost if the process or the broker fails just then. Pass storage=... to lose none."
            )

    async def _start_broker(self, broker: Broker, stack: AsyncExitStack) -> None:
        for warning in await broker.start(self.storage):
            self.telemetry.warning(warning)
        stack.push_async_callback(broker.stop)
        await broker.declare(self.topics())

    async def _start_mediator(self) -> None:
        self.mediator.middlewares = await self._middlewares(self.settings.middlewares)
        self.mediator.emitter.dispatcher.middlewares = await self._middlewares(
            self.settings.event_middlewares
        )
        self.mediator.units.after_commit = self.after_commit.run
        self.mediator.units.on_outbox = self._on_outbox
        self.mediator.units.topics = {t.name: t for t in self.topics()}
        if self.mediator.emitter.has_after_commit:
            self.mediator.units.throttle = self.after_commit.room
        await self.mediator.prepare()

    def _on_outbox(self) -> None:
        if self.relay is not None:
            self.relay.wake()

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
            limits=self.settings.limits,
            telemetry=self.telemetry,
        )
        self.relay.start()
        stack.push_async_callback(self._stop_relay)

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
            retention = Retention(self.bookkeeping, self.settings.limits, self.telemetry)
            retention.start()
            stack.push_async_callback(retention.stop)

    async def _stop_consumers(self) -> None:
        consumers, self.consumers = self.consumers, []
        await asyncio.gather(*(consumer.stop() for consumer in consumers))

    async def _deliver(self, group: Group) -> Deliver:
        dispatcher = self.mediator.emitter.dispatcher
        runners: dict[type, EventRunner] = {
            kind: await dispatcher.runner_of(kind.__qualname__, group.events.handlers_of(kind))
            for kind in group.types.values()
        }

        async def deliver(begin: Callable[[Transaction], Awaitable[Iterable[Delivery]]], /) -> None:
            await self.mediator.units.deliver(runners, self.bookkeeping, begin)

        return deliver

    async def _drain(self) -> None:
        """One deadline for all: sends first, because they cause the rest."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.settings.limits.drain_seconds

        def left() -> float:
            return max(0.0, deadline - clock())

        await self.mediator.drain(left())
        await self.after_commit.drain(left())
        if self.broker is None or (self.bookkeeping.durable and self.broker.guarantees.durable):
            return
        try:  # what lives in memory would be gone with the process
            await self.settle(left())
        except DrainTimeout as error:
            self.telemetry.warning(f"{error} It was in memory and is lost.")
