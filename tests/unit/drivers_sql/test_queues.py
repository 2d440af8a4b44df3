"""Queues, leases and parked messages beyond what the conformance kit tries."""

from __future__ import annotations

import asyncio

import pytest

from headrace.drivers.sql import SqlStorage
from headrace.envelope import Message
from headrace.errors import LeaseLost
from headrace.storage import Failure, State, Stored, Verdict
from tests.unit.drivers_sql.steps import OUTBOX, message, one_lease, outbox_ids

GROUP = "group:g/orders"
BOOM = Failure("builtins.ValueError", "no", "Traceback")


async def test_an_expired_lease_is_taken_over_uncleanly(storage: SqlStorage, url: str) -> None:
    """A lease that ran out by the database's clock goes to another process, whose token fences the first one (G6, G7)."""
    other = SqlStorage(url)
    await other.start("app", partitions=4)
    first = await one_lease(storage, "a", seconds=0.05)
    grant = await other.lease(GROUP, "b", partitions=1, seconds=60)
    async with asyncio.timeout(5):
        while not grant.held:
            grant = await other.lease(GROUP, "b", partitions=1, seconds=60)
    (second,) = grant.held
    assert second.unclean
    assert second.token > first.token
    late = storage.transaction()
    with pytest.raises(LeaseLost, match="another process"):
        await late.admit(first, "g", [message()])
    await late.rollback()
    parking = storage.transaction()
    parking.park(first, message(), state=State.DEAD)
    with pytest.raises(LeaseLost):
        await parking.commit()
    assert await storage.dead_letters() == []
    await other.stop()


async def _enqueue(storage: SqlStorage, *messages: Message) -> None:
    transaction = storage.transaction()
    transaction.enqueue(messages)
    await transaction.commit()


async def _kill(storage: SqlStorage, row: Stored) -> None:
    """What the relay does with a message that the broker refuses for good."""
    grant = await storage.lease(OUTBOX, "a", partitions=4, seconds=60)
    lease = grant.held[row.partition]
    await storage.repark(lease, row, state=State.DEAD, failure=BOOM)


async def test_what_waits_behind_a_dead_letter_of_the_outbox_is_marked_once(
    storage: SqlStorage,
) -> None:
    """Rows behind a dead letter become HELD when they are met, and READY when it has gone, those added meanwhile too (G6)."""
    await _enqueue(storage, *(message(str(n)) for n in range(600)), message("x", "other"))
    (head,) = await storage.ready(OUTBOX, range(4), limit=1)
    await _kill(storage, head)
    assert await outbox_ids(storage) == ["x"]
    await _enqueue(storage, message("late"))
    assert await outbox_ids(storage) == ["x"]
    seen = await storage.backlog(OUTBOX)
    assert (seen.ready, seen.held, seen.dead) == (1, 600, 1)
    assert await storage.redrive([head.position]) == 1
    rows = await storage.ready(OUTBOX, range(4), limit=1000)
    sent = [row.message.envelope.id for row in rows if row.message.key != "other"]
    assert sent == [*map(str, range(600)), "late"]
    seen = await storage.backlog(OUTBOX)
    assert (seen.ready, seen.held, seen.dead) == (602, 0, 0)


async def test_a_second_dead_letter_keeps_what_is_behind_it(storage: SqlStorage) -> None:
    """Of two dead letters of one key, redriving or dropping the first releases what is between them, and no more (G6)."""
    await _enqueue(storage, *(message(str(n)) for n in range(6)))
    rows = await storage.ready(OUTBOX, range(4), limit=9)
    await _kill(storage, rows[3])
    await _kill(storage, rows[0])
    assert await outbox_ids(storage) == []
    assert await storage.drop([rows[0].position]) == 1
    assert await outbox_ids(storage) == ["1", "2"]
    assert await storage.redrive([rows[3].position]) == 1
    assert await outbox_ids(storage) == ["1", "2", "3", "4", "5"]


async def test_only_heads_run_however_many_are_held(storage: SqlStorage) -> None:
    """Held messages come one after another, each when the one before it was handled (G9)."""
    lease = await one_lease(storage)
    parking = storage.transaction()
    for number in range(5):
        parking.park(lease, message(str(number)), state=State.HELD if number else State.READY)
    parking.park(lease, message("x", "other"), state=State.HELD)
    parking.park(lease, message("y", None), state=State.HELD)
    await parking.commit()
    handled: list[str] = []
    while rows := await storage.runnable(GROUP, [0], limit=10):
        for row in rows:
            handling = storage.transaction()
            assert await handling.resume(lease, row)
            await handling.commit()
            handled.append(row.message.envelope.id)
    assert handled == ["0", "x", "y", "1", "2", "3", "4"]


async def test_an_outbox_message_held_back_by_a_dead_one_is_released_by_dropping_it(
    storage: SqlStorage,
) -> None:
    """Messages of a dead letter's key wait in the outbox, others go, and dropping it releases them (G6)."""
    transaction = storage.transaction()
    transaction.enqueue([message("1", "a"), message("2", "a"), message("3", "b")])
    await transaction.commit()
    lease = await one_lease(storage, queue=OUTBOX)
    rows = await storage.ready(OUTBOX, range(4), limit=10)
    await storage.repark(lease, rows[0], state=State.DEAD, failure=BOOM)
    left = await storage.ready(OUTBOX, range(4), limit=10)
    assert [row.message.envelope.id for row in left] == ["3"]
    (dead,) = await storage.dead_letters(queue=OUTBOX)
    assert (dead.failure, dead.state) == (BOOM, State.DEAD)
    await storage.drop([dead.position])
    left = await storage.ready(OUTBOX, range(4), limit=10)
    assert [row.message.envelope.id for row in left] == ["2", "3"]


async def test_a_message_resumed_and_dropped_meanwhile_is_not_committed(
    storage: SqlStorage,
) -> None:
    """A parked message runs once: the second resume finds it gone (G7)."""
    lease = await one_lease(storage)
    parking = storage.transaction()
    parking.park(lease, message(), state=State.READY)
    await parking.commit()
    (row,) = await storage.runnable(GROUP, [0], limit=1)
    first = storage.transaction()
    assert await first.resume(lease, row)
    await first.commit()
    second = storage.transaction()
    assert not await second.resume(lease, row)
    await second.rollback()


async def test_a_staged_park_is_seen_by_the_next_admit(storage: SqlStorage) -> None:
    """Within one transaction, a message behind one that was just parked is held (G8)."""
    lease = await one_lease(storage)
    transaction = storage.transaction()
    assert await transaction.admit(lease, "g", [message("1")]) == [Verdict.NEW]
    transaction.park(lease, message("1"), state=State.WAITING, delay_seconds=60)
    assert await transaction.admit(lease, "g", [message("2")]) == [Verdict.HELD]
    await transaction.rollback()


async def test_a_failure_is_cut_to_its_promised_length(storage: SqlStorage) -> None:
    """An endless error message or traceback does not fill the table (G11)."""
    lease = await one_lease(storage)
    transaction = storage.transaction()
    endless = Failure("E", "m" * 5_000, "t" * 50_000)
    transaction.park(lease, message(), state=State.DEAD, failure=endless)
    await transaction.commit()
    (dead,) = await storage.dead_letters()
    assert dead.failure == Failure("E", "m" * 2_000, "t" * 20_000)


async def test_many_rows_are_deleted_and_redriven_in_chunks(storage: SqlStorage) -> None:
    """Lists longer than one statement takes work as short ones do."""
    lease = await one_lease(storage)
    parking = storage.transaction()
    for number in range(1_200):
        parking.park(lease, message(str(number), str(number)), state=State.DEAD)
    parking.enqueue([message(str(number), str(number)) for number in range(1_200)])
    await parking.commit()
    dead = [row.position for row in await storage.dead_letters(limit=2_000)]
    assert await storage.redrive(dead[:600]) == 600
    assert await storage.drop(dead) == 600
    rows = await storage.ready(OUTBOX, range(4), limit=2_000)
    assert [row.message.envelope.id for row in rows] == [str(number) for number in range(1_200)]
    await storage.delete([row.position for row in rows])
    assert (await storage.backlog(OUTBOX)).ready == 0
