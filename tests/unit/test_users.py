"""An object that several apps start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from headrace.drivers.users import Users


class Thing:
    """Records what is done with it; each step takes a turn of the loop."""

    def __init__(self) -> None:
        self.users = Users(self._open, self._close)
        self.done: list[str] = []
        self.failing = False
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def _open(self) -> Sequence[str]:
        await self.go_on.wait()
        self.done.append("opened")
        if self.failing:
            raise ConnectionError("nobody listens")
        return ("A warning.",)

    async def _close(self) -> None:
        await self.go_on.wait()
        self.done.append("closed")


async def test_the_first_opens_and_the_last_closes() -> None:
    """However many start at once, it is opened once, and closed when each has stopped (G10)."""
    thing = Thing()
    answers = await asyncio.gather(*(thing.users.enter() for _ in range(3)))
    assert sorted(map(len, answers)) == [0, 0, 1]
    for _ in range(2):
        await thing.users.leave()
    assert thing.done == ["opened"]
    await thing.users.leave()
    await thing.users.leave()
    assert thing.done == ["opened", "closed"]


async def test_a_failed_start_is_undone() -> None:
    """What was opened in part is closed, and the next start opens anew (G10)."""
    thing = Thing()
    thing.failing = True
    with pytest.raises(ConnectionError):
        await thing.users.enter()
    assert thing.done == ["opened", "closed"]
    thing.failing = False
    await thing.users.enter()
    assert thing.users.count == 1


async def test_a_cancelled_stop_closes_all_the_same() -> None:
    """Who cancels a stop gets its CancelledError when all is closed, so nothing stays open (G10)."""
    thing = Thing()
    await thing.users.enter()
    thing.go_on.clear()
    stopping = asyncio.create_task(thing.users.leave())
    for _ in range(3):
        await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.sleep(0)
    assert not stopping.done()
    thing.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert thing.done == ["opened", "closed"]


def test_an_ended_loop_leaves_nobody() -> None:
    """What was left started on a loop that has ended is opened anew on the next one."""
    thing = Thing()
    asyncio.run(_enter(thing))
    asyncio.run(_enter(thing))
    assert thing.done == ["opened", "opened"]
    assert thing.users.count == 1


async def _enter(thing: Thing) -> None:
    thing.go_on = asyncio.Event()
    thing.go_on.set()
    await thing.users.enter()
