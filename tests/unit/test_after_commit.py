"""After-commit handlers without storage: after the send, in the background, bounded, in units of their own."""

import asyncio
import logging
from typing import Any

import pytest

from headrace import Envelope, EventMap, Events, Headrace, Limits, RequestMap, RequestMediator
from headrace.assembly import after_commit as module
from headrace.telemetry import Count
from tests.unit.heart import Gate, Greeted, Join, Joined, Leave, Log, raising


def app(*handlers: Any, requests: tuple[tuple[type, Any], ...] = (), **settings: Any) -> Headrace:
    request_map, events = RequestMap(), EventMap()
    request_map.bind(Join, raising(Joined("j")))
    for message, handler in requests:
        request_map.bind(message, handler)
    for handler in handlers:
        events.bind(Joined, handler, phase="after_commit")
    return Headrace("m", requests=request_map, events=events, **settings)


async def test_the_send_does_not_wait_for_them() -> None:
    """Section "After-commit handlers": they run after the send has succeeded, and send does not wait for them."""
    gate, done = Gate(), asyncio.Event()

    async def slow(event: Joined) -> None:
        await gate()
        done.set()

    async with app(slow) as running:
        assert await running.send(Join()) == "u1"
        await gate.reached.wait()
        assert not done.is_set()
        gate.opened.set()
        await running.settle(5)
        assert done.is_set()


async def test_a_failed_send_runs_none() -> None:
    """After-commit handlers: of a send that failed none runs."""
    log = Log()

    async def after(event: Joined) -> None:
        log.append(event)

    async def fails(request: Leave, events: Events) -> str:
        events.extend([Joined("lost"), Greeted()])
        return ""

    async def greeted(event: Greeted) -> None:
        raise KeyError

    events, requests = EventMap(), RequestMap()
    requests.bind(Leave, fails)
    events.bind(Joined, after, phase="after_commit")
    events.bind(Greeted, greeted)
    async with Headrace("m", requests=requests, events=events) as running:
        with pytest.raises(KeyError):
            await running.send(Leave())
        await running.settle(5)
    assert not log


async def test_errors_are_logged_and_counted_and_touch_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After-commit handlers: an error is logged with the handler's name and counted; the others run on."""
    log = Log()

    async def fails(event: Joined) -> None:
        raise KeyError("after")

    async def works(event: Joined) -> None:
        log.append(event)

    async def ends_as_cancelled(event: Joined) -> None:
        raise asyncio.CancelledError

    async with app(fails, ends_as_cancelled, works) as running:
        with caplog.at_level(logging.ERROR, "headrace"):
            assert await running.send(Join()) == "u1"
            await running.settle(5)
        assert running.telemetry.counts[Count.AFTER_COMMIT_FAILED] == 2
    assert log == [Joined("j")]
    assert "fails" in caplog.text
    assert "ends_as_cancelled" in caplog.text


async def test_they_run_in_parallel_up_to_a_bound() -> None:
    """G11: as many run at once as the bound allows; more wait."""
    running_now = most = 0
    released = asyncio.Event()

    async def slow(event: Joined) -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        if running_now == module.CONCURRENCY:
            released.set()
        await released.wait()
        await asyncio.sleep(0)
        running_now -= 1

    async with app(slow) as running:
        for _ in range(module.CONCURRENCY + 4):
            await running.send(Join())
        await running.settle(5)
    assert most == module.CONCURRENCY


async def test_a_full_backlog_slows_the_senders(monkeypatch: pytest.MonkeyPatch) -> None:
    """G11: when too many are pending, a new send waits until one has ended."""
    monkeypatch.setattr(module, "PENDING", 2)
    gate = Gate()

    async def slow(event: Joined) -> None:
        await gate()

    async with app(slow) as running:
        await running.send(Join())
        await running.send(Join())
        third = asyncio.create_task(running.send(Join()))
        await gate.reached.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not third.done()
        gate.opened.set()
        assert await third == "u1"


async def test_each_has_a_unit_of_its_own_caused_by_the_send() -> None:
    """G4: an after-commit handler joins nothing of the finished send; its own nested sends join it; the chain is kept."""
    seen: list[Envelope] = []
    scopes: list[object] = []

    class Scoped:
        pass

    async def after(
        event: Joined, envelope: Envelope, scoped: Scoped, mediator: RequestMediator
    ) -> None:
        seen.append(envelope)
        scopes.append(scoped)
        await mediator.send(Leave())

    async def leave(request: Leave, scoped: Scoped, envelope: Envelope) -> str:
        seen.append(envelope)
        scopes.append(scoped)
        return ""

    async with app(after, requests=((Leave, leave),), providers=[Scoped]) as running:
        await running.send(Join(), correlation_id="c7", metadata={"tenant": "t"})
        await running.settle(5)
    assert [e.correlationid for e in seen] == ["c7", "c7"]
    assert seen[1].causationid == seen[0].id
    assert seen[0].metadata == {"tenant": "t"}
    assert scopes[0] is scopes[1]


async def test_an_event_with_only_after_commit_handlers_is_not_unhandled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Section 1: an event that only after-commit handlers take is no event without a handler."""
    async with app(raising()) as running:
        await running.send(Join())
        await running.settle(5)
        assert running.telemetry.counts[Count.EVENT_UNHANDLED] == 0
    assert "no handler" not in caplog.text


async def test_stopping_waits_for_them_and_for_what_they_cause() -> None:
    """G10: a stop lets after-commit handlers finish, and those whose events they raise."""
    log, gate = Log(), Gate()

    async def after(event: Joined, events: Events) -> None:
        if event.user == "j":
            await gate()
            events.append(Joined("second"))
        for _ in range(20):
            await asyncio.sleep(0)
        log.append(event.user)

    async with app(after) as running:
        await running.send(Join())
        await gate.reached.wait()
        stop = asyncio.create_task(running.stop())
        await asyncio.sleep(0)
        gate.opened.set()
        await stop
        assert log == ["j", "second"]


async def test_stopping_cancels_what_is_late_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """G10, G13: handlers that do not end within the deadline are cancelled, counted and logged."""
    gate = Gate()

    async def hangs(event: Joined) -> None:
        await gate()

    running = app(hangs, limits=Limits(drain_seconds=0.02))
    async with running:
        await running.send(Join())
        await gate.reached.wait()
    assert running.telemetry.counts[Count.AFTER_COMMIT_FAILED] == 1
    assert "1 after-commit handlers were cancelled" in caplog.text


async def test_a_stop_goes_on_without_a_handler_that_swallows_its_cancellation(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G10, G13: the stop ends within its deadline all the same, and says who did not."""
    monkeypatch.setattr("headrace.assembly.after_commit.CANCEL_SECONDS", 0.02)
    gate, done = Gate(), asyncio.Event()

    async def stubborn(event: Joined) -> None:
        try:
            await gate()
        except asyncio.CancelledError:
            await gate()
        done.set()

    running = app(stubborn, limits=Limits(drain_seconds=0.02))
    async with running:
        await running.send(Join())
        await gate.reached.wait()
    assert not done.is_set()
    assert "1 after-commit handlers went on 0.02 seconds after they were cancelled" in caplog.text
    gate.opened.set()
    await done.wait()
