"""Batches on SQLite: each message has a scope and a session of its own, in one transaction (G4, G7)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dishka import Provider, Scope
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from headrace import (
    Command,
    Envelope,
    Events,
    Headrace,
    Limits,
    Module,
    NotificationEvent,
    RequestMediator,
    Retry,
    Subscription,
)
from headrace.codec import JsonCodec
from headrace.drivers.memory import MemoryBroker
from headrace.drivers.sql import SqlStorage
from headrace.envelope import Message, new_id, now
from headrace.errors import UnitOfWorkClosed
from headrace.telemetry import Count
from headrace.testing.recording import RecordingBroker


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"

    n: Mapped[int] = mapped_column(primary_key=True)
    seen: Mapped[int] = mapped_column(default=0)


class Came(NotificationEvent, type="test.came.v1", topic="in", key="key"):
    n: int
    key: str


class Went(NotificationEvent, type="test.went.v1", topic="out", key="key"):
    n: int
    key: str


class Store(Command[None]):
    n: int
    fail: bool = False


Script = Callable[[int, AsyncSession, RequestMediator], Awaitable[None]]


class Resource:
    """A dependency with an end."""


class World:
    """An app that consumes `Came` in batches, with a script for its handler, and its database."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.script: Script | None = None
        self.steps: list[str] = []
        """What happened, in order."""
        self.sessions: list[AsyncSession] = []
        self.resources: list[Resource] = []
        self.envelopes: dict[int, str] = {}
        self.broker = RecordingBroker(MemoryBroker())
        self.sent: dict[int, str] = {}

    def app(self, *, batch: int = 100, limits: Limits | None = None) -> Headrace:
        module = Module("m", subscriptions=[Subscription(batch=batch, retry=Retry(attempts=1))])

        @module.handler
        async def on(
            event: Came,
            session: AsyncSession,
            envelope: Envelope,
            resource: Resource,
            mediator: RequestMediator,
            events: Events,
        ) -> None:
            self.sessions.append(session)
            self.resources.append(resource)
            self.envelopes[event.n] = envelope.id
            seen = len((await session.execute(select(Row.n))).all())
            session.add(Row(n=event.n, seen=seen))
            events.append(Went(event.n, event.key))
            if self.script is not None:
                await self.script(event.n, session, mediator)
            self.steps.append(f"handled {event.n}")

        @module.handler
        async def store(request: Store, session: AsyncSession, events: Events) -> None:
            session.add(Row(n=request.n))
            events.append(Went(request.n, "nested"))
            if request.fail:
                raise ValueError(f"{request.n} cannot be stored")

        provider = Provider(scope=Scope.REQUEST)

        def resource() -> Iterable[Resource]:
            yield Resource()
            self.steps.append("closed" if self.rows() else "closed too early")

        provider.provide(resource)
        return Headrace(
            "app",
            modules=[module],
            providers=[provider],
            storage=SqlStorage(f"sqlite+aiosqlite:///{self.file}", metadata=Base.metadata),
            broker=self.broker,
            limits=limits or Limits(poll_seconds=0.02),
        )

    @asynccontextmanager
    async def running(self, *, batch: int = 100) -> AsyncIterator[Headrace]:
        async with self.app(batch=batch) as app:
            yield app

    async def publish(self, *numbers: int, key: str = "k") -> None:
        """Publish messages at once, so that they are read at once."""
        messages: list[Message] = []
        for n in numbers:
            envelope = Envelope(new_id(), "elsewhere", "test.came.v1", now(), partitionkey=key)
            self.sent[n] = envelope.id
            messages.append(Message("in", key, envelope, JsonCodec().encode(Came(n, key))))
        await self.broker.publish(messages)

    def rows(self) -> list[tuple[int, int]]:
        """What another process sees: the rows, and how many each handler saw before its own."""
        with sqlite3.connect(self.file) as connection:
            found: list[tuple[int, int]] = connection.execute(
                "SELECT n, seen FROM row ORDER BY n"
            ).fetchall()
        return found

    def went(self) -> list[int]:
        """The numbers of what was published, in order."""
        return [
            JsonCodec().decode(m.data, Went).n for m in self.broker.messages if m.topic == "out"
        ]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "app.db")


async def test_each_message_sees_what_the_ones_before_wrote(world: World) -> None:
    """What a handler added is written before the next one of its batch begins (G7, G8)."""
    async with world.running() as app:
        await world.publish(0, 1, 2)
        await app.settle(10)
    assert world.rows() == [(0, 0), (1, 1), (2, 2)]


async def test_a_batch_becomes_visible_at_once(world: World) -> None:
    """Others see nothing of a batch until all of it is handled (G4)."""

    async def look(n: int, session: AsyncSession, _: RequestMediator) -> None:
        await session.flush()
        world.steps.append(f"seen {len(world.rows())}")

    world.script = look
    async with world.running() as app:
        await world.publish(0, 1, 2)
        await app.settle(10)
    assert [step for step in world.steps if "seen" in step] == ["seen 0"] * 3


async def test_each_message_has_its_own_scope_session_and_envelope(world: World) -> None:
    """Messages of a batch share nothing but the transaction; the envelope is the message's own (G4)."""
    async with world.running() as app:
        await world.publish(0, 1, 2)
        await app.settle(10)
    assert len({id(session) for session in world.sessions}) == 3
    assert len({id(resource) for resource in world.resources}) == 3
    assert world.envelopes == world.sent


async def test_scopes_are_closed_when_the_outcome_is_known(world: World) -> None:
    """The finalizers of all messages run after the commit of the batch (G4)."""
    async with world.running() as app:
        await world.publish(0, 1)
        await app.settle(10)
    assert world.steps == ["handled 0", "handled 1", "closed", "closed"]


async def test_what_is_raised_goes_out_in_order(world: World) -> None:
    """Notifications of all messages, nested sends included, are published in the order collected (G6)."""

    async def nest(n: int, _: AsyncSession, mediator: RequestMediator) -> None:
        await mediator.send(Store(n + 10))

    world.script = nest
    async with world.running() as app:
        await world.publish(0, 1, 2)
        await app.settle(10)
    assert sorted(n for n, _ in world.rows()) == [0, 1, 2, 10, 11, 12]
    keyed = {0: [n for n in world.went() if n < 10], 1: [n for n in world.went() if n >= 10]}
    assert keyed == {0: [0, 1, 2], 1: [10, 11, 12]}


async def test_what_is_raised_is_caused_by_its_own_message(world: World) -> None:
    """Each notification names the message of its batch that it follows from."""
    async with world.running() as app:
        await world.publish(0, 1)
        await app.settle(10)
    causes = [m.envelope.causationid for m in world.broker.messages if m.topic == "out"]
    assert causes == [world.sent[0], world.sent[1]]


async def test_one_that_fails_leaves_the_others_once(world: World) -> None:
    """What a failing message and the others of its batch wrote and raised is undone; the others run again (G7, G9)."""

    async def fail(n: int, session: AsyncSession, _: RequestMediator) -> None:
        await session.flush()
        if n == 1:
            raise ValueError("no")

    world.script = fail
    async with world.running() as app:
        for n in range(4):
            await world.publish(n, key=f"key {n}")
        await app.settle(10)
        assert app.telemetry.counts[Count.CONSUMED] == 3
        assert app.telemetry.counts[Count.DEAD] == 1
    assert [n for n, _ in world.rows()] == [0, 2, 3]
    assert sorted(world.went()) == [0, 2, 3]


async def test_a_flush_that_fails_is_its_own_messages_fault(world: World) -> None:
    """A row that the database refuses when the message ends makes a dead letter of this message only (G9)."""

    async def collide(n: int, session: AsyncSession, _: RequestMediator) -> None:
        if n == 2:
            session.add(Row(n=0))

    world.script = collide
    async with world.running() as app:
        await world.publish(0, 1)
        await world.publish(2, key="other")
        await app.settle(10)
        (dead,) = await app.dead_letters.list()
        assert dead.envelope.id == world.sent[2]
    assert [n for n, _ in world.rows()] == [0, 1]


async def test_a_nested_send_that_fails_dooms_the_batch(world: World) -> None:
    """An error of a nested send undoes the batch though its handler caught it; only that message is dead (G4)."""

    async def nest(n: int, _: AsyncSession, mediator: RequestMediator) -> None:
        if n == 1:
            try:
                await mediator.send(Store(10, fail=True))
            except ValueError:
                pass

    world.script = nest
    async with world.running() as app:
        await world.publish(0, 1)
        await app.settle(10)
        (dead,) = await app.dead_letters.list()
        assert dead.failure is not None
        assert "10 cannot be stored" in dead.failure.message
    assert [n for n, _ in world.rows()] == [0]
    assert world.went() == [0]


async def test_a_savepoint_spares_the_batch(world: World) -> None:
    """A nested send with a savepoint that fails undoes itself alone (G4)."""

    async def nest(n: int, _: AsyncSession, mediator: RequestMediator) -> None:
        if n == 1:
            try:
                await mediator.send(Store(10, fail=True), savepoint=True)
            except ValueError:
                pass

    world.script = nest
    async with world.running() as app:
        await world.publish(0, 1, 2)
        await app.settle(10)
        assert app.telemetry.counts[Count.BATCH_SPLIT] == 0
    assert [n for n, _ in world.rows()] == [0, 1, 2]
    assert world.went() == [0, 1, 2]


async def test_a_session_ends_with_its_message(world: World) -> None:
    """Who keeps a session, its connection or objects beyond the message gets `UnitOfWorkClosed` (G4)."""
    refused: list[str] = []

    async def reuse(n: int, session: AsyncSession, _: RequestMediator) -> None:
        if n == 1:
            kept = world.sessions[0]
            try:
                await kept.execute(text("SELECT 1"))
            except UnitOfWorkClosed as error:
                refused.append(str(error))
            try:
                kept.add(Row(n=99))
            except UnitOfWorkClosed as error:
                refused.append(str(error))

    world.script = reuse
    async with world.running() as app:
        await world.publish(0, 1)
        await app.settle(10)
    assert len(world.sessions) == len(refused) == 2
    assert "must send a request of its own" in refused[0]
    assert [n for n, _ in world.rows()] == [0, 1]


async def test_a_task_that_outlives_its_message_joins_no_other(world: World) -> None:
    """A send of a task that one message left behind is a unit of its own, not a part of the batch (G4)."""
    left: list[asyncio.Task[None]] = []
    alive: list[bool] = []
    go = asyncio.Event()

    async def leave(n: int, __: AsyncSession, mediator: RequestMediator) -> None:
        async def later() -> None:
            await go.wait()
            await mediator.send(Store(10))

        if n == 0:
            left.append(asyncio.create_task(later()))
        else:
            go.set()
            for _ in range(100):
                await asyncio.sleep(0)
            alive.append(not left[0].done())

    world.script = leave
    async with world.running() as app:
        await world.publish(0, 1)
        await app.settle(10)
        await left[0]
        assert app.telemetry.counts[Count.BATCH_SPLIT] == 0
    assert alive == [True]
    assert [n for n, _ in world.rows()] == [0, 1, 10]


async def test_a_nested_transaction_left_open_is_kept(world: World) -> None:
    """What stands in a `begin_nested` that nobody ended is kept with the batch, as it is with a single message (G4)."""

    async def open_one(n: int, session: AsyncSession, _: RequestMediator) -> None:
        await session.begin_nested()
        session.add(Row(n=n + 10))

    world.script = open_one
    async with world.running() as app:
        await world.publish(0, 1)
        await app.settle(10)
        assert app.telemetry.counts[Count.BATCH_SPLIT] == 0
    assert [n for n, _ in world.rows()] == [0, 1, 10, 11]


async def test_what_is_cut_in_a_batch_leaves_nothing(world: World) -> None:
    """A batch that a stop cuts in its middle leaves no row and no notification, and is handled later (G7, G10)."""
    entered = asyncio.Event()

    async def hang(n: int, session: AsyncSession, _: RequestMediator) -> None:
        await session.flush()
        if n == 1:
            entered.set()
            await asyncio.Event().wait()

    world.script = hang
    async with world.app(limits=Limits(poll_seconds=0.02, drain_seconds=0.02)):
        await world.publish(0, 1, 2)
        await entered.wait()
    assert world.rows() == []
    world.script = None
    async with world.running() as app:
        await app.settle(10)
        assert app.telemetry.counts[Count.CONSUMED] == 3
    assert [n for n, _ in world.rows()] == [0, 1, 2]
    assert world.went() == [0, 1, 2]


@pytest.mark.parametrize("batch", [1, 2, 100])
async def test_the_size_changes_no_effect(world: World, batch: int) -> None:
    """With any batch the same rows and notifications come out (G7)."""

    async def fail(n: int, _: AsyncSession, mediator: RequestMediator) -> None:
        if n % 7 == 3:
            raise ValueError("no")

    world.script = fail
    async with world.running(batch=batch) as app:
        for key in range(4):
            await world.publish(*range(key * 7, key * 7 + 7), key=f"key {key}")
        await app.settle(20)
        counts = app.telemetry.counts
        assert (counts[Count.CONSUMED], counts[Count.DEAD], counts[Count.HELD]) == (12, 4, 12)
    assert [n for n, _ in world.rows()] == [n for n in range(28) if n % 7 < 3]
    assert sorted(world.went()) == [n for n in range(28) if n % 7 < 3]


async def test_a_connection_ends_with_its_message(tmp_path: Path) -> None:
    """The connection of one message is refused to the next, which has the same one beneath (G4)."""
    kept: list[AsyncConnection] = []
    refused: list[UnitOfWorkClosed] = []
    module = Module("m", subscriptions=[Subscription(batch=10)])

    @module.handler
    async def on(event: Came, connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT 1"))
        kept.append(connection)
        if event.n == 1:
            try:
                await kept[0].execute(text("SELECT 1"))
            except UnitOfWorkClosed as error:
                refused.append(error)

    world = World(tmp_path / "app.db")
    app = Headrace(
        "app",
        modules=[module],
        storage=f"sqlite+aiosqlite:///{world.file}",
        broker=world.broker,
        limits=Limits(poll_seconds=0.02),
    )
    async with app:
        await world.publish(0, 1)
        await app.settle(10)
    assert (len(kept), len(refused)) == (2, 1)
