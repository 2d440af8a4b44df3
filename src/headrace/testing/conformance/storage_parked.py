"""Clauses about parked messages: waiting, held and dead ones, and the order of their key."""

from __future__ import annotations

from headrace.storage import Backlog, State, Verdict
from headrace.testing.conformance.kit import holds, only, same
from headrace.testing.conformance.samples import message, numbered, unusual
from headrace.testing.conformance.storage_outbox import texts
from headrace.testing.conformance.storage_steps import (
    ALL,
    BOOM,
    LONG_SECONDS,
    QUEUE,
    StorageSteps,
)


class ParkedClauses(StorageSteps):
    """A message that keeps failing is neither dropped nor in the way (G9)."""

    async def test_a_waiting_message_runs_when_it_is_due(self) -> None:
        """A WAITING message is not runnable before it is due, then it is, and is gone once it was handled (G9)."""
        async with self.running() as storage:
            lease, waiting = await self.lease(storage), message()
            await self.park(
                storage, lease, waiting, state=State.WAITING, delay_seconds=self.short_seconds
            )
            same(await self.runnable(storage), [], "what is runnable too early")
            await self.pass_seconds(self.short_seconds * 1.2)
            row = only(await self.runnable(storage))
            same((row.message, row.state), (waiting, State.WAITING))
            holds(await self.resume(storage, lease, row), "a message that is due was not resumed")
            same(await self.runnable(storage), [])
            same(
                await storage.backlog(QUEUE), Backlog(), "the backlog after the message was handled"
            )

    async def test_a_parked_message_keeps_its_story(self) -> None:
        """State, attempts, failure and the message itself are kept as parked, whatever its bytes (G9, G13)."""
        async with self.running() as storage:
            lease, parked = await self.lease(storage), unusual()
            for each in parked:
                await self.park(storage, lease, each, state=State.DEAD, attempts=3, failure=BOOM)
            rows = await storage.dead_letters(queue=QUEUE)
            same([row.message for row in rows], parked)
            for row in rows:
                same((row.queue, row.partition, row.state), (QUEUE, 0, State.DEAD))
                same((row.attempts, row.failure, row.due_at), (3, BOOM, None))

    async def test_a_ready_message_is_runnable_at_once(self) -> None:
        """A message parked READY, as after an unclean takeover, may run at once (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await self.park(storage, lease, message(), state=State.READY)
            row = only(await self.runnable(storage))
            same((row.state, row.attempts, row.failure), (State.READY, 0, None))

    async def test_a_resume_that_is_rolled_back_keeps_the_message(self) -> None:
        """The row is deleted with the commit, so a rollback leaves it to be run again (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await self.park(storage, lease, message(), state=State.READY)
            row = only(await self.runnable(storage))
            async with self.opened(storage) as transaction:
                same(await transaction.resume(lease, row), True)
                await transaction.rollback()
            same(await self.runnable(storage), [row])

    async def test_a_resume_finds_out_what_changed(self) -> None:
        """`resume` answers False for a row that is gone, dead, not due or not the first of its key (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await self.park(storage, lease, message("a"), state=State.READY)
            gone = only(await self.runnable(storage))
            same(await self.resume(storage, lease, gone), True)
            same(await self.resume(storage, lease, gone), False, "resume of a row that is gone")
            await self.park(storage, lease, *numbered(2, "b"), state=State.DEAD)
            first, later = await storage.dead_letters(queue=QUEUE)
            same(await self.resume(storage, lease, first), False, "resume of a dead letter")
            await storage.redrive([first.position, later.position])
            same(
                await self.resume(storage, lease, later), False, "resume of a later one of its key"
            )
            await storage.repark(lease, first, state=State.WAITING, delay_seconds=LONG_SECONDS)
            same(await self.resume(storage, lease, first), False, "resume of a row that is not due")

    async def test_an_attempt_is_counted_before_it_runs(self) -> None:
        """`attempt` counts one more, once if repeated, and answers False for a row that is gone or may not run (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await self.park(storage, lease, message("a"), state=State.READY, attempts=1)
            row = only(await self.runnable(storage))
            for _ in range(2):  # an outage may hide the answer of the first
                same(await storage.attempt(lease, row), True)
            same([row.attempts for row in await self.runnable(storage)], [2], "the stored attempts")
            same(await self.resume(storage, lease, row), True)
            same(await storage.attempt(lease, row), False, "the attempt of a row that is gone")
            await self.dead_then_held(storage, lease, numbered(2))
            dead = only(await storage.dead_letters(queue=QUEUE))
            same(await storage.attempt(lease, dead), False, "the attempt of a dead letter")

    async def test_a_dead_letter_holds_its_key_only(self) -> None:
        """Behind a dead letter nothing of its key runs; other keys flow (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await self.dead_then_held(storage, lease, numbered(3))
            await self.park(storage, lease, message("other", b"other"), state=State.READY)
            same(texts(await self.runnable(storage)), [b"other"])

    async def test_a_waiting_message_holds_its_key(self) -> None:
        """Behind a message that waits for its retry nothing of its key runs (G8)."""
        async with self.running() as storage:
            lease, (waiting, held) = await self.lease(storage), numbered(2)
            await self.park(
                storage, lease, waiting, state=State.WAITING, delay_seconds=LONG_SECONDS
            )
            await self.park(storage, lease, held, state=State.HELD)
            same(await self.runnable(storage), [])

    async def test_messages_without_key_hold_nothing(self) -> None:
        """Without a key each parked message stands alone (G14)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await self.park(storage, lease, message(None), state=State.DEAD)
            await self.park(storage, lease, *numbered(2, None), state=State.READY)
            same(texts(await self.runnable(storage)), [b"0", b"1"])

    async def test_a_redrive_releases_in_order(self) -> None:
        """After a redrive the dead letter runs first, then what it held, one after another, in order (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            dead = await self.dead_then_held(storage, lease, numbered(4))
            same(await storage.redrive([dead.position]), 1, "the number redriven")
            ran: list[bytes] = []
            while rows := await self.runnable(storage):
                same(len(rows), 1, "the number that may run of one key")
                same((rows[0].attempts if not ran else 0), 0, "the attempts after a redrive")
                ran += texts(rows)
                same(await self.resume(storage, lease, rows[0]), True)
            same(ran, [b"0", b"1", b"2", b"3"])

    async def test_arrivals_wait_until_the_held_have_run(self) -> None:
        """While held messages of its key are left a new arrival is HELD, afterwards NEW (G8, G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            dead = await self.dead_then_held(storage, lease, numbered(2))
            await storage.redrive([dead.position])
            for _ in range(2):
                same(await self.handle(storage, lease, message()), Verdict.HELD)
                row = only(await self.runnable(storage))
                same(await self.resume(storage, lease, row), True)
            same(await self.handle(storage, lease, message()), Verdict.NEW)

    async def test_failing_again_keeps_the_place(self) -> None:
        """A message put back stays at the head of its key, in its new state, with its failure and attempts (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            dead = await self.dead_then_held(storage, lease, numbered(2))
            await storage.redrive([dead.position])
            row = only(await self.runnable(storage))
            await storage.repark(lease, row, state=State.DEAD, failure=BOOM, attempts=7)
            same(await self.runnable(storage), [])
            again = only(await storage.dead_letters(queue=QUEUE))
            same((again.position, again.attempts, again.failure), (row.position, 7, BOOM))

    async def test_a_repark_may_wait(self) -> None:
        """A message put back WAITING runs after its delay, its attempts as they were (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await self.park(storage, lease, *numbered(2), state=State.READY, attempts=2)
            row = only(await self.runnable(storage))
            await storage.repark(
                lease, row, state=State.WAITING, delay_seconds=self.short_seconds, failure=BOOM
            )
            same(await self.runnable(storage), [])
            await self.pass_seconds(self.short_seconds * 1.2)
            again = only(await self.runnable(storage))
            same((again.position, again.state), (row.position, State.WAITING))
            same((again.attempts, again.failure), (2, BOOM))

    async def test_a_repark_without_a_failure_keeps_the_last(self) -> None:
        """A `repark` with no failure and no attempts leaves both as they were (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await self.park(storage, lease, message(), state=State.READY, attempts=3, failure=BOOM)
            [row] = await self.runnable(storage)
            await storage.repark(lease, row, state=State.DEAD)
            [dead] = await storage.dead_letters()
            same((dead.failure, dead.attempts), (BOOM, 3))

    async def test_a_row_that_is_gone_is_not_put_back(self) -> None:
        """A `repark` of a message that was dropped meanwhile is no error and brings nothing back (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await self.park(storage, lease, message(), state=State.DEAD, failure=BOOM)
            [dead] = await storage.dead_letters()
            await storage.drop([dead.position])
            await storage.repark(lease, dead, state=State.READY)
            same(await self.runnable(storage), [])

    async def test_a_drop_releases_the_key(self) -> None:
        """Dropping a dead letter lets what it held run (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            dead = await self.dead_then_held(storage, lease, numbered(2))
            same(await storage.drop([dead.position]), 1, "the number dropped")
            same(texts(await self.runnable(storage)), [b"1"])

    async def test_only_dead_letters_are_redriven_or_dropped(self) -> None:
        """`redrive` and `drop` leave waiting, held and unknown rows alone, and count what they changed (G9)."""
        async with self.running() as storage:
            lease, kept = await self.lease(storage), message()
            await self.park(storage, lease, kept, state=State.READY, attempts=3)
            row = only(await self.runnable(storage))
            same(await storage.redrive([row.position, row.position + 1000]), 0)
            same(await storage.drop([row.position, row.position + 1000]), 0)
            same(await self.runnable(storage), [row])

    async def test_runnable_takes_the_oldest_of_its_partitions(self) -> None:
        """`runnable` gives at most `limit` rows by position, of the partitions asked for (G11)."""
        async with self.running() as storage:
            zero, one = await self.leases(storage, 2)
            for number in range(6):
                lease = (zero, one)[number % 2]
                each = message(f"key {number}", str(number).encode())
                await self.park(storage, lease, each, state=State.READY)
            same(texts(await self.runnable(storage, limit=3)), [b"0", b"1", b"2"])
            same(texts(await self.runnable(storage, partitions=[1])), [b"1", b"3", b"5"])
            same(await self.runnable(storage, partitions=[2]), [])

    async def test_due_in_tells_when_to_look_again(self) -> None:
        """`due_in` is None when nothing will run by itself, the time to the next due message, 0.0 if one may run (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            same(await storage.due_in(QUEUE, ALL), None, "an empty queue")
            await self.park(storage, lease, message("dead"), state=State.DEAD)
            same(await storage.due_in(QUEUE, ALL), None, "a dead letter")
            for key, delay in (("far", 200.0), ("near", 100.0)):
                await self.park(
                    storage, lease, message(key), state=State.WAITING, delay_seconds=delay
                )
            due = await storage.due_in(QUEUE, ALL)
            holds(due is not None and 50.0 < due <= 100.0, f"due in {due} s, not in nearly 100")
            same(await storage.due_in(QUEUE, [3]), None, "another partition")
            await self.park(storage, lease, message("now"), state=State.READY)
            same(await storage.due_in(QUEUE, ALL), 0.0, "a runnable message")

    async def test_dead_letters_come_in_pages(self) -> None:
        """`dead_letters` gives those of a queue, or of all, by position, after a position, at most `limit` (G13)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            other = await self.lease(storage, queue="group:other/orders")
            for number in range(4):
                each = message(f"key {number}", str(number).encode())
                async with self.opened(storage) as transaction:
                    transaction.park(other if number == 3 else lease, each, state=State.DEAD)
                    await transaction.commit()
            await self.park(storage, lease, message("alive"), state=State.HELD)
            page = await storage.dead_letters(queue=QUEUE, limit=2)
            same(texts(list(page)), [b"0", b"1"])
            page = await storage.dead_letters(queue=QUEUE, after=page[-1].position, limit=2)
            same(texts(list(page)), [b"2"])
            same(texts(list(await storage.dead_letters())), [b"0", b"1", b"2", b"3"])

    async def test_the_backlog_of_a_group(self) -> None:
        """`backlog` counts ready, waiting, held and dead messages (G13)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await self.dead_then_held(storage, lease, numbered(3))
            for key in ("a", "b", "c"):
                await self.park(storage, lease, message(key), state=State.READY)
            await self.park(
                storage, lease, message("w"), state=State.WAITING, delay_seconds=LONG_SECONDS
            )
            counts = await storage.backlog(QUEUE)
            found = (counts.ready, counts.waiting, counts.held, counts.dead)
            same(found, (3, 1, 2, 1), "ready, waiting, held, dead")
