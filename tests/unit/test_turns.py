"""The time of each of several messages: `headrace.consumer.turns`."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from headrace.consumer.turns import Turns
from headrace.envelope import Envelope, Message


def message(id_: str) -> Message:
    return Message("t", None, Envelope(id=id_, source="s", type="x", time=""), b"")


def deliveries(count: int) -> list[tuple[object, Message]]:
    return [(n, message(str(n))) for n in range(count)]


async def waited(seconds: float) -> None:
    """Wait on the loop's own clock, which is what turns are measured by."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_at(loop.time() + seconds, over.set_result, None)
    await over


async def test_a_turn_that_takes_too_long_ends_with_a_timeout_that_names_its_message() -> None:
    """A handler that hangs is cancelled, and `running` says which message was at it."""
    turns = Turns(0.02)

    async def handle() -> None:
        async with turns:
            for number, _ in turns.of(deliveries(3)):
                if number == 1:
                    await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await handle()
    assert turns.expired
    assert turns.running is not None
    assert turns.running.envelope.id == "1"


async def test_each_message_has_the_whole_time() -> None:
    """Many turns, together longer than the time of one, are not cut."""
    turns = Turns(0.1)
    done: list[object] = []
    async with turns:
        for number, _ in turns.of(deliveries(5)):
            await waited(0.04)
            done.append(number)
    assert done == [0, 1, 2, 3, 4]
    assert not turns.expired


async def test_what_follows_the_last_message_has_a_turn_of_its_own() -> None:
    """A COMMIT that does not come is cut as a handler is."""
    turns = Turns(0.02)

    async def handle() -> None:
        async with turns:
            assert len(list(turns.of(deliveries(2)))) == 2
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await handle()
    assert turns.expired


async def test_waiting_before_the_first_turn_is_not_measured() -> None:
    """The time begins with the first turn, however long the storage took before."""
    turns = Turns(0.02)
    async with turns:
        await waited(0.06)
        assert [number for number, _ in turns.of(deliveries(1))] == [0]
    assert not turns.expired


async def test_a_handler_that_survives_its_cancellation_gets_no_further_turn() -> None:
    """Who catches the cancellation and goes on is stopped at the next message."""
    turns = Turns(0.02)
    begun: list[object] = []

    async def handle() -> None:
        async with turns:
            for number, _ in turns.of(deliveries(2)):
                begun.append(number)
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await handle()
    assert begun == [0]


async def test_a_turn_that_ends_just_before_its_cancellation_does_not_cut_the_next() -> None:
    """The timer has fired, the handler ends in the same round of the loop: the next message runs to its end."""
    turns = Turns(0.05)
    loop = asyncio.get_running_loop()
    done: list[object] = []
    async with turns:
        for number, _ in turns.of(deliveries(2)):
            if number == 0:
                over = loop.create_future()
                # Just before the timer of the turn, in the same round.
                loop.call_at(loop.time() + 0.04, over.set_result, None)
                await asyncio.sleep(0)
                blocked = loop.time() + 0.08
                while loop.time() < blocked:
                    pass
                await over
            else:
                await waited(0.02)
            done.append(number)
    assert done == [0, 1]
    assert not turns.expired
