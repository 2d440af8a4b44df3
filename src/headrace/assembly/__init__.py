"""Assembly: an app's parts, made from its settings."""

from __future__ import annotations

from headrace.assembly.groups import plan_groups
from headrace.assembly.parts import Parts
from headrace.assembly.settings import Settings
from headrace.assembly.status import AppStatus, GroupStatus
from headrace.assembly.urls import broker_from, storage_from
from headrace.container.dishka import as_container
from headrace.dispatcher import EventDispatcher
from headrace.emitter import EventEmitter
from headrace.maps import EventMap, RequestMap
from headrace.mediator import RequestMediator
from headrace.telemetry import Telemetry

__all__ = ["AppStatus", "GroupStatus", "Parts", "Settings", "assemble"]


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
