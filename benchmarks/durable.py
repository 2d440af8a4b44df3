"""Headrace on SQLite with the sql:// broker: what a commit costs, and how fast events flow from `send` to effect."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from sqlalchemy import Column, Integer, MetaData, String, Table, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from benchmarks.timing import Loop, Pair
from headrace import (
    Command,
    Events,
    Headrace,
    Module,
    NotificationEvent,
    RequestMediator,
    Subscription,
)
from headrace.drivers.sql import SqlStorage

KEYS: Final = 200
_ALL: Final = frozenset[Any]({"send", "relay", "consume"})

metadata = MetaData()
for name in ("sent", "seen"):
    Table(name, metadata, Column("k", String, primary_key=True), Column("v", Integer))

SENT: Final = text("INSERT INTO sent VALUES (:k, 1) ON CONFLICT (k) DO UPDATE SET v = v + 1")
SEEN: Final = text("INSERT INTO seen VALUES (:k, 1) ON CONFLICT (k) DO UPDATE SET v = v + 1")


class Put(Command[None]):
    k: str


class PutQuietly(Command[None]):
    k: str


class PutMany(Command[None]):
    count: int


class WasPut(NotificationEvent, type="bench.was-put.v1", topic="puts", key="k"):
    k: str


async def put(request: Put, session: AsyncSession, events: Events) -> None:
    await session.execute(SENT, {"k": request.k})
    events.append(WasPut(request.k))


async def put_quietly(request: PutQuietly, session: AsyncSession) -> None:
    await session.execute(SENT, {"k": request.k})


async def put_many(request: PutMany, mediator: RequestMediator) -> None:
    for number in range(request.count):
        await mediator.send(Put(f"k{number % KEYS}"))


class Witness:
    """Sees the events arrive."""

    def __init__(self) -> None:
        self.last = 0.0


async def on_put(event: WasPut, session: AsyncSession, witness: Witness) -> None:
    await session.execute(SEEN, {"k": event.k})
    witness.last = perf_counter()


def app_on(
    storage: SqlStorage,
    *,
    roles: frozenset[Any] = _ALL,
    batch: int = 1,
    witness: Witness | None = None,
) -> Headrace:
    """The app on a storage; with another `batch` it is the same app."""
    module = Module("bench", providers=[witness or Witness()])
    for handler in (put, put_quietly, put_many, on_put):
        module.handler(handler)
    return Headrace(
        "bench",
        modules=[module],
        storage=storage,
        broker="sql://",
        roles=roles,
        subscriptions=[Subscription(topics=("puts",), batch=batch)],
    )


def url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"


def users_engine(file: Path) -> AsyncEngine:
    """An engine as the SQLAlchemy documentation makes it, as durable as the one that Headrace makes."""
    engine = create_async_engine(url(file))

    @event.listens_for(engine.sync_engine, "connect")
    def durable(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def counted(file: Path, table: str) -> int:
    """How often a row of the table was put."""
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute(f"SELECT coalesce(sum(v), 0) FROM {table}").fetchone()[0])


# What a commit costs -----------------------------------------------------------------------------------------------------

SENDS: Final[Mapping[str, str]] = {
    "notified": "send with 1 notification / the transaction by hand, without an outbox",
    "same_engine": "the same, Headrace given the very engine that is used by hand",
    "outbox": "send with 1 notification / send without one",
    "quiet": "send without a notification / the transaction by hand",
}
SENDS_TARGET: Final = {"notified": 1.25}


@asynccontextmanager
async def sends(folder: Path, *, calls: int | None = 100) -> AsyncGenerator[Mapping[str, Pair]]:
    """Committed sends, each beside what it is compared with, on one database file for each pair."""
    async with AsyncExitStack() as stack:
        found: dict[str, Pair] = {}
        for kind in SENDS:
            file = folder / f"{kind}.db"
            engine = users_engine(file)
            stack.push_async_callback(engine.dispose)
            storage = SqlStorage(engine if kind == "same_engine" else url(file), metadata=metadata)
            app = app_on(storage, roles=frozenset({"send"}))
            await stack.enter_async_context(app)
            plain = _quiet_sends(app) if kind == "outbox" else _by_hand(engine)
            framework = _quiet_sends(app) if kind == "quiet" else _sends(app)
            found[kind] = Pair(plain, framework, _counter(file), calls, perf_counter)
        yield found


def _counter(file: Path) -> Any:
    return lambda: counted(file, "sent")


def _by_hand(engine: AsyncEngine) -> Loop:
    async def loop(count: int) -> None:
        for number in range(count):
            async with AsyncSession(engine) as session, session.begin():
                await session.execute(SENT, {"k": f"k{number % KEYS}"})

    return loop


def _sends(app: Headrace) -> Loop:
    async def loop(count: int) -> None:
        for number in range(count):
            await app.send(Put(f"k{number % KEYS}"))

    return loop


def _quiet_sends(app: Headrace) -> Loop:
    async def loop(count: int) -> None:
        for number in range(count):
            await app.send(PutQuietly(f"k{number % KEYS}"))

    return loop


# How fast events flow ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flow:
    """Events per second.

    Args:
        batch: messages of one transaction of the consumer.
        send: committed sends with one notification, alone.
        relay: from the outbox to the topic, alone.
        consume: from the topic to the committed effect, alone.
        through: all three at once in one process, from the first send until the last effect is committed.
    """

    batch: int
    send: float
    relay: float
    consume: float
    through: float


async def flow(folder: Path, *, batch: int, sends: int, backlog: int) -> Flow:
    """Measure one process doing one thing after another, then all at once; each with a file of its own.

    Raises:
        RuntimeError: an effect is missing, or happened twice.
    """
    file = folder / f"stages-{batch}.db"
    storage = SqlStorage(url(file), metadata=metadata)
    async with app_on(storage, roles=frozenset({"send"})) as app:
        began = perf_counter()
        await _sends(app)(sends)
        send = sends / (perf_counter() - began)
        chunk = min(backlog, 500)
        for _ in range(backlog // chunk):
            await app.send(PutMany(chunk))
    waiting = sends + backlog // chunk * chunk
    relay = await _settled(app_on(storage, roles=frozenset({"relay"})), waiting)
    consume = await _settled(app_on(storage, roles=frozenset({"consume"}), batch=batch), waiting)
    _all_seen(file, waiting)
    return Flow(batch, send, relay, consume, await _through(folder, batch, sends))


async def _settled(app: Headrace, count: int) -> float:
    began = perf_counter()
    async with app:
        await app.settle(600)
        return count / (perf_counter() - began)


async def _through(folder: Path, batch: int, sends: int) -> float:
    file = folder / f"through-{batch}.db"
    async with app_on(SqlStorage(url(file), metadata=metadata), batch=batch) as app:
        began = perf_counter()
        await _sends(app)(sends)
        await app.settle(600)
        taken = perf_counter() - began
    _all_seen(file, sends)
    return sends / taken


def _all_seen(file: Path, count: int) -> None:
    seen = counted(file, "seen")
    if seen != count:
        raise RuntimeError(f"{count} events were sent and {seen} had their effect")


async def latencies(folder: Path, count: int) -> Sequence[float]:
    """Seconds from the call of `send` until the handler of the event has run, in an idle process; sorted."""
    witness = Witness()
    found: list[float] = []
    storage = SqlStorage(url(folder / "latency.db"), metadata=metadata)
    async with app_on(storage, witness=witness) as app:
        for number in range(count):
            began = perf_counter()
            await app.send(Put(f"k{number % KEYS}"))
            await app.settle(60)
            found.append(witness.last - began)
    return sorted(found)
