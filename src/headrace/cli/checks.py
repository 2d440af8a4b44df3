"""What `headrace check` looks at: wiring, routes, the database's tables, the broker and its topics."""

from __future__ import annotations

import asyncio
import enum
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.app import Headrace
from headrace.assembly.parts import OUTBOX_PARTITIONS
from headrace.broker import PARTITIONS, Broker
from headrace.cli.ending import Code, fault_of
from headrace.cli.opening import existing
from headrace.description import TopicInfo
from headrace.drawing.graph import graph_of
from headrace.errors import PartitionCountChanged, SchemaVersionError, TopicNotFound, WiringError
from headrace.storage import Storage

if TYPE_CHECKING:
    from headrace.drivers.sql.existing import ExistingStorage

REACH_SECONDS = 15.0
"""How long a server may take to answer before it counts as away."""


class State(enum.StrEnum):
    """How serious a finding is."""

    OK = "ok"
    NOTE = "note"
    """Nothing is wrong, and somebody may want to know."""
    FAULT = "fault"
    """The app will not start, or not do what it is for."""
    AWAY = "away"
    """A server could not be reached, so it is not known."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer.

    Args:
        what: what was looked at: "wiring", "route", "tables", "broker", "topic".
        state: see `State`.
        text: what was found, and what to do.
    """

    what: str
    state: State
    text: str


def wiring_findings(app: Headrace) -> list[Finding]:
    """A finding for each wiring fault, or one that there is none."""
    try:
        app.check()
    except WiringError as error:
        return [Finding("wiring", State.FAULT, fault) for fault in error.faults]
    requests = sum(one.runs == "request" for one in app.describe().handlers)
    events = len(app.describe().handlers) - requests
    counted = f"{_number(requests, 'handler')} of requests, {events} of events"
    return [Finding("wiring", State.OK, f"the app {app.name!r} has no wiring faults: {counted}")]


def route_findings(app: Headrace) -> list[Finding]:
    """Where each notification goes, and who handles it there; and of which handlers that is not known."""
    description = app.describe()
    graph = graph_of(description)
    found: list[Finding] = []
    for message in graph.of_kind("notification"):
        (topic,) = graph.targets(message.id)
        readers = [
            f"{graph.nodes[one.group].name} ({one.name})"
            for one in graph.of_kind("handler")
            if one.message == message.id and one.group
        ]
        key = f", {message.note}" if message.note else ", without a key"
        read = f"read by {', '.join(readers)}" if readers else "read by no group of this app"
        text = f"{message.name} goes to topic {topic.name}{key}, {read}"
        found.append(Finding("route", State.OK, text))
    if graph.missing:
        found.append(Finding("route", State.NOTE, graph.missing))
    return found


async def connected_findings(app: Headrace) -> list[Finding]:
    """What database and broker say. Nothing is made in either."""
    found: list[Finding] = []
    async with AsyncExitStack() as stack:
        storage: Storage | None = None
        if app.storage is None:
            text = "the app has no storage: what it sends is not kept, and nothing is done again after a failure"
            found.append(Finding("tables", State.NOTE, text))
        elif not app.storage.durable:
            text = "the storage is in memory: all is gone with the process"
            found.append(Finding("tables", State.NOTE, text))
        else:
            known = existing(app)
            findings, started = await _tables(app, known)
            found += findings
            if started:
                storage = known
                stack.push_async_callback(known.stop)
        if app.broker is None:
            found.append(Finding("broker", State.NOTE, "the app has no broker: it tells nobody"))
        elif app.broker.guarantees.in_storage:
            found += await _in_storage(app, app.broker, storage)
        else:
            found += await _broker(app, app.broker, storage)
    return found


async def _tables(app: Headrace, storage: Storage) -> tuple[list[Finding], bool]:
    """What the database says, and whether the storage is started now."""
    try:
        async with asyncio.timeout(REACH_SECONDS):
            warnings = await storage.start(app.name, partitions=OUTBOX_PARTITIONS)
    except SchemaVersionError as error:
        return [await _other_tables(storage, error)], False
    except PartitionCountChanged as error:
        return [Finding("tables", State.FAULT, str(error))], False
    except Exception as error:
        return [_failed("tables", "the database", error)], False
    version = getattr(storage, "wanted_version", None)
    which = f" of version {version}" if version is not None else ""
    found = [Finding("tables", State.OK, f"the database has the tables{which}")]
    return [*found, *(Finding("tables", State.NOTE, one) for one in warnings)], True


async def _other_tables(storage: Storage, error: SchemaVersionError) -> Finding:
    from headrace.drivers.sql.existing import ExistingStorage

    if not isinstance(storage, ExistingStorage):
        return Finding("tables", State.FAULT, str(error))
    found = await storage.version()
    return Finding("tables", *_judged(storage, found))


def _judged(storage: ExistingStorage, found: int | None) -> tuple[State, str]:
    wanted = storage.wanted_version
    if found is not None and found > wanted:
        text = f"the tables have version {found}, and this Headrace knows {wanted}: install the newer one that made them"
        return State.FAULT, text
    what = (
        "the database has no tables of Headrace yet"
        if found is None
        else f"the tables have version {found}, and this Headrace needs {wanted}"
    )
    if storage.makes_tables:
        verb = "makes them" if found is None else "upgrades them"
        return State.NOTE, f"{what}: the first start, or `headrace migrate`, {verb}"
    return State.FAULT, f"{what}, and the app makes none (create=False): run `headrace migrate`"


async def _in_storage(app: Headrace, broker: Broker, storage: Storage | None) -> list[Finding]:
    """A broker that lives in the app's database."""
    if storage is None:
        text = "the broker keeps its topics in the database: they are made with the tables"
        return [Finding("broker", State.NOTE, text)]
    return await _broker(app, broker, storage)


async def _broker(app: Headrace, broker: Broker, storage: Storage | None) -> list[Finding]:
    try:
        async with asyncio.timeout(REACH_SECONDS):
            warnings = await broker.start(storage)
    except Exception as error:
        return [_failed("broker", type(broker).__name__, error)]
    try:
        found = [Finding("broker", State.OK, f"{type(broker).__name__} answers")]
        found += [Finding("broker", State.NOTE, warning) for warning in warnings]
        for topic in app.describe().topics:
            found.append(await _topic(broker, topic))
        return found
    finally:
        await broker.stop()


async def _topic(broker: Broker, topic: TopicInfo) -> Finding:
    try:
        async with asyncio.timeout(REACH_SECONDS):
            count = await broker.partitions(topic.name)
    except TopicNotFound as error:
        if broker.guarantees.makes_topics:
            wanted = _number(topic.partitions or PARTITIONS, "partition")
            text = f"{topic.name} does not exist: the first start makes it, with {wanted}"
            return Finding("topic", State.NOTE, text)
        return Finding("topic", State.FAULT, f"{topic.name}: {error}")
    except Exception as error:
        return _failed("topic", topic.name, error)
    if topic.partitions not in (None, count):
        text = (
            f"{topic.name} has {_number(count, 'partition')}, and the app asks for {topic.partitions}: declare "
            f"Topic({topic.name!r}, partitions={count}), or use another name"
        )
        return Finding("topic", State.FAULT, text)
    return Finding("topic", State.OK, f"{topic.name} has {_number(count, 'partition')}")


def _failed(what: str, where: str, error: Exception) -> Finding:
    if isinstance(error, TimeoutError) and not str(error):
        text = f"{where} did not answer within {REACH_SECONDS:g} s"
        return Finding(what, State.AWAY, text)
    fault = fault_of(where, error)
    state = State.AWAY if fault.code is Code.UNREACHABLE else State.FAULT
    return Finding(what, state, str(fault))


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("s" if count != 1 else "")
