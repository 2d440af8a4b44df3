"""Batches: several messages in one transaction, with the same effects as one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from headrace.consumer.clashes import FIRST_BATCHES, Clashes
from headrace.consumer.window import Window
from headrace.errors import ConfigurationError, StorageBusy
from headrace.limits import Limits
from headrace.storage import State, group_queue
from headrace.subscriptions import Subscription
from headrace.telemetry import Count
from tests.unit.flow import FAST, SOON, Clock, Setting, message, until

QUEUE = group_queue("g", "t")
ONCE = replace(SOON, attempts=1)


@pytest.fixture
async def one() -> AsyncIterator[Setting]:
    async with Setting() as setting:
        yield setting


async def test_messages_share_transactions_up_to_the_batch(one: Setting) -> None:
    """As many messages as the batch allows are committed together, in order, each handled once (G7, G8)."""
    await one.broker.publish([message(n, f"key {n % 3}") for n in range(25)])
    await one.consumer(batch=10).start()
    await until(lambda: len(one.handlers.done) == 25)
    assert [len(batch) for batch in one.handlers.batches] == [10, 10, 5]
    assert one.handlers.begun == list(range(25))
    assert one.telemetry.counts[Count.CONSUMED] == 25
    assert one.telemetry.counts[Count.BATCH_SPLIT] == 0


async def test_a_message_has_a_transaction_of_its_own_unless_asked(one: Setting) -> None:
    """Without the setting no message shares a transaction."""
    await one.broker.publish([message(n) for n in range(3)])
    await one.consumer().start()
    await until(lambda: len(one.handlers.done) == 3)
    assert one.handlers.batches == [[0], [1], [2]]


async def test_the_position_is_committed_with_the_batch(one: Setting) -> None:
    """After a restart the group goes on behind the last message of the last batch (G8)."""
    await one.broker.publish([message(n) for n in range(3)])
    first = one.consumer(batch=10)
    await first.start()
    await until(lambda: len(one.handlers.done) == 3)
    await first.stop()
    await one.broker.publish([message(3)])
    await one.consumer(owner="two", batch=10).start()
    await until(lambda: 3 in one.handlers.done)
    assert one.handlers.begun == [0, 1, 2, 3]


async def test_a_repeat_has_no_second_effect(one: Setting) -> None:
    """A message is handled once, whether it repeats one of its own batch or one handled before (G7)."""
    first, second = message(1), message(2)
    await one.broker.publish([first])
    await one.consumer(batch=10).start()
    await until(lambda: one.handlers.done == [1])
    await one.broker.publish([first, second, second, message(3)])
    await until(lambda: len(one.handlers.done) == 3)
    assert one.handlers.begun == [1, 2, 3]
    assert one.telemetry.counts[Count.DUPLICATE] == 2
    assert one.telemetry.counts[Count.CONSUMED] == 3


async def test_one_that_fails_has_the_others_handled_once(one: Setting) -> None:
    """When a message of a batch fails, nothing of the batch is kept, and each goes its own way (G7, G9)."""
    one.handlers.failing = {2}
    await one.broker.publish([message(n, f"key {n}") for n in range(5)])
    await one.consumer(batch=10, retry=ONCE).start()
    await until(lambda: len(one.handlers.done) == 4)
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)))
    assert one.handlers.begun == [0, 1, 2, 0, 1, 2, 3, 4]
    assert one.handlers.batches == [[0], [1], [3], [4]]
    (dead,) = one.storage.rows(QUEUE)
    assert (dead.attempts, dead.failure and dead.failure.message) == (1, "2 does not work")
    counts = one.telemetry.counts
    assert (counts[Count.CONSUMED], counts[Count.DEAD], counts[Count.BATCH_SPLIT]) == (4, 1, 1)


async def test_a_failing_batch_is_told(one: Setting, caplog: pytest.LogCaptureFixture) -> None:
    """That a batch is handled again, and why, is logged (G13)."""
    caplog.set_level("INFO", logger="headrace")
    one.handlers.failing = {1}
    await one.broker.publish([message(0, "a"), message(1, "b")])
    await one.consumer(batch=10, retry=ONCE).start()
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)))
    (told,) = [r.getMessage() for r in caplog.records if "batch" in r.getMessage()]
    assert "A batch of 2 messages" in told
    assert "ValueError: 1 does not work" in told
    assert "one by one" in told


async def test_after_a_failure_batches_go_on(one: Setting) -> None:
    """Only the messages of the batch that failed are handled one by one (G9)."""
    one.handlers.failing = {1}
    await one.broker.publish([message(n, f"key {n}") for n in range(10)])
    await one.consumer(batch=4, retry=ONCE).start()
    await until(lambda: len(one.handlers.done) == 9)
    assert one.handlers.batches == [[0], [2], [3], [4, 5, 6, 7], [8, 9]]


async def test_later_ones_of_a_failing_key_wait(one: Setting) -> None:
    """Later messages of a key that fails wait behind it, also in later batches, and run in order (G8, G9)."""
    one.handlers.failing = {1}
    keys = ["a", "b", "a", "b", "a", "b"]
    await one.broker.publish([message(n, key) for n, key in enumerate(keys)])
    consumer = one.consumer(batch=3, retry=ONCE)
    await consumer.start()
    await until(lambda: len(one.storage.rows(QUEUE)) == 3 and len(one.handlers.done) == 3)
    assert one.handlers.keys == {"a": [0, 2, 4]}
    assert one.telemetry.counts[Count.HELD] == 2
    one.handlers.failing.clear()
    await one.storage.redrive([row.position for row in one.storage.rows(QUEUE, State.DEAD)])
    consumer.wake()
    await until(lambda: len(one.handlers.done) == 6)
    assert one.handlers.keys["b"] == [1, 3, 5]


async def test_held_messages_of_a_batch_are_parked(one: Setting) -> None:
    """Messages behind a dead letter are stored with the batch in which the others are handled (G9)."""
    one.handlers.failing = {0}
    await one.broker.publish([message(0, "stuck")])
    await one.consumer(batch=10, retry=ONCE).start()
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)))
    await one.broker.publish([message(n, "stuck" if n % 2 else "free") for n in range(1, 6)])
    await until(lambda: len(one.handlers.done) == 2)
    assert one.handlers.batches == [[2, 4]]
    assert len(one.storage.rows(QUEUE, State.HELD)) == 3
    assert one.telemetry.counts[Count.HELD] == 3


async def test_a_message_that_hangs_times_out_alone(one: Setting) -> None:
    """A message that takes too long is an attempt of its own only; the others are handled once (G9)."""

    async def hang(n: int) -> None:
        if n == 1:
            await asyncio.Event().wait()

    one.handlers.script = hang
    await one.broker.publish([message(n, f"key {n}") for n in range(3)])
    await one.consumer(batch=10, timeout_seconds=0.05, retry=ONCE).start()
    await until(lambda: len(one.handlers.done) == 2)
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)))
    assert one.handlers.done == [0, 2]
    (dead,) = one.storage.rows(QUEUE)
    assert dead.failure is not None
    assert dead.failure.error == "headrace.errors.HandlerTimeout"


async def test_each_message_of_a_batch_has_the_whole_time(one: Setting) -> None:
    """The time limit is for one message: a batch of many quick ones may take longer together (G9)."""

    async def work(_: int) -> None:
        await asyncio.sleep(0.1)

    one.handlers.script = work
    await one.broker.publish([message(n) for n in range(5)])
    await one.consumer(batch=5, timeout_seconds=0.4).start()
    await until(lambda: len(one.handlers.done) == 5)
    assert one.handlers.batches == [[0, 1, 2, 3, 4]]


async def test_who_ignores_its_cancellation_is_late(one: Setting) -> None:
    """A handler that goes on after its time-out and returns has failed all the same (G9)."""

    async def stubborn(n: int) -> None:
        if n == 0:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return

    one.handlers.script = stubborn
    await one.broker.publish([message(n, f"key {n}") for n in range(3)])
    await one.consumer(batch=10, timeout_seconds=0.05, retry=ONCE).start()
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)) and len(one.handlers.done) == 2)
    assert one.handlers.done == [1, 2]
    (dead,) = one.storage.rows(QUEUE)
    assert dead.failure is not None
    assert "went on after its cancellation" in dead.failure.traceback


async def test_a_time_out_after_the_commit_repeats_nothing(one: Setting) -> None:
    """A time-out that strikes when the batch is committed is no failure, and the counts say so (G9)."""

    async def linger(n: int) -> None:
        if n == 0:
            await asyncio.Event().wait()

    one.handlers.after_commit = linger
    await one.broker.publish([message(n) for n in range(3)])
    await one.consumer(batch=10, timeout_seconds=0.05, retry=ONCE).start()
    await until(lambda: one.telemetry.counts[Count.CONSUMED] == 3)
    assert one.handlers.begun == [0, 1, 2]
    assert one.storage.rows(QUEUE) == []
    assert one.telemetry.counts[Count.DUPLICATE] == 0


async def test_a_body_that_does_not_fit_ends_the_batch_before_it(one: Setting) -> None:
    """A message that cannot be decoded is a dead letter, and splits no batch (G14)."""
    torn = message(2, "torn", data=b"{")
    await one.broker.publish([message(0), message(1), torn, message(3), message(4)])
    await one.consumer(batch=10).start()
    await until(lambda: len(one.handlers.done) == 4)
    assert one.handlers.batches == [[0, 1], [3, 4]]
    (dead,) = one.storage.rows(QUEUE, State.DEAD)
    assert dead.message.envelope.id == torn.envelope.id
    assert one.telemetry.counts[Count.BATCH_SPLIT] == 0


async def test_strange_types_are_skipped_between_batches(one: Setting) -> None:
    """A type that the group never bound ends a batch and is passed over (G14)."""
    strange = message(2, type_="strange.v1")
    await one.broker.publish([message(0), message(1), strange, message(3), message(4)])
    await one.consumer(batch=10).start()
    await until(lambda: len(one.handlers.done) == 4)
    assert one.handlers.batches == [[0, 1], [3, 4]]
    assert one.telemetry.counts[Count.SKIPPED] == 1


async def test_a_conflict_halves_the_batch(one: Setting) -> None:
    """After deadlocks fewer messages are tried together, then more again; no attempt is counted (G7, G9)."""
    conflicts = 3

    async def conflict(n: int) -> None:
        nonlocal conflicts
        if n == 1 and conflicts:
            conflicts -= 1
            raise StorageBusy("a deadlock")

    one.handlers.script = conflict
    await one.broker.publish([message(n) for n in range(14)])
    await one.consumer(batch=8, retry=ONCE).start()
    await until(lambda: len(one.handlers.done) == 14)
    assert [len(batch) for batch in one.handlers.batches] == [2, 4, 8]
    counts = one.telemetry.counts
    assert counts[Count.DEAD] == counts[Count.RETRIED] == counts[Count.BATCH_SPLIT] == 0
    assert counts[Count.CLASHED] == 3
    assert counts[Count.CONSUMER_PAUSED] == 0


async def test_batches_that_clash_take_turns() -> None:
    """After a deadlock the batches of all partitions run one after the other, until nothing has clashed for long (G7)."""
    running, most, clashed = 0, 0, False

    async def overlap(n: int) -> None:
        nonlocal running, most, clashed
        running += 1
        # Those that were under way when it happened end side by side.
        most = max(most, running if len(one.handlers.done) >= 20 else 0)
        await asyncio.sleep(0)
        running -= 1
        if not clashed:
            clashed = True
            raise StorageBusy("a deadlock")

    async with Setting(partitions=4) as one:
        one.handlers.script = overlap
        await one.broker.publish([message(n, f"k{n}") for n in range(60)])
        await one.consumer(batch=5, retry=ONCE).start()
        await until(lambda: len(one.handlers.done) == 60)
        assert one.telemetry.counts[Count.CLASHED] == 1
        assert most == 1
        assert max(len(batch) for batch in one.handlers.batches) == 5


async def test_turns_end_after_a_while() -> None:
    """Turns are taken for a number of batches that doubles with each clash, then all run side by side again (G7)."""
    clashes = Clashes()
    for expected in (FIRST_BATCHES, 2 * FIRST_BATCHES):
        assert not clashes.expected
        await clashes.happened()
        await clashes.happened()
        for _ in range(expected):
            assert clashes.expected
            async with clashes.avoided():
                pass
    assert not clashes.expected


async def test_a_batch_that_conflicts_for_ever_ends_as_single_messages(one: Setting) -> None:
    """Halving goes down to one message, so what conflicts only together is handled (G7)."""

    async def conflict(n: int) -> None:
        if n == 1 and one.handlers.begun[-2] == 0:
            raise StorageBusy("a deadlock of the two")

    one.handlers.script = conflict
    await one.broker.publish([message(n) for n in range(2)])
    await one.consumer(batch=2, retry=ONCE).start()
    await until(lambda: one.handlers.batches[:1] == [[0]])
    one.handlers.script = None
    await until(lambda: one.handlers.done == [0, 1])


async def test_a_batch_that_is_cut_leaves_nothing(one: Setting) -> None:
    """What a stop cuts in the middle of a batch is rolled back, all of it, and redelivered (G7, G10)."""
    entered = asyncio.Event()

    async def hang(n: int) -> None:
        if n == 2:
            entered.set()
            await asyncio.Event().wait()

    one.handlers.script = hang
    await one.broker.publish([message(n) for n in range(4)])
    consumer = one.consumer(batch=10, limits=Limits(poll_seconds=0.02, drain_seconds=0.02))
    await consumer.start()
    await entered.wait()
    await consumer.stop()
    assert one.handlers.done == []
    assert dict(one.database.inbox) == {}
    assert await one.storage.positions(QUEUE) == {}
    one.handlers.script = None
    await one.consumer(owner="two", batch=10, retry=ONCE).start()
    await until(lambda: len(one.handlers.done) == 4)
    assert one.handlers.batches == [[0, 1, 2, 3]]


async def test_a_lost_lease_rolls_the_batch_back() -> None:
    """An owner that hung past its lease commits nothing of its batch (G7)."""
    clock = Clock()
    async with Setting(clock=clock) as one:
        entered, go = asyncio.Event(), asyncio.Event()

        async def hang(n: int) -> None:
            if n == 1:
                entered.set()
                await go.wait()

        one.handlers.script = hang
        await one.broker.publish([message(n) for n in range(3)])
        await one.consumer(owner="hung", batch=10).start()
        await entered.wait()
        clock.at += 16.0
        one.database.leases.lease(
            QUEUE, "next", partitions=1, seconds=15, now=clock.at, deadline=clock.at + 15
        )
        go.set()
        await until(lambda: one.telemetry.counts[Count.LEASE_LOST] >= 1)
        await until(lambda: one.handlers.running == 0)
        assert one.handlers.done == []
        assert one.telemetry.counts[Count.BATCH_SPLIT] == 0


async def test_after_a_death_each_message_of_the_batch_is_tried_alone() -> None:
    """The process may have died of any message of its batch, so as many are tried with a counted attempt (G9)."""
    clock = Clock()
    async with Setting(clock=clock) as one:
        one.database.leases.lease(
            QUEUE, "dead", partitions=1, seconds=15, now=clock.at, deadline=clock.at + 15
        )
        clock.at += 16.0
        attempts: dict[int, list[int]] = {}

        async def look(n: int) -> None:
            attempts[n] = [
                row.attempts for row in one.storage.rows(QUEUE) if b"%d" % n in row.message.data
            ]

        one.handlers.script = look
        await one.broker.publish([message(n, f"key {n}") for n in range(6)])
        await one.consumer(owner="heir", batch=3).start()
        await until(lambda: len(one.handlers.done) == 6)
        assert attempts == {0: [1], 1: [1], 2: [1], 3: [], 4: [], 5: []}
        assert [3, 4, 5] in one.handlers.batches


async def test_the_window_holds_a_batch_for_each_partition() -> None:
    """A batch larger than the window is filled all the same, in each partition (G11)."""
    async with Setting(partitions=2) as one:
        await one.broker.publish([message(n, f"key {n}") for n in range(60)])
        await one.consumer(batch=10, limits=replace(FAST, window=4)).start()
        await until(lambda: len(one.handlers.done) == 60)
        assert max(len(batch) for batch in one.handlers.batches) == 10
        assert max(one.broker.reads) <= 20


def test_a_window_keeps_the_least_for_each() -> None:
    """However small the window, each partition has its least places, and no more (G11)."""
    window = Window(4, dict.fromkeys(range(3), 0), least=10)
    assert [sum(window.take(p) for _ in range(100)) for p in range(3)] == [10, 10, 10]


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_is_at_least_one(batch: int) -> None:
    """A batch of no messages would stand still."""
    with pytest.raises(ConfigurationError, match=r"batch=.*at least 1"):
        Subscription(batch=batch)
