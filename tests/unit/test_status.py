"""An app tells what it does, and what a newcomer gets wrong gets an error that says so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from headrace import (
    Command,
    DomainEvent,
    Envelope,
    Events,
    Headrace,
    Limits,
    Module,
    NotificationEvent,
    Retry,
    Subscription,
)
from headrace.assembly import status as asking
from headrace.envelope import Message
from headrace.errors import (
    BindingError,
    DecodeError,
    HandlerNotFound,
    MessageTooLarge,
    WiringError,
)
from headrace.storage import Backlog, State, outbox_queue
from headrace.telemetry import Count
from headrace.testing import Harness


class Join(Command[None]):
    meeting: str


class Joined(NotificationEvent, type="status.joined.v1", topic="meetings", key="meeting"):
    meeting: str


class Arrived(DomainEvent):
    meeting: str


async def fails(event: Arrived) -> None:
    raise ValueError(event.meeting)


class Welcomer: ...


module = Module("meetings", providers=[Welcomer])


@module.handler
async def join(request: Join) -> None: ...


@module.handler
async def welcome(event: Joined, welcomer: Welcomer) -> None: ...


async def test_an_app_tells_what_its_process_does(tmp_path: Path) -> None:
    """Ownership and the oldest unsent event can be asked of the app (G13)."""
    app = Headrace(
        "status",
        modules=[module],
        storage=f"sqlite+aiosqlite:///{tmp_path / 'app.db'}",
        broker="sql://",
    )
    async with app:
        await app.send(Join("m1"))
        await app.settle()
        status = await app.status()
    assert status.relay is not None
    assert status.relay.running
    assert [consumer.group for consumer in status.consumers] == ["status"]
    assert status.outbox is not None
    assert (status.outbox.ready, status.outbox.oldest_seconds) == (0, 0.0)


def shop(folder: Path, **options: Any) -> Headrace:
    """An app on a file, whose handler of `Joined` fails for good."""
    failing = Module("failing")

    @failing.handler
    async def join(request: Join, events: Events) -> None:
        events.append(Joined(request.meeting))

    @failing.handler
    async def fail(event: Joined) -> None:
        raise ValueError(event.meeting)

    settings: dict[str, Any] = {
        "modules": [failing],
        "storage": f"sqlite+aiosqlite:///{folder / 'app.db'}",
        "broker": "sql://",
        "subscriptions": [Subscription(retry=Retry.NEVER)],
    }
    return Headrace("shop", **settings | options)


async def test_an_app_tells_how_far_its_groups_are(tmp_path: Path) -> None:
    """What is stored for each group, and how far it is behind the broker, by topic (G9, G13)."""
    async with shop(tmp_path, roles={"send", "relay"}) as app:
        await app.send(Join("m1"))
        await app.send(Join("m1"))
        await app.settle()
        (group,) = (await app.status()).groups
        assert (group.group, group.topic, group.behind) == ("shop", "meetings", 2)
        assert group.backlog == Backlog()
    async with shop(tmp_path) as app:
        await app.settle()
        status = await app.status()
        (group,) = status.groups
        assert (group.behind, group.backlog.dead, group.backlog.held) == (0, 1, 1)
        assert status.broker_error is None


async def test_a_process_that_only_sends_tells_what_is_stored(tmp_path: Path) -> None:
    """It has not connected the broker, and says so; what is stored it can tell all the same (G13)."""
    async with shop(tmp_path) as app:
        await app.send(Join("m1"))
        await app.settle()
    async with shop(tmp_path, roles={"send"}) as app:
        status = await app.status()
    (group,) = status.groups
    assert (group.behind, group.backlog.dead) == (None, 1)
    assert status.broker_error is not None
    assert "cannot be asked from this process" in status.broker_error


async def test_a_broker_that_hangs_does_not_hide_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the broker does, the status answers soon and says why a part is missing (G13)."""

    async def hang(topic: str) -> int:
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(asking, "ASK_SECONDS", 0.01)
    async with shop(tmp_path, roles={"send"}) as app:
        monkeypatch.setattr(app.broker, "partitions", hang)
        status = await app.status()
    assert "did not tell within 0.01 seconds" in str(status.broker_error)
    assert [group.behind for group in status.groups] == [None]


async def test_groups_without_storage_are_told_by_who_consumes() -> None:
    """Without a storage the process that consumes knows how far it is, and no other (G13)."""
    app = Headrace("status", modules=[module], broker="memory://")
    async with app:
        (group,) = (await app.status()).groups
    assert (group.group, group.topic, group.behind) == ("status", "meetings", 0)


async def test_an_edited_body_must_be_readable(tmp_path: Path) -> None:
    """A dead letter takes no body that its event's class cannot be read from, and runs with the one that it took (G9)."""
    async with shop(tmp_path, limits=Limits(body_bytes=100)) as app:
        await app.send(Join("m1"))
        await app.settle()
        (letter,) = await app.dead_letters.list()
        edit = app.dead_letters.edit
        with pytest.raises(DecodeError, match=r"was not changed.*'status.joined.v1'.*meeting"):
            await edit(letter.position, b'{"meeting": 3}')
        with pytest.raises(DecodeError):
            await edit(letter.position, b"no JSON")
        with pytest.raises(MessageTooLarge, match="101 bytes, and the limit is 100"):
            await edit(letter.position, b"x" * 101)
        assert await app.dead_letters.list() == [letter]
        assert await edit(letter.position, b'{"meeting": "m2"}')
        await app.dead_letters.redrive(letter.position)
        await app.settle()
        (again,) = await app.dead_letters.list()
    assert again.failure is not None
    assert (again.position, again.failure.message) == (letter.position, "m2")


async def test_an_edited_body_of_the_outbox_must_be_readable(tmp_path: Path) -> None:
    """The app knows the types that it publishes; a type that it does not know may have any body (G9)."""
    async with shop(tmp_path, roles={"send"}) as app:
        assert app.storage is not None
        queue = outbox_queue("shop")
        (lease,) = (await app.storage.lease(queue, "o", partitions=1, seconds=15)).held
        transaction = app.storage.transaction()
        for number, type_ in enumerate(["status.joined.v1", "unknown.v1"]):
            envelope = Envelope(str(number), "shop", type_, "2026-01-31T12:00:00Z")
            transaction.park(lease, Message("t", None, envelope, b"{}"), state=State.DEAD)
        await transaction.commit()
        known, unknown = await app.dead_letters.list()
        with pytest.raises(DecodeError, match=r"cannot be read as 'status\.joined\.v1'"):
            await app.dead_letters.edit(known.position, b"[]")
        assert await app.dead_letters.edit(unknown.position, b"[]")


async def test_an_edited_delivery_must_be_readable(tmp_path: Path) -> None:
    """A dead delivery to an after-commit handler is read as the event that its handler is bound to (G9)."""
    later = Module("later")

    @later.handler
    async def join(request: Join, events: Events) -> None:
        events.append(Arrived(request.meeting))

    later.events.bind(Arrived, fails, phase="after_commit")
    settings = Subscription(retry=Retry.NEVER)
    async with shop(tmp_path, modules=[later], subscriptions=[], after_commit=settings) as app:
        await app.send(Join("m1"))
        await app.settle()
        (letter,) = await app.dead_letters.list()
        with pytest.raises(DecodeError, match="cannot be read as"):
            await app.dead_letters.edit(letter.position, b"[]")
        assert await app.dead_letters.edit(letter.position, b'{"meeting": "m2"}')


async def test_a_process_without_relay_and_storage_says_so() -> None:
    """What does not run here is None, so a health check of the web tier does not fail for it (G13)."""
    app = Headrace("status", modules=[module], broker="memory://", roles={"send"})
    async with app:
        status = await app.status()
    assert (status.relay, status.consumers, status.outbox) == (None, (), None)


def test_a_broker_that_lives_in_the_storage_needs_one() -> None:
    """`sql://` without a storage is a wiring fault, found before anything starts (G12)."""
    app = Headrace("status", modules=[module], broker="sql://")
    with pytest.raises(WiringError, match="keeps its topics in the app's storage"):
        app.check()


async def test_sending_a_class_says_that_a_class_was_sent() -> None:
    """G1: nothing was done, and the error names the slip and not a handler for `type`."""
    async with Harness(Headrace("status", modules=[module], broker="memory://")) as h:
        with pytest.raises(HandlerNotFound, match="a class was sent"):
            await h.send(cast(Any, Join))


async def test_an_override_that_replaces_nothing_is_refused() -> None:
    """A slip in `overrides` must not let the real dependency run in a test."""

    class Unknown: ...

    app = Headrace("status", modules=[module], broker="memory://")
    with pytest.raises(BindingError, match=r"nothing in the app provides .*Unknown.*Welcomer"):
        async with Harness(app, overrides={Unknown: Unknown()}):
            pass


async def test_a_consumed_handler_may_send_before_the_start_has_ended() -> None:
    """G9: consumers begin before `send` opens; a handler that sends then joins its unit and burns no attempt."""
    early = Module("early")
    sent: list[str] = []

    class Note(Command[None]):
        meeting: str

    async def note(request: Note) -> None:
        sent.append(request.meeting)

    async def on_joined(event: Joined) -> None:
        app._sending, app._runners = False, {}  # as it is until the start has ended
        await app.send(Note(event.meeting))

    async def announce(request: Join, events: Events) -> None:
        events.append(Joined(request.meeting))

    early.bind(Note, note)
    early.bind(Join, announce)
    early.bind(Joined, on_joined)
    app = Headrace("early", modules=[early], storage="memory://", broker="memory://")
    async with app:
        await app.send(Join("m1"))
        await app.settle()
        assert sent == ["m1"]
        assert app.telemetry.counts[Count.RETRIED] == 0
