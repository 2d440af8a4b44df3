"""Apps without storage: the broker keeps what failed, and what came after it (`headrace.consumer.unsettled`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace import (
    Command,
    Events,
    Headrace,
    Limits,
    Module,
    NotificationEvent,
    Retry,
    Subscription,
    Topic,
)
from headrace.consumer.unsettled import Unsettled
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.storage import Storage
from headrace.telemetry import Count

WINDOW = 5


class Put(Command[None]):
    key: str
    numbers: tuple[int, ...]


class WasPut(NotificationEvent, type="unsettled.was-put.v1", topic="puts", key="key"):
    key: str
    number: int


Handled = list[tuple[str, int]]


def app_of(
    broker: MemoryBroker,
    handled: Handled,
    fails: Callable[[WasPut], bool] = lambda _: False,
    *,
    storage: Storage | None = None,
    retry: Retry = Retry(attempts=1),  # noqa: B008 - frozen
) -> Headrace:
    module = Module("puts")

    async def put(request: Put, events: Events) -> None:
        events.extend(WasPut(request.key, number) for number in request.numbers)

    async def on_put(event: WasPut) -> None:
        if fails(event):
            raise ValueError(f"no {event.number}")
        handled.append((event.key, event.number))

    module.handler(put)
    module.handler(on_put)
    return Headrace(
        "puts",
        modules=[module],
        broker=broker,
        storage=storage,
        topics=[Topic("puts", partitions=1)],
        subscriptions=[Subscription(retry=retry)],
        limits=Limits(window=WINDOW, drain_seconds=0.2, poll_seconds=0.02),
    )


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - a consumer tells nobody
            await asyncio.sleep(0.005)


async def paused_by(app: Headrace) -> str:
    (consumer,) = (await app.status()).consumers
    return consumer.last_error or ""


async def test_what_failed_and_what_came_after_it_is_delivered_again() -> None:
    """A dead letter and what it holds are in no storage, so the broker is asked for them by whoever starts next (G9)."""
    broker, first, second = MemoryBroker(), Handled(), Handled()
    async with app_of(broker, first, lambda event: event.key == "bad") as app:
        await app.send(Put("good", (0,)))
        await until(lambda: bool(first))
        await app.send(Put("bad", (1, 2)))
        await app.send(Put("good", (3,)))
        await until(lambda: len(first) == 2)
    async with app_of(broker, second) as app:
        await until(lambda: len(second) == 3)
        assert not [one async for one in app.dead_letters.iterate()]
    assert first == [("good", 0), ("good", 3)]
    assert second == [("bad", 1), ("bad", 2), ("good", 3)]


async def test_what_was_handled_at_last_is_settled() -> None:
    """Once nothing of a partition waits, the broker is told of everything: a restart repeats nothing."""
    broker, first, second, tries = MemoryBroker(), Handled(), Handled(), list[int]()

    def fails(event: WasPut) -> bool:
        tries.append(event.number)
        return tries.count(1) == 1 and event.number == 1

    retry = Retry(attempts=3, initial_seconds=0.05)
    async with app_of(broker, first, fails, retry=retry) as app:
        await app.send(Put("a", (1, 2)))
        await app.send(Put("b", (3,)))
        await app.settle()
    assert sorted(first) == [("a", 1), ("a", 2), ("b", 3)]
    async with app_of(broker, second) as app:
        await app.send(Put("c", (4,)))
        await app.settle()
    assert second == [("c", 4)]


async def test_a_partition_stands_still_behind_a_window_of_messages_and_says_so() -> None:
    """What is handled behind a dead letter is bounded (G11), seen (G13), and goes on when the letter is dropped."""
    broker, handled = MemoryBroker(), Handled()
    async with app_of(broker, handled, lambda event: event.key == "bad") as app:
        await app.send(Put("bad", (0,)))
        await until(lambda: app.telemetry.counts[Count.DEAD] == 1)
        for number in range(4 * WINDOW):
            await app.send(Put("good", (number,)))
        async with asyncio.timeout(10):
            while not (await paused_by(app)).startswith("PartitionStands"):  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        assert WINDOW <= len(handled) <= 2 * WINDOW
        (dead,) = [one async for one in app.dead_letters.iterate()]
        await app.dead_letters.drop(dead.position, reason="of no use")
        await until(lambda: len(handled) == 4 * WINDOW)
        assert not await paused_by(app)
    assert [number for _, number in handled] == list(range(4 * WINDOW))


async def test_a_storage_keeps_what_failed_itself() -> None:
    """With a storage, of whatever kind, nothing is asked of the broker a second time."""
    broker, storage, first, second = MemoryBroker(), MemoryStorage(), Handled(), Handled()
    async with app_of(broker, first, lambda event: event.number == 1, storage=storage) as app:
        await app.send(Put("a", (1, 2)))
        await app.send(Put("b", (3,)))
        await until(lambda: len(first) == 1)
    async with app_of(broker, second, storage=storage) as app:
        await asyncio.sleep(0.1)
        assert len([one async for one in app.dead_letters.iterate()]) == 1
    assert (first, second) == ([("b", 3)], [])


def test_what_is_parked_during_a_look_is_not_forgotten() -> None:
    """A look that began before a message was parked says nothing about that message."""
    unsettled = Unsettled()
    unsettled.parked("7")
    times = unsettled.times
    unsettled.parked("9")
    unsettled.none_left(times)
    assert (unsettled.open, unsettled.settles("12")) == (True, "7")
    unsettled.none_left(unsettled.times)
    assert (unsettled.open, unsettled.settles("12")) == (False, "12")
