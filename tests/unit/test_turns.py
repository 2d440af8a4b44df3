"""The time of each of several messages: `headrace.consumer.turns`."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from headrace.consumer.turns import TimeLimit, Turns
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
    turns = Turns(TimeLimit(0.02))

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
    turns = Turns(TimeLimit(0.1))
    done: list[object] = []
    async with turns:
        for number, _ in turns.of(deliveries(5)):
            await waited(0.04)
            done.append(number)
    assert done == [0, 1, 2, 3, 4]
    assert not turns.expired


async def test_what_follows_the_last_message_has_a_turn_of_its_own() -> None:
    """A COMMIT that does not come is cut as a handler is."""
    turns = Turns(TimeLimit(0.02))

    async def handle() -> None:
        async with turns:
            assert len(list(turns.of(deliveries(2)))) == 2
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await handle()
    assert turns.expired


async def test_waiting_before_the_first_turn_is_not_measured() -> None:
    """The time begins with the first turn, however long the storage took before."""
    turns = Turns(TimeLimit(0.02))
    async with turns:
        await waited(0.06)
        assert [number for number, _ in turns.of(deliveries(1))] == [0]
    assert not turns.expired


async def test_a_handler_that_survives_its_cancellation_gets_no_further_turn() -> None:
    """Who catches the cancellation and goes on is stopped at the next message."""
    turns = Turns(TimeLimit(0.02))
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
    turns = Turns(TimeLimit(0.05))
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


async def test_one_limit_ends_each_of_many_turns_at_its_own_time() -> None:
    """Turns that began at different times and share a limit: who hangs is cut, and nobody else."""
    limit = TimeLimit(0.3)

    async def handle(pauses: list[float]) -> str:
        turns = Turns(limit)
        try:
            async with turns:
                turn = iter(pauses)
                for _ in turns.of(deliveries(len(pauses))):
                    await waited(next(turn))
        except TimeoutError:
            assert turns.running is not None
            return f"cut at {turns.running.envelope.id}"
        return "done"

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(handle([0.1] * 5 + [5.0, 0.0]))]
        await waited(0.1)
        tasks.append(group.create_task(handle([0.1] * 7)))
        tasks.append(group.create_task(handle([5.0])))
    assert [task.result() for task in tasks] == ["cut at 5", "done", "cut at 0"]


async def test_a_limit_whose_turns_have_ended_serves_the_next() -> None:
    """The timer outlives the turns that it was for, finds nobody, and is there again for who comes later."""
    limit = TimeLimit(0.02)
    async with (first := Turns(limit)):
        assert len(list(first.of(deliveries(1)))) == 1
    await waited(0.06)
    second = Turns(limit)

    async def hang() -> None:
        async with second:
            for _ in second.of(deliveries(1)):
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await hang()
    assert (first.expired, second.expired) == (False, True)


async def test_a_cancellation_from_outside_at_the_end_of_a_turn_is_heard() -> None:
    """Whoever stops the app while a turn runs out wants its end, not a failed attempt."""
    turns = Turns(TimeLimit(0.02))

    async def handle() -> None:
        async with turns:
            for _ in turns.of(deliveries(1)):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await asyncio.Event().wait()

    task = asyncio.create_task(handle())
    while not turns.expired:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
