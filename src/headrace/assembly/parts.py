"""The parts of an app: what there is, what it is made of, and what is wrong with it. `starting.py` starts and stops them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.assembly.after_commit import AfterCommit
from headrace.assembly.deliveries import AFTER_PARTITIONS, Deliveries
from headrace.assembly.edits import EditCheck
from headrace.assembly.groups import Group, readings_of, topics_of
from headrace.assembly.ownership import OwnershipWatch, Watched, flow_queues
from headrace.assembly.settings import Settings
from headrace.assembly.urls import storage_from
from headrace.assembly.wiring import wiring_faults
from headrace.bindings import Binding
from headrace.broker import Broker, Reading, Topic
from headrace.container import Container
from headrace.dead_letters import DeadLetters
from headrace.description import Consuming, Description, describe
from headrace.mediator import RequestMediator
from headrace.retention import Retention
from headrace.signatures import where
from headrace.storage import Storage, outbox_queue
from headrace.telemetry import Telemetry

if TYPE_CHECKING:
    from headrace.consumer import Consumer
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
        self.watch = self._watch(storage) if storage is not None else None
        # Without a storage, consumers keep their positions and parked messages in memory, as lasting as the broker's.
        self.bookkeeping: Storage = storage if storage is not None else storage_from("memory://")
        edits = EditCheck(
            mediator.emitter.codec,
            settings.limits.body_bytes,
            self.bindings(),
            groups,
            self.deliveries,
        )
        self.dead_letters = DeadLetters(
            self.bookkeeping, telemetry, wake=self.wake, check=edits.check
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

    def on_outbox(self) -> None:
        """Let whoever relays look for what was just committed, here or in another process."""
        relay, storage = self.relay, self.storage
        if relay is not None:
            relay.wake()
        if storage is not None and (
            relay is None or len(relay.status.partitions) < OUTBOX_PARTITIONS
        ):
            storage.hint(outbox_queue(self.settings.name))

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
