"""An app tells what it does, and what a newcomer gets wrong gets an error that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from headrace import Command, Events, Headrace, Module, NotificationEvent
from headrace.errors import BindingError, HandlerNotFound, WiringError
from headrace.telemetry import Count
from headrace.testing import Harness


class Join(Command[None]):
    meeting: str


class Joined(NotificationEvent, type="status.joined.v1", topic="meetings", key="meeting"):
    meeting: str


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
