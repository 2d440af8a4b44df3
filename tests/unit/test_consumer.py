"""Consumers: once per group, in order per key, in the way of nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from headrace.drivers.memory.topic import TopicLog
from headrace.errors import StorageBusy
from headrace.limits import Limits
from headrace.storage import State, group_queue
from headrace.telemetry import Count
from tests.unit.flow import FAST, SOON, TYPE, Clock, Setting, message, until

QUEUE = group_queue("g", "t")


@pytest.fixture
async def one() -> AsyncIterator[Setting]:
    async with Setting() as setting:
        yield setting


async def test_messages_are_handled_once_in_order(one: Setting) -> None:
    """A new group starts at the earliest message and handles each one, in order (G8, G9)."""
    await one.broker.publish([message(n) for n in range(5)])
    await one.consumer().start()
    await until(lambda: len(one.handlers.done) == 5)
    await one.broker.publish([message(5)])
    await until(lambda: len(one.handlers.done) == 6)
    assert one.handlers.done == [0, 1, 2, 3, 4, 5]
    assert one.telemetry.counts[Count.CONSUMED] == 6


async def test_a_duplicate_has_no_second_effect(one: Setting) -> None:
    """A message that was published twice is handled once and counted (G7)."""
    twice = message(1)
    await one.broker.publish([twice, twice, message(2)])
    await one.consumer().start()
    await until(lambda: 2 in one.handlers.done)
    assert one.handlers.done == [1, 2]
    assert one.telemetry.counts[Count.DUPLICATE] == 1


async def test_the_position_is_committed_with_the_effects(one: Setting) -> None:
    """After a restart the group goes on behind the last message that it finished (G8)."""
    await one.broker.publish([message(1)])
    first = one.consumer()
    await first.start()
    await until(lambda: one.handlers.done == [1])
    await first.stop()
    await one.broker.publish([message(2)])
    await one.consumer(owner="two").start()
    await until(lambda: one.handlers.done == [1, 2])
    assert one.handlers.begun == [1, 2]


async def test_a_failing_message_is_retried_until_it_works(one: Setting) -> None:
    """A failing message is tried again, and later ones of its key wait behind it in order (G8, G9)."""
    one.handlers.failing = {1}
    await one.broker.publish([message(1), message(2), message(3, "other"), message(4)])
    await one.consumer(retry=replace(SOON, attempts=1000)).start()
    await until(lambda: one.handlers.begun.count(1) >= 2 and 3 in one.handlers.done)
    assert one.handlers.done == [3]
    one.handlers.failing.clear()
    await until(lambda: len(one.handlers.done) == 4)
    assert one.handlers.keys["k"] == [1, 2, 4]
    assert one.telemetry.counts[Count.HELD] == 2
    assert one.telemetry.counts[Count.RETRIED] >= 2


async def test_a_message_that_keeps_failing_is_a_dead_letter(one: Setting) -> None:
    """After its attempts a message is a dead letter with its error; its key is held, other keys flow (G9)."""
    one.handlers.failing = {1}
    await one.broker.publish([message(1), message(2), message(3, "other")])
    await one.consumer().start()
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)) and 3 in one.handlers.done)
    (dead,) = one.storage.rows(QUEUE, State.DEAD)
    assert dead.attempts == SOON.attempts == one.handlers.begun.count(1)
    assert dead.failure is not None
    assert dead.failure.error == "ValueError"
    assert "1 does not work" in dead.failure.message
    assert "_handle" in dead.failure.traceback
    assert [row.state for row in one.storage.rows(QUEUE)] == [State.DEAD, State.HELD]
    assert one.telemetry.counts[Count.DEAD] == 1


async def test_a_redrive_releases_a_key_in_order(one: Setting) -> None:
    """After a redrive run the dead message, then what was held behind it, then new arrivals (G9)."""
    one.handlers.failing = {1}
    await one.broker.publish([message(1), message(2), message(3)])
    consumer = one.consumer(retry=replace(SOON, attempts=1))
    await consumer.start()
    await until(lambda: len(one.storage.rows(QUEUE)) == 3)
    one.handlers.failing.clear()
    await one.storage.redrive([row.position for row in one.storage.rows(QUEUE, State.DEAD)])
    await one.broker.publish([message(4)])
    consumer.wake()
    await until(lambda: len(one.handlers.done) == 4)
    assert one.handlers.done == [1, 2, 3, 4]
    assert one.storage.rows(QUEUE) == []


async def test_dropping_a_dead_letter_releases_the_rest(one: Setting) -> None:
    """What was held behind a dropped message runs, also when no hint comes (G9)."""
    one.handlers.failing = {1}
    await one.broker.publish([message(1), message(2)])
    await one.consumer(retry=replace(SOON, attempts=1)).start()
    await until(lambda: len(one.storage.rows(QUEUE)) == 2)
    await one.storage.drop([row.position for row in one.storage.rows(QUEUE, State.DEAD)])
    await until(lambda: one.handlers.done == [2])


async def test_keyless_messages_hold_nothing(one: Setting) -> None:
    """A failing message without a key is retried alone (G9)."""
    one.handlers.failing = {1}
    await one.broker.publish([message(1, None), message(2, None)])
    await one.consumer(retry=replace(SOON, attempts=1)).start()
    await until(lambda: one.handlers.done == [2] and bool(one.storage.rows(QUEUE, State.DEAD)))
    assert one.telemetry.counts[Count.HELD] == 0


async def test_an_unordered_subscription_holds_nothing(one: Setting) -> None:
    """With ordered=False later messages of a failing key pass it, and handlers still see the key (G8)."""
    one.handlers.failing = {1}
    await one.broker.publish([message(1), message(2), message(3)])
    await one.consumer(ordered=False, retry=replace(SOON, attempts=100)).start()
    await until(lambda: one.handlers.done == [2, 3])
    one.handlers.failing.clear()
    await until(lambda: one.handlers.done == [2, 3, 1])
    assert one.handlers.keys == {"k": [2, 3, 1]}


async def test_a_body_that_cannot_be_decoded_is_a_dead_letter_at_once(one: Setting) -> None:
    """A bound type whose body does not fit is dead without a try, and the partition flows on (G14)."""
    await one.broker.publish([message(1, data=b"{"), message(2, "other")])
    await one.consumer().start()
    await until(lambda: one.handlers.done == [2])
    (dead,) = one.storage.rows(QUEUE, State.DEAD)
    assert dead.attempts == 0
    assert dead.failure is not None
    assert dead.failure.error == "headrace.errors.DecodeError"


async def test_types_that_the_group_never_bound_are_skipped(one: Setting) -> None:
    """Types without a handler in the group are passed over, counted, and the position is kept (G14)."""
    strange = [message(n, type_="test.strange.v1") for n in range(3)]
    await one.broker.publish([*strange, message(3), *[message(4, type_="test.strange.v1")]])
    await one.consumer().start()
    await until(lambda: one.telemetry.counts[Count.SKIPPED] == 4)
    assert one.handlers.done == [3]
    positions = await one.storage.positions(QUEUE)
    assert await one.broker.backlog("g", "t", dict(positions)) == 0


async def test_a_type_of_a_newer_process_waits_for_it(one: Setting) -> None:
    """A type that the group knows and this process does not waits, with its key, and no attempt is counted (G14)."""
    old = one.consumer()
    await old.start()
    await one.storage.learn_types("g", ["test.newer.v1"])
    await one.broker.publish([message(1, type_="test.newer.v1"), message(2), message(3, "other")])
    await until(lambda: one.handlers.done == [3])
    waiting, held = one.storage.rows(QUEUE)
    assert (waiting.state, waiting.attempts, held.state) == (State.WAITING, 0, State.HELD)
    assert waiting.failure is not None
    assert "test.newer.v1" in waiting.failure.message
    assert one.telemetry.counts[Count.SKIPPED] == 0


async def test_a_waiting_type_runs_where_it_is_known() -> None:
    """The process that knows the type runs what waited for it, in order (G14)."""
    clock = Clock()
    async with Setting(clock=clock) as one:
        old = one.consumer(types={})
        await one.storage.learn_types("g", [TYPE])
        await one.broker.publish([message(1), message(2)])
        await old.start()
        await until(lambda: len(one.storage.rows(QUEUE)) == 2)
        await old.stop()
        clock.at += 6.0
        await one.consumer(owner="two").start()
        await until(lambda: one.handlers.done == [1, 2])


async def test_a_handler_that_hangs_counts_as_a_failure(one: Setting) -> None:
    """A handler beyond its time-out is cancelled, rolled back and counted as an attempt (G9)."""

    async def hang(n: int) -> None:
        if n == 1:
            await asyncio.Event().wait()

    one.handlers.script = hang
    await one.broker.publish([message(1), message(2, "other")])
    await one.consumer(timeout_seconds=0.02, retry=replace(SOON, attempts=2)).start()
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)))
    (dead,) = one.storage.rows(QUEUE)
    assert dead.failure is not None
    assert dead.failure.error == "headrace.errors.HandlerTimeout"
    assert dead.attempts == 2
    assert one.handlers.done == [2]


async def test_a_handler_that_ends_as_cancelled_counts_as_a_failure(one: Setting) -> None:
    """What a handler awaits may be cancelled elsewhere: that is an attempt, and no reason to repeat it for ever (G9)."""

    async def await_what_was_cancelled(n: int) -> None:
        if n == 1:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    one.handlers.script = await_what_was_cancelled
    await one.broker.publish([message(1), message(2, "other")])
    await one.consumer(retry=replace(SOON, attempts=2)).start()
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)))
    (dead,) = one.storage.rows(QUEUE)
    assert dead.failure is not None
    assert dead.failure.error == "headrace.errors.HandlerCancelled"
    assert dead.attempts == 2
    assert one.handlers.done == [2]


async def test_a_handler_that_cancels_its_own_task_pauses_its_partition_visibly(
    one: Setting,
) -> None:
    """Nobody can tell it from a stop, so it counts no attempt; it is told, and tried again at growing intervals (G13)."""
    runs = 0

    async def cancel(n: int) -> None:
        nonlocal runs
        runs += 1
        task = asyncio.current_task()
        if task is not None and runs == 1:
            task.cancel()
            await asyncio.Event().wait()

    one.handlers.script = cancel
    await one.broker.publish([message(1)])
    consumer = one.consumer()
    await consumer.start()
    await until(lambda: runs == 1 and consumer.status.last_error is not None)
    await until(lambda: one.handlers.done == [1])
    assert not one.storage.rows(QUEUE)


async def test_a_time_out_after_the_commit_does_not_count(one: Setting) -> None:
    """A time-out that strikes when the commit has succeeded is no failure, fresh or retried (G9)."""

    async def linger(n: int) -> None:
        await asyncio.Event().wait()

    one.handlers.after_commit = linger
    one.handlers.failing = {2}
    await one.broker.publish([message(1), message(2)])
    await one.consumer(timeout_seconds=0.05, retry=replace(SOON, attempts=100)).start()
    await until(lambda: one.handlers.begun.count(2) >= 1)
    one.handlers.failing.clear()
    await until(lambda: one.telemetry.counts[Count.CONSUMED] == 2)
    assert one.handlers.done == [1, 2]
    assert one.storage.rows(QUEUE) == []
    assert one.telemetry.counts[Count.DEAD] == 0


async def test_an_outage_of_the_storage_counts_no_attempt(
    one: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    """While the storage is away the partition pauses, counted and logged once; no attempt is burnt (G9, G13)."""
    busy = 3

    async def fail_at_first(n: int) -> None:
        nonlocal busy
        if n == 1 and busy:
            busy -= 1
            raise StorageBusy("a lock")

    one.handlers.script = fail_at_first
    await one.broker.publish([message(1), message(2)])
    await one.consumer(retry=replace(SOON, attempts=1)).start()
    await until(lambda: one.handlers.done == [1, 2])
    assert one.telemetry.counts[Count.CONSUMER_PAUSED] == 1
    assert one.telemetry.counts[Count.RETRIED] == one.telemetry.counts[Count.DEAD] == 0
    assert sum("is paused by StorageBusy" in r.getMessage() for r in caplog.records) == 1
    assert one.storage.rows(QUEUE) == []


async def test_an_outage_in_a_retry_counts_no_attempt(one: Setting) -> None:
    """A parked message whose attempt was cut by the storage has no attempt less afterwards (G9)."""
    tries = 0

    async def script(n: int) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("once")
        if tries in (2, 3):
            raise StorageBusy("a lock")

    one.handlers.script = script
    one.storage.faults["attempt"] = 1
    await one.broker.publish([message(1)])
    await one.consumer(retry=replace(SOON, attempts=2)).start()
    await until(lambda: one.handlers.done == [1])
    assert one.telemetry.counts[Count.DEAD] == 0


async def test_parked_messages_run_while_the_broker_is_away(one: Setting) -> None:
    """Retries need no broker; what needs it goes on when it is back (G9)."""
    one.handlers.failing = {1}
    await one.broker.publish([message(1)])
    await one.consumer(retry=replace(SOON, attempts=10_000)).start()
    await until(lambda: len(one.handlers.begun) >= 2)
    one.broker.down = True
    await until(lambda: one.telemetry.counts[Count.CONSUMER_PAUSED] == 1)
    one.handlers.failing.clear()
    await until(lambda: one.handlers.done == [1])
    one.broker.down = False
    await one.broker.publish([message(2)])
    await until(lambda: one.handlers.done == [1, 2])


async def test_stopping_lets_the_running_handler_finish(one: Setting) -> None:
    """A stop waits for what runs, begins nothing more, and gives the partitions back (G10)."""
    entered, go = asyncio.Event(), asyncio.Event()

    async def wait(_: int) -> None:
        entered.set()
        await go.wait()

    one.handlers.script = wait
    await one.broker.publish([message(1), message(2)])
    consumer = one.consumer()
    await consumer.start()
    await entered.wait()
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.sleep(0)
    go.set()
    await stopping
    assert one.handlers.done == [1]
    grant = await one.storage.lease(QUEUE, "next", partitions=1, seconds=15)
    assert [lease.unclean for lease in grant.held] == [False]


async def test_a_drain_that_takes_too_long_is_cut_and_redelivered(one: Setting) -> None:
    """What does not end within the drain is cancelled, rolled back and run again, without an attempt (G10)."""
    entered = asyncio.Event()

    async def hang(_: int) -> None:
        entered.set()
        await asyncio.Event().wait()

    one.handlers.script = hang
    await one.broker.publish([message(1)])
    limits = Limits(poll_seconds=0.02, drain_seconds=0.02)
    consumer = one.consumer(limits=limits, retry=replace(SOON, attempts=1))
    await consumer.start()
    await entered.wait()
    await consumer.stop()
    assert (one.handlers.done, one.handlers.running) == ([], 0)
    one.handlers.script = None
    await one.consumer(owner="two", retry=replace(SOON, attempts=1)).start()
    await until(lambda: one.handlers.done == [1])


async def test_a_retry_that_is_cut_by_the_stop_keeps_its_attempts(one: Setting) -> None:
    """The attempt of a parked message that a stop cancels is given back (G9, G10)."""
    entered = asyncio.Event()

    async def script(_: int) -> None:
        if len(one.handlers.begun) == 1:
            raise ValueError("once")
        entered.set()
        await asyncio.Event().wait()

    one.handlers.script = script
    await one.broker.publish([message(1)])
    consumer = one.consumer(limits=Limits(poll_seconds=0.02, drain_seconds=0.02))
    await consumer.start()
    await entered.wait()
    assert [row.attempts for row in one.storage.rows(QUEUE)] == [2]
    await consumer.stop()
    assert [row.attempts for row in one.storage.rows(QUEUE)] == [1]


async def test_a_message_that_kills_its_process_becomes_a_dead_letter() -> None:
    """After an unclean takeover attempts are counted beforehand; beyond the limit the process died (G9)."""
    clock = Clock()
    async with Setting(clock=clock) as one:
        await one.broker.publish([message(1), message(2, "other")])
        died = asyncio.Event()

        async def die(n: int) -> None:
            if n == 1:
                died.set()
                await asyncio.Event().wait()

        one.handlers.script = die
        deaths = 0
        while not one.storage.rows(QUEUE, State.DEAD):
            died.clear()
            consumer = one.consumer(owner=f"process {deaths}")
            await consumer.start()
            await until(lambda: died.is_set() or bool(one.storage.rows(QUEUE, State.DEAD)))
            if died.is_set():
                deaths += 1
                await kill(one, consumer)
                clock.at += 16.0
        (dead,) = one.storage.rows(QUEUE)
        # Once fresh, then each of its attempts.
        assert deaths == 1 + SOON.attempts
        assert dead.failure is not None
        assert dead.failure.error == "headrace.errors.ProcessDied"
        assert "rocess died" in dead.failure.message
        await until(lambda: one.handlers.done == [2])


async def kill(one: Setting, consumer: object) -> None:
    """End a consumer as a dying process does: nothing is released, nothing is written."""
    one.storage.down = True
    repark, one.storage.repark = one.storage.repark, gone  # type: ignore[method-assign]
    release, one.storage.release = one.storage.release, gone  # type: ignore[method-assign]
    one.consumers.remove(consumer)  # type: ignore[arg-type]
    consumer._limits = Limits(drain_seconds=0)  # type: ignore[attr-defined]
    await consumer.stop()  # type: ignore[attr-defined]
    one.storage.repark, one.storage.release = repark, release  # type: ignore[method-assign]
    one.storage.down = False


async def gone(*_: object, **__: object) -> None:
    from headrace.errors import StorageUnavailable

    raise StorageUnavailable("the process is dead")


async def test_partitions_go_side_by_side_up_to_the_concurrency() -> None:
    """Different partitions are handled at once, never more than `concurrency`, one at a time in each (G8, G11)."""
    async with Setting(partitions=4) as one:
        go = asyncio.Event()

        async def wait(_: int) -> None:
            await go.wait()

        one.handlers.script = wait
        await one.broker.publish([message(n, f"key {n}") for n in range(40)])
        await one.consumer(concurrency=3).start()
        await until(lambda: one.handlers.running == 3)
        go.set()
        await until(lambda: len(one.handlers.done) == 40)
        assert one.handlers.most == 3


async def test_memory_is_bounded_by_the_window() -> None:
    """However long the backlog, no more messages are in memory than the window has places (G11)."""
    async with Setting(partitions=4) as one:
        most = 0
        consumer = one.consumer(limits=replace(FAST, window=16))

        async def look(_: int) -> None:
            nonlocal most
            await asyncio.sleep(0)
            most = max(most, consumer.status.in_memory)

        one.handlers.script = look
        await one.broker.publish([message(n, f"key {n % 50}") for n in range(500)])
        await consumer.start()
        await until(lambda: len(one.handlers.done) == 500)
        assert 8 < most <= 16
        assert max(one.broker.reads) <= 16


async def test_a_slow_partition_does_not_starve_the_others() -> None:
    """While one partition stands still with a full share of the window, the others are read (G9, G11)."""
    async with Setting(partitions=4) as one:
        go = asyncio.Event()

        async def wait(n: int) -> None:
            if n < 100:
                await go.wait()

        one.handlers.script = wait
        await one.broker.publish([message(n, "slow") for n in range(100)])
        consumer = one.consumer(limits=replace(FAST, window=16))
        await consumer.start()
        await until(lambda: one.handlers.running == 1)
        keys = [f"key {n}" for n in range(30)]
        await one.broker.publish([message(100 + n, key) for n, key in enumerate(keys)])
        free = [100 + n for n, key in enumerate(keys) if not shares_partition(key, "slow")]
        assert free
        await until(lambda: set(free) <= set(one.handlers.done))
        go.set()


def shares_partition(key: str, other: str) -> bool:
    from headrace.broker import stable_hash

    return stable_hash(key) % 4 == stable_hash(other) % 4


async def test_two_owners_share_the_partitions_and_keep_order() -> None:
    """When a consumer joins and another leaves each key stays in order and nothing is done twice (G7, G8)."""
    async with Setting(partitions=4) as one:
        limits = replace(FAST, lease_seconds=0.3)
        first = one.consumer(owner="one", limits=limits)
        second = one.consumer(owner="two", limits=limits)

        async def step(_: int) -> None:
            await asyncio.sleep(0.0005)

        one.handlers.script = step
        messages = [message(n, f"key {n % 10}") for n in range(300)]
        await one.broker.publish(messages[:100])
        await first.start()
        await until(lambda: len(one.handlers.done) > 20)
        await second.start()
        await one.broker.publish(messages[100:200])
        await until(
            lambda: len(first.status.partitions["t"]) == len(second.status.partitions["t"]) == 2
        )
        await one.broker.publish(messages[200:])
        await first.stop()
        await until(lambda: len(one.handlers.done) == 300)
        for key, numbers in one.handlers.keys.items():
            assert numbers == [n for n in range(300) if f"key {n % 10}" == key]


async def test_a_lost_lease_rolls_back_what_is_under_way() -> None:
    """An owner that hung past its lease commits nothing; its successor does the work once (G7)."""
    clock = Clock()
    async with Setting(clock=clock) as one:
        entered, go = asyncio.Event(), asyncio.Event()

        async def hang(_: int) -> None:
            entered.set()
            await go.wait()

        one.handlers.script = hang
        await one.broker.publish([message(1)])
        await one.consumer(owner="hung").start()
        await entered.wait()
        clock.at += 16.0
        # As another process on the same database: the lock that the hung one holds has been broken there.
        one.database.leases.lease(
            QUEUE, "next", partitions=1, seconds=15, now=clock.at, deadline=clock.at + 15
        )
        go.set()
        await until(lambda: one.telemetry.counts[Count.LEASE_LOST] >= 1)
        await until(lambda: one.handlers.running == 0)
        assert one.handlers.done == []
        assert one.telemetry.counts[Count.DEAD] == one.telemetry.counts[Count.RETRIED] == 0


async def test_a_handler_whose_lease_is_lost_is_cancelled_while_all_else_goes_on() -> None:
    """While the handler of a lost partition ends, the loop is free for it and for everybody else (G7)."""
    clock = Clock()
    async with Setting(clock=clock) as one:
        entered, ended = asyncio.Event(), asyncio.Event()

        async def hang(_: int) -> None:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                for _turn in range(10):
                    await asyncio.sleep(0)
                ended.set()

        one.handlers.script = hang
        await one.broker.publish([message(1)])
        await one.consumer(owner="hung", limits=replace(FAST, lease_seconds=0.3)).start()
        await entered.wait()
        clock.at += 1.0
        one.database.leases.lease(
            QUEUE, "next", partitions=1, seconds=15, now=clock.at, deadline=clock.at + 15
        )
        await asyncio.wait_for(ended.wait(), 5)
        assert one.handlers.done == []


async def test_the_broker_learns_how_far_the_group_came(one: Setting) -> None:
    """A stop settles the last committed positions, so that the broker may forget (G11)."""
    settled: list[dict[int, str]] = []
    settle = one.broker.settle

    async def record(group: str, topic: str, positions: dict[int, str]) -> None:
        settled.append(dict(positions))
        await settle(group, topic, positions)

    one.broker.settle = record  # type: ignore[method-assign]
    await one.broker.publish([message(n) for n in range(3)])
    consumer = one.consumer()
    await consumer.start()
    await until(lambda: len(one.handlers.done) == 3)
    await consumer.stop()
    assert settled[-1] == dict(await one.storage.positions(QUEUE))


async def test_a_consumer_can_be_started_again(one: Setting) -> None:
    """A stopped consumer starts anew and goes on where it was."""
    consumer = one.consumer()
    await consumer.start()
    await one.broker.publish([message(1)])
    await until(lambda: one.handlers.done == [1])
    await consumer.stop()
    assert not consumer.status.running
    await one.broker.publish([message(2)])
    await consumer.start()
    await until(lambda: one.handlers.done == [1, 2])
    assert consumer.status.running
    assert consumer.status.partitions == {"t": (0,)}


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 2)])
async def test_a_deleted_topic_is_declared_again(
    before: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group whose topic was deleted makes it again, and works the partitions that it has then (G5, G13)."""
    monkeypatch.setattr("headrace.drivers.memory.broker.PARTITIONS", after)
    async with Setting(partitions=before) as setting:
        consumer = setting.consumer()
        await consumer.start()
        await setting.broker.publish([message(0)])
        await until(lambda: setting.handlers.done == [0])
        del setting.broker._topics["t"]
        await until(lambda: "t" in setting.broker._topics)
        # A log in memory that is made anew counts from where the first one did, unlike those of servers.
        setting.broker._topics["t"] = TopicLog("t", after, time.time_ns() // 1_000)
        keys = ["a", "b", "c", "d", "e", "f"]
        await setting.broker.publish([message(n, key) for n, key in enumerate(keys, 1)])
        await until(lambda: len(setting.handlers.done) == 7)
        assert sorted(setting.handlers.done) == list(range(7))
        assert consumer.status.partitions == {"t": tuple(range(after))}
        assert consumer.status.last_error is None
