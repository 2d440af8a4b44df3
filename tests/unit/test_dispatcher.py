"""The dispatcher: each event to each of its handlers once, in order; in parallel only when asked for."""

import asyncio
from typing import Any

import pytest

from headrace import DomainEvent, Event, EventDispatcher, EventMap, Events, RequestMediator
from headrace.container.dishka import DishkaContainer
from headrace.errors import BindingError, EventCycle
from tests.unit.heart import Gate, Greeted, Join, Joined, Leave, Log, by_hand, raising


class Base(DomainEvent):
    user: str = "u1"


class Exact(Base):
    pass


def noting(log: Log, name: str) -> Any:
    async def handler(event: Event) -> None:
        log.append(name)

    return handler


def failing(error: BaseException) -> Any:
    async def handler(event: Event) -> None:
        raise error

    return handler


async def test_exact_type_first_then_bases_each_once_in_the_order_bound() -> None:
    """G3: handlers of the exact type run first, then those of its bases, each once, in the order bound."""
    log = Log()
    on_base, on_both, on_exact = (noting(log, n) for n in ("base", "both", "exact"))
    mediator = by_hand(
        (Join, raising(Exact())),
        (Base, on_both),
        (Base, on_base),
        (Exact, on_exact),
        (Exact, on_both),
        (Event, noting(log, "any")),
    )
    await mediator.send(Join())
    assert log == ["exact", "both", "base", "any"]


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_the_first_error_ends_the_send_unwrapped(concurrency: int) -> None:
    """G3: the error of a handler comes out of send as it was raised, its cause included."""
    log, cause = Log(), ValueError("cause")
    error = KeyError("x")
    error.__cause__ = cause
    mediator = by_hand(
        (Join, raising(Joined(), Greeted())),
        (Joined, failing(error)),
        (Joined, noting(log, "after") if concurrency == 1 else raising()),
        (Greeted, noting(log, "greeted")),
        concurrency=concurrency,
    )
    with pytest.raises(KeyError) as raised:
        await mediator.send(Join())
    assert raised.value is error
    assert raised.value.__cause__ is cause
    assert not log


async def test_handlers_run_one_after_another() -> None:
    """G3: without being asked for, in-process handlers never overlap and run in the task of the send."""
    log = Log()
    tasks: set[object] = set()

    async def slow(event: Joined) -> None:
        tasks.add(asyncio.current_task())
        log.append("begin")
        await asyncio.sleep(0)
        log.append("end")

    async def other(event: Joined) -> None:
        tasks.add(asyncio.current_task())
        log.append("other")

    await by_hand((Join, raising(Joined())), (Joined, slow), (Joined, other)).send(Join())
    assert log == ["begin", "end", "other"]
    assert tasks == {asyncio.current_task()}


async def test_asked_for_handlers_run_in_parallel_each_with_its_scope() -> None:
    """G3: EventDispatcher(concurrency=N) gives each handler a task and a scope of its own."""
    both = asyncio.Barrier(2)
    seen: list[tuple[object, object]] = []

    class Scoped:
        pass

    async def one(event: Joined, scoped: Scoped) -> None:
        await both.wait()
        seen.append((asyncio.current_task(), scoped))

    async def two(event: Joined, scoped: Scoped) -> None:
        await both.wait()
        seen.append((asyncio.current_task(), scoped))

    mediator = by_hand(
        (Join, raising(Joined())), (Joined, one), (Joined, two), providers=(Scoped,), concurrency=2
    )
    async with asyncio.timeout(5):
        await mediator.send(Join())
    assert len({task for task, _ in seen} | {asyncio.current_task()}) == 3
    assert seen[0][1] is not seen[1][1]


async def test_no_more_than_n_at_a_time() -> None:
    """G3: with concurrency=2 a third handler waits until one of the two has ended."""
    running = most = 0

    def handler() -> Any:
        async def handle(event: Joined) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            running -= 1

        return handle

    mediator = by_hand(
        (Join, raising(Joined())), *((Joined, handler()) for _ in range(5)), concurrency=2
    )
    await mediator.send(Join())
    assert most == 2


async def test_never_a_task_for_a_single_handler() -> None:
    """G3: also with concurrency an event with one handler runs in the task of the send."""
    tasks: list[object] = []

    async def only(event: Joined) -> None:
        tasks.append(asyncio.current_task())

    await by_hand((Join, raising(Joined())), (Joined, only), concurrency=8).send(Join())
    assert tasks == [asyncio.current_task()]


async def test_the_first_error_cancels_the_rest() -> None:
    """G3: in parallel, the first error cancels the handlers that still run, and send waits for their end."""
    gate, log = Gate(), Log()

    async def waits(event: Joined) -> None:
        try:
            await gate()
        finally:
            log.append("cancelled")

    async def fails(event: Joined) -> None:
        await gate.reached.wait()
        raise KeyError("first")

    mediator = by_hand((Join, raising(Joined())), (Joined, waits), (Joined, fails), concurrency=2)
    with pytest.raises(KeyError, match="first"):
        await mediator.send(Join())
    assert log == ["cancelled"]


async def test_several_errors_at_once_are_a_group() -> None:
    """G3: several handlers that fail at once are an ExceptionGroup of their errors."""
    both = asyncio.Barrier(2)

    def handler(error: Exception) -> Any:
        async def handle(event: Joined) -> None:
            try:
                await both.wait()
            finally:
                raise error

        return handle

    mediator = by_hand(
        (Join, raising(Joined())),
        (Joined, handler(KeyError("a"))),
        (Joined, handler(ValueError("b"))),
        concurrency=2,
    )
    with pytest.raises(ExceptionGroup) as raised:
        await mediator.send(Join())
    assert {type(e) for e in raised.value.exceptions} == {KeyError, ValueError}


async def test_cancelling_a_send_cancels_what_it_started() -> None:
    """G3: cancelling a send cancels its parallel handlers; no task outlives it."""
    gate, other, log = Gate(), Gate(), Log()

    def handler(gate: Gate) -> Any:
        async def handle(event: Joined) -> None:
            try:
                await gate()
            except asyncio.CancelledError:
                log.append("cancelled")
                raise

        return handle

    mediator = by_hand(
        (Join, raising(Joined())),
        (Joined, handler(gate)),
        (Joined, handler(other)),
        concurrency=2,
    )
    before = asyncio.all_tasks()
    send = asyncio.create_task(mediator.send(Join()))
    await gate.reached.wait()
    await other.reached.wait()
    send.cancel()
    with pytest.raises(asyncio.CancelledError):
        await send
    assert log == ["cancelled", "cancelled"]
    assert asyncio.all_tasks() == before


async def test_follow_ups_of_parallel_handlers_keep_the_order_bound() -> None:
    """G2: follow-ups of parallel handlers are dispatched in the order their handlers were bound."""
    log = Log()
    second_done = asyncio.Event()

    async def first(event: Joined, events: Events) -> None:
        await second_done.wait()
        events.append(Greeted("first"))

    async def second(event: Joined, events: Events) -> None:
        events.append(Greeted("second"))
        second_done.set()

    async def greeted(event: Greeted) -> None:
        log.append(event.user)

    mediator = by_hand(
        (Join, raising(Joined())),
        (Joined, first),
        (Joined, second),
        (Greeted, greeted),
        concurrency=2,
    )
    async with asyncio.timeout(5):
        await mediator.send(Join())
    assert log == ["first", "second"]


async def test_a_parallel_handler_may_send_and_its_notifications_wait_for_all() -> None:
    """G4: a nested send of a parallel handler joins the send: what it announces is published when all have succeeded."""
    from headrace.broker import Topic
    from headrace.drivers.memory import MemoryBroker
    from tests.unit.heart import Announced

    broker = MemoryBroker()
    await broker.start(None)
    await broker.declare([Topic("meetings", 1)])

    async def sends(event: Joined, mediator: RequestMediator) -> None:
        await mediator.send(Leave())

    async def fails_first_time(event: Joined) -> None:
        assert await broker.backlog("g", "meetings", {0: None}) == 0
        if event.user == "bad":
            raise KeyError(event.user)

    async def join(request: Join, events: Events) -> str:
        events.append(Joined(request.user))
        return ""

    mediator = by_hand(
        (Join, join),
        (Leave, raising(Announced())),
        (Joined, sends),
        (Joined, fails_first_time),
        concurrency=2,
        broker=broker,
    )
    with pytest.raises(KeyError):
        await mediator.send(Join("bad"))
    assert await broker.backlog("g", "meetings", {0: None}) == 0
    await mediator.send(Join("good"))
    assert await broker.backlog("g", "meetings", {0: None}) == 1
    await broker.stop()


async def test_a_caught_failure_inside_a_parallel_handler_dooms_the_send() -> None:
    """G4: a nested send that fails inside a parallel handler dooms the whole send, even if the handler caught it."""

    async def catches(event: Joined, mediator: RequestMediator) -> None:
        with pytest.raises(KeyError):
            await mediator.send(Leave())

    mediator = by_hand(
        (Join, raising(Joined())),
        (Leave, failing(KeyError("nested"))),
        (Joined, catches),
        (Joined, raising()),
        concurrency=2,
    )
    with pytest.raises(KeyError, match="nested"):
        await mediator.send(Join())


async def test_a_circle_through_parallel_handlers_ends() -> None:
    """G2: nested sends through parallel handlers, each on a stack of its own, still end in EventCycle."""

    async def again(event: Joined, mediator: RequestMediator) -> None:
        await mediator.send(Join())

    mediator = by_hand(
        (Join, raising(Joined())),
        (Joined, again),
        (Joined, raising()),
        concurrency=2,
        cycle_depth=20,
    )
    with pytest.raises(EventCycle, match="Join -> Joined -> Join"):
        await mediator.send(Join())


async def test_a_failing_finalizer_does_not_hide_a_parallel_handlers_error() -> None:
    """G3: when a parallel handler and its scope's finalizer both fail, the handler's error comes out."""
    from collections.abc import AsyncIterator

    from dishka import Provider, Scope

    class Scoped:
        pass

    async def make() -> AsyncIterator[Scoped]:
        yield Scoped()
        raise RuntimeError("finalizer")

    provider = Provider(scope=Scope.REQUEST)
    provider.provide(make, provides=Scoped)

    async def fails(event: Joined, scoped: Scoped) -> None:
        raise KeyError("handler")

    mediator = by_hand(
        (Join, raising(Joined())),
        (Joined, fails),
        (Joined, raising()),
        concurrency=2,
        providers=(provider,),
    )
    with pytest.raises(KeyError, match="handler"):
        await mediator.send(Join())


def test_a_concurrency_below_one_is_refused() -> None:
    """G3: EventDispatcher(concurrency=0) is refused with the value."""
    with pytest.raises(BindingError, match="concurrency=0"):
        EventDispatcher(EventMap(), DishkaContainer(), concurrency=0)


async def test_dispatch_by_hand_answers_the_follow_ups() -> None:
    """Section 2: EventDispatcher.dispatch runs the handlers and answers what they raised, or None."""
    events = EventMap()
    events.bind(Joined, raising(Greeted("a")))
    events.bind(Joined, raising(Greeted("b")))
    dispatcher = EventDispatcher(events, DishkaContainer())
    assert await dispatcher.dispatch(Joined()) == [Greeted("a"), Greeted("b")]
    assert await dispatcher.dispatch(Greeted()) is None
