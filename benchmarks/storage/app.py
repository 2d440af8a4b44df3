"""The app that is measured: a command with one insert and one notification, and the handler of that with one insert."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Column, Integer, MetaData, String, Table, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from headrace import (
    Command,
    Events,
    Headrace,
    Limits,
    Module,
    NotificationEvent,
    Subscription,
    Topic,
)
from headrace.app import Role
from headrace.drivers.sql import SqlStorage

NAME: Final = "bench"
TOPIC: Final = "puts"
PARTITIONS: Final = 8
BODY: Final = b'{"k":"k1","text":"' + b"x" * 1000 + b'"}'

metadata = MetaData()
effect = Table(
    "effect",
    metadata,
    Column("n", Integer, primary_key=True, autoincrement=True),
    Column("k", String(20)),
)
INSERT: Final = text("INSERT INTO effect (k) VALUES (:k)")


class Put(Command[None]):
    k: str


class PutQuietly(Command[None]):
    k: str


class WasPut(NotificationEvent, type="bench.was-put.v1", topic=TOPIC, key="k"):
    k: str
    text: str = ""


async def put(request: Put, session: AsyncSession, events: Events) -> None:
    await session.execute(INSERT, {"k": request.k})
    events.append(WasPut(request.k))


async def put_quietly(request: PutQuietly, session: AsyncSession) -> None:
    await session.execute(INSERT, {"k": request.k})


async def on_put(event: WasPut, session: AsyncSession) -> None:
    await session.execute(INSERT, {"k": event.k})


async def hear(event: WasPut) -> None:
    """A handler without an effect: what is left is Headrace's own work."""


async def on_put_alone(event: WasPut, engine: AsyncEngine) -> None:
    """The handler without an inbox: its transaction is its own."""
    async with AsyncSession(engine) as session, session.begin():
        await session.execute(INSERT, {"k": event.k})


def app_on(
    storage: SqlStorage | AsyncEngine,
    broker: Any,
    *roles: Role,
    batch: int = 1,
    effects: bool = True,
) -> Headrace:
    """The app, in the roles that are measured.

    Args:
        storage: an engine for a consumer without an inbox, whose handler has a transaction of its own.
        broker: a driver, or the wrapper of one that takes the time.
        roles: what it does.
        batch: messages of one transaction of the consumer.
        effects: whether the handler inserts a row.
    """
    alone = isinstance(storage, AsyncEngine)
    module = Module(NAME, providers=[storage] if alone else [])
    if alone:
        module.handler(on_put_alone)
    else:
        for handler in (put, put_quietly, on_put if effects else hear):
            module.handler(handler)
    return Headrace(
        NAME,
        modules=[module],
        storage=None if alone else storage,
        broker=broker,
        roles=frozenset(roles),
        # As many messages in memory as one transaction takes of each partition.
        limits=Limits(window=max(500, batch * PARTITIONS), drain_seconds=1.0),
        topics=[Topic(TOPIC, partitions=PARTITIONS)],
        subscriptions=[Subscription(topics=(TOPIC,), batch=batch)],
    )
