"""Durable after-commit handlers: stored with the commit, run once whoever dies, retried, dead-lettered, seen."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from headrace import (
    Command,
    DomainEvent,
    Envelope,
    Event,
    Events,
    Headrace,
    Limits,
    Module,
    RequestMediator,
    Subscription,
)
from headrace.assembly.deliveries import AFTER_PARTITIONS
from headrace.assembly.pulse import PulseWriter
from headrace.consumer.after_commit import UNKNOWN_HANDLER
from headrace.drivers.memory import MemoryStorage
from headrace.drivers.sql import SqlStorage
from headrace.errors import ConfigurationError, EncodeError, MessageTooLarge, StorageUnavailable
from headrace.storage import State, after_queue
from headrace.telemetry import Count
from headrace.testing import Harness
from tests.unit.flow import FAST, SOON, until
from tests.unit.heart import Gate, Greeted, Join, Joined, Leave, Log, raising

QUEUE = after_queue("m")
SOON_AFTER = Subscription(retry=SOON)


def app(*handlers: Any, storage: Any = None, joined: Any = None, **settings: Any) -> Headrace:
    """An app that raises `Joined` for `Join`, with these after-commit handlers of it."""
    module = Module("m")
    module.bind(Join, joined or raising(Joined("j")))
    for handler in handlers:
        module.bind(Joined, handler, phase="after_commit")
    modules = [module, *settings.pop("modules", ())]
    settings = {"limits": FAST, "after_commit": SOON_AFTER, **settings}
    return Headrace("m", modules=modules, storage=storage or MemoryStorage(), **settings)


def only_sends(storage: MemoryStorage, *handlers: Any, **settings: Any) -> Headrace:
    """The same app as another process on the same data, which runs no handlers."""
    return app(*handlers, storage=MemoryStorage(storage.database), roles={"send"}, **settings)


async def test_a_delivery_is_stored_with_the_commit_and_gone_with_its_effects() -> None:
    """G9: there is a row for each handler from the commit on, until its handler has succeeded; `send` does not wait."""
    gate, log = Gate(), Log()
    storage = MemoryStorage()

    async def waits(event: Joined) -> None:
        await gate()
        log.append(event)

    async def quick(event: Joined) -> None:
        log.append(event.user)

    async with app(waits, quick, storage=storage) as running:
        await owning(running)
        assert await running.send(Join()) == "u1"
        assert (await storage.backlog(QUEUE)).ready == 2
        await gate.reached.wait()
        await until(lambda: log == ["j"] and len(storage.database.rows) == 1)
        status = (await running.status()).after_commit
        assert status is not None
        assert status.running
        assert len(status.partitions) == AFTER_PARTITIONS
        assert status.backlog.ready == 1
        gate.opened.set()
        await running.settle(5)
        assert log == ["j", Joined("j")]
        assert not storage.database.rows


async def test_a_failed_send_stores_none() -> None:
    """G4: what was rolled back has no after-commit handlers, also what a savepoint undid."""
    log = Log()

    async def after(event: Joined) -> None:
        log.append(event.user)

    async def fails(request: Leave, events: Events) -> str:
        events.append(Joined("lost"))
        return ""

    async def greeted(event: Joined) -> None:
        if event.user == "lost":
            raise KeyError

    async def joined(request: Join, events: Events, mediator: RequestMediator) -> str:
        with pytest.raises(KeyError):
            await mediator.send(Leave(), savepoint=True)
        events.append(Joined("kept"))
        return ""

    more = Module("more")
    more.bind(Leave, fails)
    more.bind(Joined, greeted)
    async with app(after, joined=joined, modules=[more]) as running:
        with pytest.raises(KeyError):
            await running.send(Leave())
        await running.send(Join())
        await running.settle(5)
    assert log == ["kept"]


async def test_another_process_runs_what_this_one_stored() -> None:
    """G9: a process that only sends stores deliveries, and one that consumes runs them."""
    storage, log = MemoryStorage(), Log()

    async def after(event: Joined) -> None:
        log.append(event.user)

    async with only_sends(storage, after) as sender:
        await sender.send(Join())
        await sender.settle(5)
        assert not log
        partitions = {row.partition for row in storage.database.rows.values()}
        assert partitions <= set(range(AFTER_PARTITIONS))
        async with app(after, storage=storage) as consumer:
            await consumer.settle(5)
    assert log == ["j"]


async def test_a_delivery_survives_a_process_that_died_in_its_handler() -> None:
    """G9: whoever takes the partition over begins the handler again, with the attempt counted; effects are once."""
    storage, log = MemoryStorage(), Log()

    async def after(event: Joined) -> None:
        log.append(event.user)

    async with only_sends(storage, after) as sender:
        await sender.send(Join())
        row = next(iter(storage.database.rows.values()))
        grant = await storage_of(sender).lease(QUEUE, "dead", partitions=16, seconds=0.05)
        lease = next(one for one in grant.held if one.partition == row.partition)
        assert await storage_of(sender).attempt(lease, row.stored())
    assert row.attempts == 1
    async with app(after, storage=storage, limits=Limits(poll_seconds=0.02, lease_seconds=0.2)):
        await until(lambda: log == ["j"])
    assert not storage.database.rows


async def owning(running: Headrace) -> None:
    """Wait until the app has taken partitions: from then on each delivery gets an idle one."""
    while not (status := (await running.status()).after_commit) or not status.partitions:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.001)


def storage_of(running: Headrace) -> MemoryStorage:
    return cast(MemoryStorage, running.storage)


async def test_a_failing_handler_is_retried_and_dead_and_redriven(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """G9: retried by the policy, then a dead letter that `DeadLetters` lists, redrives and drops; the others are done."""
    log, broken = Log(), [True]

    async def fails(event: Joined) -> None:
        if broken[0]:
            raise KeyError(event.user)
        log.append("mended")

    async def works(event: Joined) -> None:
        log.append("works")

    async with app(fails, works) as running:
        await running.send(Join())
        await running.send(Join())
        await running.settle(5)
        letters = await running.dead_letters.list()
        assert [letter.attempts for letter in letters] == [3, 3]
        first, second = letters
        assert (first.queue, first.group, first.key) == (QUEUE, None, None)
        assert first.topic.endswith("<locals>.fails")
        assert first.envelope.type.endswith("Joined")
        assert first.data == b'{"user":"j"}'
        assert first.failure is not None
        assert (first.failure.error, first.failure.message) == ("KeyError", "'j'")
        assert log == ["works", "works"]
        assert running.telemetry.counts[Count.RETRIED] == 4
        assert running.telemetry.counts[Count.DEAD] == 2
        broken[0] = False
        assert await running.dead_letters.redrive(first.position) == 1
        await running.settle(5)
        assert log == ["works", "works", "mended"]
        assert await running.dead_letters.drop(second.position, reason="seen") == 1
        assert not await running.dead_letters.list(topic=first.topic)
    assert "is a dead letter after 3 attempts: KeyError: 'j'. Redrive it" in caplog.text


async def test_a_handler_that_no_process_has_waits_visibly() -> None:
    """G14: a delivery to a handler that is not bound here waits, with the reason, for a process in which it is."""
    storage, log = MemoryStorage(), Log()

    async def old(event: Joined) -> None:
        log.append("old")

    async def new(event: Joined) -> None:
        log.append("new")

    def waiting() -> bool:
        rows = list(storage.database.rows.values())
        return [row.state for row in rows] == [State.WAITING]

    async with app(old, new, storage=storage, roles={"send"}) as sender:
        await sender.send(Join())
    async with app(old, storage=storage, limits=Limits(poll_seconds=0.02, drain_seconds=0.05)):
        await until(lambda: log == ["old"] and waiting())
        row = next(iter(storage.database.rows.values()))
        assert row.failure is not None
        assert row.failure.error == UNKNOWN_HANDLER
        assert "<locals>.new of" in row.failure.message
        assert row.attempts == 0
    row.due_at = 0.0
    async with app(old, new, storage=storage) as both:
        await both.settle(5)
    assert log == ["old", "new"]


async def test_each_has_a_unit_of_its_own_caused_by_the_send() -> None:
    """G4: nested sends join the handler's unit, what it raises is deferred with its commit, and the chain is kept."""
    seen: list[Envelope] = []

    async def after(
        event: Joined, envelope: Envelope, mediator: RequestMediator, events: Events
    ) -> None:
        seen.append(envelope)
        await mediator.send(Leave())
        events.append(Greeted("after"))

    async def leave(request: Leave, envelope: Envelope) -> str:
        seen.append(envelope)
        return ""

    async def at_last(event: Greeted, envelope: Envelope) -> None:
        seen.append(envelope)

    more = Module("more")
    more.bind(Leave, leave)
    more.bind(Greeted, at_last, phase="after_commit")
    async with app(after, modules=[more]) as running:
        await running.send(Join(), correlation_id="c7", metadata={"tenant": "t"})
        await running.settle(5)
    joined, left, greeted = seen
    assert {e.correlationid for e in seen} == {"c7"}
    assert [left.causationid, greeted.causationid] == [joined.id, joined.id]
    assert joined.type.endswith("heart.Joined")
    assert joined.metadata == greeted.metadata == {"tenant": "t"}


async def test_handlers_of_a_base_class_get_the_class_that_was_raised() -> None:
    """G3: a handler bound to a base class is deferred for events derived from it, which come back as what they were."""

    class Base(DomainEvent):
        user: str = "b"

    class Derived(Base):
        more: int = 7

    seen: list[Event] = []

    async def after(event: Base) -> None:
        seen.append(event)

    module = Module("base")
    module.bind(Base, after, phase="after_commit")
    async with app(joined=raising(Derived(), Base()), modules=[module]) as running:
        await running.send(Join())
        await running.settle(5)
    assert sorted(seen, key=repr) == [Base(), Derived()]


async def test_an_event_that_cannot_be_kept_fails_the_send() -> None:
    """G9: what the codec cannot write, or what is too large, is an error of the send, before the commit."""

    class Odd(DomainEvent):
        what: Any

    async def after(event: Odd) -> None:
        return

    class Send(Command[None]):
        what: Any

    async def send(request: Send, events: Events) -> None:
        events.append(Odd(request.what))

    module, storage = Module("odd"), MemoryStorage()
    module.bind(Odd, after, phase="after_commit")
    module.bind(Send, send)
    limits = Limits(poll_seconds=0.02, body_bytes=50)
    async with app(storage=storage, modules=[module], limits=limits) as running:
        with pytest.raises(EncodeError):
            await running.send(Send(object()))
        with pytest.raises(MessageTooLarge, match=r"Odd .*after.* is 71 bytes"):
            await running.send(Send("x" * 60))
        assert not storage.database.rows


async def test_two_classes_of_one_name_are_told_apart() -> None:
    """G9: an event whose class another process could not find by its name is refused before the commit."""

    def make() -> type[Joined]:
        class Twin(Joined):
            pass

        return Twin

    async def after(event: Joined) -> None:
        return

    kept, storage = [make(), make()], MemoryStorage()
    async with app(after, storage=storage, joined=raising(kept[1]())) as running:
        with pytest.raises(ConfigurationError, match="another class of that name"):
            await running.send(Join())
        assert not storage.database.rows


async def test_stopping_leaves_what_is_stored_to_the_next_start(tmp_path: Path) -> None:
    """G10: a handler that is cut by the stop is rolled back, burns no attempt and runs at the next start."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"
    gate, log = Gate(), Log()

    async def after(event: Joined) -> None:
        if not log:
            log.append("begun")
            await gate()
        log.append(event.user)

    limits = Limits(poll_seconds=0.02, drain_seconds=0.05)
    first = app(after, storage=url, limits=limits)
    async with first:
        await first.send(Join())
        await gate.reached.wait()
    second = app(after, storage=url)
    async with second:
        await second.settle(5)
    assert log == ["begun", "j"]
    assert not await letters_and_rows(url)


async def letters_and_rows(url: str) -> int:
    storage = SqlStorage(url)
    await storage.start("m", partitions=8)
    try:
        backlog = await storage.backlog(QUEUE)
    finally:
        await storage.stop()
    return backlog.ready + backlog.waiting + backlog.dead


async def test_stopping_waits_for_what_lives_in_memory() -> None:
    """G10: with a storage in memory a stop lets all deliveries run that there are, and what they cause."""
    log = Log()

    async def after(event: Joined, events: Events) -> None:
        if event.user == "j":
            events.append(Joined("second"))
        log.append(event.user)

    async with app(after) as running:
        await running.send(Join())
    assert log == ["j", "second"]


async def test_effects_commit_with_the_delivery(tmp_path: Path) -> None:
    """G9: on a database the effects of a handler that failed half way are undone, and those of its success are there once."""
    metadata = MetaData()
    effect = Table(
        "effect", metadata, Column("id", Integer, primary_key=True), Column("by", String)
    )
    tries = 0

    async def after(event: Joined, connection: AsyncConnection) -> None:
        nonlocal tries
        tries += 1
        await connection.execute(insert(effect).values(by=event.user))
        if tries < 3:
            raise KeyError

    async def count(request: Leave, connection: AsyncConnection) -> str:
        return str(await connection.scalar(select(func.count()).select_from(effect)))

    more = Module("more")
    more.bind(Leave, count)
    url = f"sqlite+aiosqlite:///{tmp_path / 'app.db'}"
    storage = SqlStorage(url, metadata=metadata)
    async with app(after, storage=storage, modules=[more]) as running:
        await running.send(Join())
        await running.settle(5)
        assert (tries, await running.send(Leave())) == (3, "1")
    assert not await letters_and_rows(url)


async def test_a_backlog_is_worked_off_in_windows() -> None:
    """G11: of a long backlog only a window is in memory; senders never wait for it."""
    storage, done = MemoryStorage(), 0
    limits = Limits(poll_seconds=0.02, window=32)

    async def after(event: Joined) -> None:
        nonlocal done
        done += 1

    async with only_sends(storage, after) as sender:
        for _ in range(300):
            await sender.send(Join())
    async with app(after, storage=storage, limits=limits) as running:
        most = 0
        while done < 300:
            status = (await running.status()).after_commit
            assert status is not None
            most = max(most, status.in_memory)
            await asyncio.sleep(0)
    assert 0 < most <= 32


async def test_an_outage_of_the_storage_burns_no_attempt() -> None:
    """G9: a storage that is away pauses the work; the delivery runs once it is back, at its first attempt."""
    storage, log, outage = MemoryStorage(), Log(), [2]

    async def after(event: Joined) -> None:
        if outage[0]:
            outage[0] -= 1
            raise StorageUnavailable("nobody listens")
        log.append([row.attempts for row in storage.database.rows.values()])

    async with app(after, storage=storage) as running:
        await running.send(Join())
        await until(lambda: log == [[0]])
        await running.settle(5)
        assert running.telemetry.counts[Count.RETRIED] == 0
        assert running.telemetry.counts[Count.CONSUMER_PAUSED] == 1


async def test_the_harness_runs_them_and_tells() -> None:
    """In a test `settle` waits for them, and `handled_by` and `dead_letters` tell what became of them."""

    async def after(event: Joined) -> None:
        return

    async def fails(event: Joined) -> None:
        raise KeyError

    async with Harness(app(after, fails, roles={"send"})) as h:
        await h.send(Join())
        await h.settle()
        assert h.handled_by(after) == [Joined("j")]
        assert [letter.topic.rpartition(".")[2] for letter in h.dead_letters] == ["fails"]


@pytest.mark.parametrize(
    "settings", [{"group": "g"}, {"topics": ("t",)}, {"batch": 2}, {"ordered": False}]
)
def test_settings_that_mean_nothing_here_are_refused(settings: dict[str, Any]) -> None:
    """Section 2: of a Subscription only what after-commit handlers have may be given."""
    with pytest.raises(ConfigurationError, match="no group, topics, order or batches"):
        Headrace("m", after_commit=Subscription(**settings))


async def test_a_process_tells_which_deliveries_it_works_and_why_it_does_not() -> None:
    """G13: the pulse has the partitions of their queue, and an outage that pauses them is a note of health and pulse."""

    class Away(MemoryStorage):
        away = False

        async def due_in(self, queue: str, partitions: Any) -> float | None:
            if self.away and queue == QUEUE:
                raise StorageUnavailable("no look at deliveries today")
            return await super().due_in(queue, partitions)

    async def after(event: Joined) -> None: ...

    storage = Away()
    async with app(after, storage=storage) as running:
        writer = PulseWriter(running.parts, storage, "x")
        all_of_them = tuple(range(AFTER_PARTITIONS))
        await until(lambda: writer.pulse().partitions.get(QUEUE) == all_of_them)
        assert (await running.health()).notes == writer.pulse().paused == ()
        storage.away = True
        running.parts.wake()
        await until(lambda: bool(writer.pulse().paused))
        (note,) = (await running.health()).notes
        storage.away = False
        assert note.startswith(
            "The running of after-commit handlers is paused by StorageUnavailable"
        )
