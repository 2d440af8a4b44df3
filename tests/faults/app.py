"""The app of a fault run: its messages, what their handlers write, and how they fail by plan."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from headrace import (
    Command,
    DomainEvent,
    EventHandler,
    EventMap,
    Headrace,
    Limits,
    Module,
    NotificationEvent,
    RequestHandler,
    RequestMap,
    RequestMediator,
    Retry,
    Subscription,
)
from headrace.drivers.sql import SqlStorage
from tests.faults.plan import WITH_NESTED, Fate, Trouble, delivery, fact_ids, nested_id
from tests.faults.plan import Task as Plan
from tests.faults.tables import FOLLOWED, Lane, Row, effect
from tests.faults.world import World

# A topic belongs to a class, so the run's name is known before the classes are made.
RUN = os.environ.get("HEADRACE_FAULTS_RUN", "")
LIMITS = Limits(lease_seconds=0.8, poll_seconds=0.05, drain_seconds=5.0)
RETRY = Retry(attempts=3, initial_seconds=0.02, factor=2.0)


class Planned(Exception):
    """A failure that the plan wants."""


class Write(Command[list[str]]):
    """Write facts. Answers the ids of all that this command and those nested in it have written."""

    id: str
    key: str
    facts: int
    fate: Fate
    nested_key: str


class Written(DomainEvent):
    id: str
    key: str
    number: int
    fate: Fate


class Announced(NotificationEvent, type="faults.announced.v1", topic=f"announced{RUN}", key="key"):
    id: str
    key: str
    number: int


class Confirmed(NotificationEvent, type="faults.confirmed.v1", topic=f"confirmed{RUN}", key="key"):
    """Raised by a consumer of `Announced`, so that a chain of two topics is tried."""

    id: str
    key: str
    number: int


class Circumstances:
    """What handlers need to know of the run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.healed = False
        self.attempts: Counter[str] = Counter()

    async def suffer(self, when: Trouble, stage: str, id_: str, key: str) -> None:
        """Fail or dawdle here, if the plan says so."""
        fate = delivery(self.seed, stage, id_, key)
        if fate.trouble is Trouble.SLOW and when is Trouble.AFTER:
            await asyncio.sleep(0.01)
        if fate.trouble is not when:
            return
        self.attempts[f"{stage}/{id_}"] += 1
        hopeless = fate.times is None and not self.healed
        if hopeless or self.attempts[f"{stage}/{id_}"] <= (fate.times or 0):
            raise Planned(f"{stage} {id_} {when}")


class WriteHandler(RequestHandler[Write, list[str]]):
    def __init__(self, session: AsyncSession, mediator: RequestMediator) -> None:
        self._session = session
        self._mediator = mediator

    async def handle(self, request: Write) -> list[str]:
        fate = request.fate
        if fate is Fate.REFUSED_BEFORE:
            raise Planned(f"{request.id} before")
        done = await self._nested(request) if fate in WITH_NESTED else []
        for id_ in fact_ids(request.id, _plan(request)):
            number = await self._count(request.key)
            self._session.add(Row(id=id_, key=request.key, number=number))
            await self._session.flush()
            self.events.append(Written(id_, request.key, number, fate))
            done.append(id_)
        if fate is Fate.SLOW:
            await asyncio.sleep(0.01)
        if fate is Fate.REFUSED_AFTER:
            raise Planned(f"{request.id} after")
        return done

    async def _count(self, key: str) -> int:
        await self._session.execute(
            update(Lane).where(Lane.key == key).values(number=Lane.number + 1)
        )
        number = await self._session.scalar(select(Lane.number).where(Lane.key == key))
        assert number is not None
        return number

    async def _nested(self, request: Write) -> list[str]:
        fate = Fate.GOOD if request.fate is Fate.NESTED else Fate.REFUSED_AFTER
        if request.fate is Fate.NESTED_UNDONE and request.facts > 1:
            fate = Fate.REFUSED_IN_EVENT
        inner = Write(nested_id(request.id), request.nested_key, 1, fate, request.key)
        try:
            return await self._mediator.send(inner, savepoint=request.fate is Fate.NESTED_UNDONE)
        except Planned:
            return []


def _plan(request: Write) -> Plan:
    return Plan(request.key, request.facts, request.fate, request.nested_key)


class Announce(EventHandler[Written]):
    async def handle(self, event: Written) -> None:
        if event.fate is Fate.REFUSED_IN_EVENT:
            raise Planned(f"{event.id} in the event handler")
        self.events.append(Announced(event.id, event.key, event.number))


class Follow(EventHandler[Written]):
    """The effect of a fact after its commit, without a broker and without an order."""

    def __init__(self, connection: AsyncConnection, circumstances: Circumstances) -> None:
        self._connection = connection
        self._circumstances = circumstances

    async def handle(self, event: Written) -> None:
        suffer = self._circumstances.suffer
        await suffer(Trouble.BEFORE, FOLLOWED, event.id, event.key)
        await self._connection.execute(
            insert(effect).values(stage=FOLLOWED, id=event.id, key=event.key, number=event.number)
        )
        await suffer(Trouble.AFTER, FOLLOWED, event.id, event.key)


class Record(EventHandler[Announced]):
    """The effect of a fact, and the next link of the chain."""

    def __init__(self, connection: AsyncConnection, circumstances: Circumstances) -> None:
        self._connection = connection
        self._circumstances = circumstances

    async def handle(self, event: Announced) -> None:
        suffer = self._circumstances.suffer
        await suffer(Trouble.BEFORE, "announced", event.id, event.key)
        await self._connection.execute(
            insert(effect).values(
                stage="announced", id=event.id, key=event.key, number=event.number
            )
        )
        self.events.append(Confirmed(event.id, event.key, event.number))
        await suffer(Trouble.AFTER, "announced", event.id, event.key)


class Mirror(EventHandler[Announced]):
    """The effect of the same fact in another group."""

    def __init__(self, session: AsyncSession, circumstances: Circumstances) -> None:
        self._session = session
        self._circumstances = circumstances

    async def handle(self, event: Announced) -> None:
        suffer = self._circumstances.suffer
        await suffer(Trouble.BEFORE, "mirrored", event.id, event.key)
        await self._session.execute(
            insert(effect).values(stage="mirrored", id=event.id, key=event.key, number=event.number)
        )
        await suffer(Trouble.AFTER, "mirrored", event.id, event.key)


class Close(EventHandler[Confirmed]):
    """The effect at the end of the chain."""

    def __init__(self, connection: AsyncConnection, circumstances: Circumstances) -> None:
        self._connection = connection
        self._circumstances = circumstances

    async def handle(self, event: Confirmed) -> None:
        suffer = self._circumstances.suffer
        await suffer(Trouble.BEFORE, "confirmed", event.id, event.key)
        await self._connection.execute(
            insert(effect).values(
                stage="confirmed", id=event.id, key=event.key, number=event.number
            )
        )
        await suffer(Trouble.AFTER, "confirmed", event.id, event.key)


def make_app(world: World, circumstances: Circumstances) -> Headrace:
    """The app that flows."""
    name = world.name
    requests, events = RequestMap(), EventMap()
    requests.bind(Write, WriteHandler)
    events.bind(Written, Announce)
    events.bind(Written, Follow, phase="after_commit")
    events.bind(Announced, Record)
    events.bind(Confirmed, Close)
    # One group takes batches, the other message by message.
    batches = Subscription(group=name("mirror"), retry=RETRY, batch=10)
    mirror = Module("mirror", subscriptions=[batches])
    mirror.bind(Announced, Mirror)
    return Headrace(
        name("faults"),
        requests=requests,
        events=events,
        modules=[mirror],
        providers=[circumstances],
        storage=SqlStorage(world.storage),
        broker=world.broker,
        subscriptions=[Subscription(retry=RETRY)],
        after_commit=Subscription(retry=RETRY, concurrency=8),
        limits=LIMITS,
    )
