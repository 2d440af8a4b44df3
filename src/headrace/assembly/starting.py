"""The start of an app's parts, in order, and their end: the drain, then every stop in the opposite order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from headrace.assembly.parts import OUTBOX_PARTITIONS, Parts
from headrace.assembly.probing import Probe
from headrace.assembly.settling import settle
from headrace.broker import Broker
from headrace.dispatcher import EventDispatcher
from headrace.envelope import Message
from headrace.errors import DrainTimeout
from headrace.middleware import Middleware
from headrace.retention import Retention
from headrace.runners import EventRunner
from headrace.storage import Storage, Transaction, group_queue, outbox_queue
from headrace.telemetry import Count, LogEvent, Telemetry
from headrace.text import said_by
from headrace.watching import everything, failures, sends
from headrace.worker import AT_ONCE_SECONDS, side_by_side

if TYPE_CHECKING:
    from headrace.assembly.groups import Group
    from headrace.consumer.delivery import Deliver, Delivery


_MEMORY_SECONDS: Final = 600.0
"""How long an inbox in memory remembers (G11): a broker repeats within seconds what it delivers to a process that lives."""

_BROKER_KEEPS: Final = ", unless the broker outlives it, which was not told that they are done"


async def start(parts: Parts, probe: Probe, stack: AsyncExitStack, owner: str) -> None:
    """Start everything in order; `stack` stops it in the opposite order.

    Args:
        parts: of the app.
        probe: asks the storage for the health of this process, and so ends before the storage does.
        stack: takes the stops, the drain as the first of them.
        owner: the name of this process, as others see it.
    """
    await _start_storage(parts, stack)
    stack.push_async_callback(probe.stop)
    # A process that only sends leaves notifications in the outbox: a broker that is away is no concern of its.
    only_sends = parts.storage is not None and parts.settings.roles == frozenset({"send"})
    broker = None if only_sends else parts.broker
    if broker is not None:
        await _start_broker(parts, broker, stack)
    await parts.container.start()
    stack.push_async_callback(parts.container.stop)
    await _start_mediator(parts)
    stack.callback(parts.mediator.forget)
    if broker is not None:
        await _start_relay(parts, broker, stack, owner)
        await _start_consumers(parts, broker, stack, owner)
    if parts.deliveries is not None and "consume" in parts.settings.roles:
        _push(stack, parts, parts.deliveries.stop)
        await parts.deliveries.start(owner)
    if parts.watch is not None:
        parts.watch.start()
        stack.push_async_callback(parts.watch.stop)
    if parts.storage is not None:
        _start_telling(parts, parts.storage, stack, owner)
    stack.push_async_callback(_drain, parts)


def _push(stack: AsyncExitStack, parts: Parts, stop: Callable[[float], Awaitable[None]]) -> None:
    """Stop with the seconds to drain within: hardly any after a cancellation, which is to go on soon."""

    async def end(kind: type[BaseException] | None, *_: object) -> None:
        cut = kind is not None and issubclass(kind, asyncio.CancelledError)
        await stop(AT_ONCE_SECONDS if cut else parts.settings.limits.drain_seconds)

    stack.push_async_exit(end)


async def _start_storage(parts: Parts, stack: AsyncExitStack) -> None:
    for warning in await parts.bookkeeping.start(parts.settings.name, partitions=OUTBOX_PARTITIONS):
        parts.telemetry.warning(LogEvent.STORAGE_UNFIT, warning)
    stack.push_async_callback(parts.bookkeeping.stop)
    if parts.storage is None and parts.broker is not None:
        parts.telemetry.warning(
            LogEvent.APP_WITHOUT_STORAGE,
            f"{parts.settings.name} has a broker and no storage: notifications are published after the handlers succeeded, "
            f"and are lost if the process or the broker fails just then. Pass storage=... to lose none.",
        )
        if parts.groups and "consume" in parts.settings.roles and parts.broker.guarantees.durable:
            parts.telemetry.warning(
                LogEvent.APP_WITHOUT_STORAGE,
                f"{parts.settings.name} consumes without storage: what was handled is known to this process alone, so two "
                f"processes of a group both handle everything, and a restart may repeat; and a partition with a message that "
                f"fails stands still before long. Consume in one process, or pass storage=... to handle each message once and "
                f"to put those aside that fail.",
            )


async def _start_broker(parts: Parts, broker: Broker, stack: AsyncExitStack) -> None:
    for warning in await broker.start(parts.storage):
        parts.telemetry.warning(LogEvent.BROKER_UNFIT, warning)
    stack.push_async_callback(broker.stop)
    await broker.declare(parts.topics(), parts.readings())


async def _start_mediator(parts: Parts) -> None:
    parts.mediator.middlewares = (
        *_watchers(parts.telemetry, parts.mediator.emitter.dispatcher),
        *await _middlewares(parts, parts.settings.middlewares),
    )
    parts.mediator.emitter.dispatcher.middlewares = await _middlewares(
        parts, parts.settings.event_middlewares
    )
    parts.mediator.units.after_commit = parts.after_commit.run
    parts.mediator.units.on_outbox = parts.on_outbox
    parts.mediator.units.topics = {t.name: t for t in parts.topics()}
    if parts.deliveries is not None:
        parts.mediator.emitter.defers = parts.deliveries.of
        parts.mediator.units.after_queue = parts.deliveries.queue
        parts.mediator.units.placed = parts.deliveries.placed
        parts.mediator.units.on_deferred = parts.deliveries.stored
    elif parts.mediator.emitter.has_after_commit:
        parts.mediator.units.throttle = parts.after_commit.room
    await parts.mediator.prepare()


def _watchers(telemetry: Telemetry, dispatcher: EventDispatcher) -> Sequence[Middleware]:
    """Look for an SDK, set what the dispatcher does about handlers; answer the middlewares that go around every send.

    Failures of consumed handlers are counted in any case.
    """
    telemetry.open()
    if not telemetry.collected and not telemetry.observe_sends:
        dispatcher.watch, dispatcher.watch_consumed = None, failures(telemetry)
        return ()
    dispatcher.watch = dispatcher.watch_consumed = everything(telemetry)
    return (sends(telemetry),)


async def _middlewares(parts: Parts, given: Sequence[Middleware | type]) -> tuple[Middleware, ...]:
    return tuple([await _instance(parts, m) if isinstance(m, type) else m for m in given])


async def _instance(parts: Parts, kind: type) -> Middleware:
    plan = await parts.mediator.injector.ready(parts.mediator.injector.plan(kind, skip_first=False))
    positional = [a.value for a in plan.arguments if not a.keyword]
    return cast(
        Middleware, kind(*positional, **{a.name: a.value for a in plan.arguments if a.keyword})
    )


async def _start_relay(parts: Parts, broker: Broker, stack: AsyncExitStack, owner: str) -> None:
    if "relay" not in parts.settings.roles or parts.storage is None:
        return
    from headrace.relay import Relay  # here, so that `import headrace` stays quick

    parts.relay = Relay(
        parts.storage,
        broker,
        parts.settings.name,
        owner=owner,
        partitions=OUTBOX_PARTITIONS,
        topics={t.name: t for t in parts.topics()},
        readings=parts.readings(),
        limits=parts.settings.limits,
        telemetry=parts.telemetry,
    )
    parts.relay.start()
    _push(stack, parts, partial(_stop_relay, parts))
    stack.callback(parts.storage.listen(outbox_queue(parts.settings.name), parts.relay.wake))


async def _stop_relay(parts: Parts, drain_seconds: float) -> None:
    relay, parts.relay = parts.relay, None
    if relay is not None:
        await relay.stop(drain_seconds)


async def _start_consumers(parts: Parts, broker: Broker, stack: AsyncExitStack, owner: str) -> None:
    if "consume" not in parts.settings.roles:
        return
    _push(stack, parts, partial(_stop_consumers, parts))
    from headrace.consumer import Consumer  # here, so that `import headrace` stays quick

    for group in parts.groups:
        consumer = Consumer(
            group.subscription,
            storage=parts.bookkeeping,
            broker=broker,
            deliver=await _deliver(parts, group),
            types=group.types,
            codec=parts.mediator.emitter.codec,
            owner=owner,
            limits=parts.settings.limits,
            telemetry=parts.telemetry,
            topics={t.name: t for t in parts.topics()},
            lasting=parts.storage is not None,
        )
        await consumer.start()
        parts.consumers.append(consumer)
    if parts.consumers:
        limits = parts.settings.limits
        if parts.storage is None:
            seconds = min(limits.inbox_retention_seconds, _MEMORY_SECONDS)
            limits = replace(limits, inbox_retention_seconds=seconds)
        parts.retention = Retention(parts.bookkeeping, limits, parts.telemetry)
        parts.retention.start()
        stack.push_async_callback(parts.retention.stop)


async def _stop_consumers(parts: Parts, drain_seconds: float) -> None:
    consumers, parts.consumers = parts.consumers, []
    await side_by_side([consumer.stop(drain_seconds) for consumer in consumers])


async def _deliver(parts: Parts, group: Group) -> Deliver:
    dispatcher = parts.mediator.emitter.dispatcher
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

    def deliver(
        begin: Callable[[Transaction], Awaitable[Iterable[Delivery]]], /
    ) -> Awaitable[None]:
        return parts.mediator.units.deliver(runner, parts.bookkeeping, begin)

    return deliver


def _start_telling(parts: Parts, storage: Storage, stack: AsyncExitStack, owner: str) -> None:
    """What this process tells others of itself, besides its logs: its pulse, and gauges where metrics are collected."""
    from headrace.assembly.pulse import PulseWriter  # here: `import headrace` stays quick

    writer = PulseWriter(parts, storage, owner)
    writer.start()
    stack.push_async_callback(writer.stop)
    if parts.telemetry.metering is not None:
        from headrace.assembly.gauges import Gauges

        gauges = Gauges(parts, storage, parts.telemetry.metering)
        gauges.start()
        stack.push_async_callback(gauges.stop)


async def _drain(parts: Parts) -> None:
    """One deadline for all: sends first, because they cause the rest."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + parts.settings.limits.drain_seconds

    def left() -> float:
        return max(0.0, deadline - clock())

    seconds = 0.0
    try:
        if not await parts.mediator.drain(left()):
            parts.telemetry.count(Count.DRAIN_CUT)
        seconds = left()
    finally:
        # At once if the stop is cancelled meanwhile, but not left running.
        await parts.after_commit.drain(seconds)
    lasting = parts.bookkeeping.durable and (
        parts.broker is None or parts.broker.guarantees.durable
    )
    if lasting or (parts.broker is None and parts.deliveries is None):
        return
    if parts.settings.recorder is not None:
        return  # a test is over: what it has left, it has left on purpose
    try:  # what lives in memory would be gone with the process
        await settle(parts, left())
    except DrainTimeout as error:
        parts.telemetry.warning(LogEvent.DRAIN_LOST, f"{error} It was in memory and is lost.")
    except Exception as error:
        # A server that does not answer is no reason to end the stop as failed.
        parts.telemetry.warning(
            LogEvent.DRAIN_LOST,
            f"the stop could not wait for what is left ({type(error).__name__}: {said_by(error)}). What was in memory is lost.",
        )
    await _tell_parked(parts)


async def _tell_parked(parts: Parts) -> None:
    """Say what failed for good, and what waits behind it, if that ends with the process."""
    if parts.bookkeeping.durable:
        return
    queues = [group_queue(one.group, one.topic) for one in parts.readings()]
    if parts.deliveries is not None:
        queues.append(parts.deliveries.queue)
    dead = held = 0
    with suppress(Exception):  # a stop does not fail because it cannot be asked what is there
        for queue in queues:
            backlog = await parts.bookkeeping.backlog(queue)
            dead, held = dead + backlog.dead, held + backlog.held
    if dead:
        parts.telemetry.warning(
            LogEvent.DRAIN_LOST,
            f"{dead} dead letters, and {held} messages that wait behind them, are in memory and are lost with this process"
            f"{_BROKER_KEEPS * (parts.storage is None)}. Pass storage=... with a database to keep them.",
        )
