"""Clauses about messages that share a transaction: each judged for itself, all kept or none."""

from __future__ import annotations

import asyncio

from headrace.errors import LeaseLost
from headrace.storage import State, Verdict
from headrace.testing.conformance.kit import holds, refused, same
from headrace.testing.conformance.samples import bodies, message, numbered
from headrace.testing.conformance.storage_steps import GROUP, LONG_SECONDS, QUEUE, StorageSteps


class BatchClauses(StorageSteps):
    """A batch is one transaction of several messages (G7)."""

    async def test_each_of_a_batch_has_its_own_verdict(self) -> None:
        """Verdicts come in the order given: seen, held behind a parked message, or new, and new but once (G7, G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            seen, new, other = message("seen"), message("new"), message("other")
            await self.handle(storage, lease, seen)
            await self.park(storage, lease, message("stuck"), state=State.DEAD)
            batch = [other, seen, message("stuck"), new, message(None), message("stuck"), other]
            same(
                await self.handle_all(storage, lease, batch),
                [
                    *(Verdict.NEW, Verdict.DUPLICATE, Verdict.HELD, Verdict.NEW),
                    *(Verdict.NEW, Verdict.HELD, Verdict.DUPLICATE),
                ],
            )

    async def test_of_a_repeat_in_a_batch_the_first_is_new(self) -> None:
        """Whatever their ids, the first of two equal messages is NEW and the second DUPLICATE (G7)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            for first, second in (("a", "b"), ("d", "c")):
                one, two = message(message_id=first), message(message_id=second)
                same(
                    await self.handle_all(storage, lease, [one, two, one, two]),
                    [Verdict.NEW, Verdict.NEW, Verdict.DUPLICATE, Verdict.DUPLICATE],
                )

    async def test_an_empty_batch_checks_the_token(self) -> None:
        """Admitting no message answers nothing, and still raises `LeaseLost` for an old token (G7)."""
        async with self.running() as storage:
            lost, taken = await self.taken_over(storage)
            same(await self.handle_all(storage, taken, []), [])
            await refused(LeaseLost, self.handle_all(storage, lost, []))

    async def test_a_batch_is_kept_or_undone_as_one(self) -> None:
        """After a rollback every message of the batch is NEW again, after a commit none is (G7)."""
        async with self.running() as storage:
            lease, batch = await self.lease(storage), numbered(3)
            async with self.opened(storage) as transaction:
                await transaction.admit(lease, GROUP, batch)
                transaction.advance(lease, "3")
                await transaction.rollback()
            same(await storage.positions(QUEUE), {})
            same(await self.handle_all(storage, lease, batch), [Verdict.NEW] * 3)
            same(await self.handle_all(storage, lease, batch), [Verdict.DUPLICATE] * 3)

    async def test_a_lost_lease_admits_no_batch(self) -> None:
        """A batch under an old token raises `LeaseLost`, and all of it stays NEW for the new owner (G7)."""
        async with self.running() as storage:
            lost, taken = await self.taken_over(storage)
            batch = numbered(3)
            await refused(LeaseLost, self.handle_all(storage, lost, batch))
            same(await self.handle_all(storage, taken, batch), [Verdict.NEW] * 3)

    async def test_batches_that_cross_do_not_lock_each_other_out(self) -> None:
        """Two that admit the same messages in opposite orders both end, and each message is NEW to one of them (G7)."""
        async with self.running() as storage:
            one, two, three = await self.leases(storage, 3)
            batch = [message(str(n)) for n in range(10)]
            async with self.opened(storage) as middle:
                # Both come as far as they can, from their own end.
                await middle.admit(three, GROUP, [batch[5]])
                first = await self.started(self.handle_all(storage, one, batch))
                second = await self.started(self.handle_all(storage, two, batch[::-1]))
                await middle.rollback()
            verdicts = await self.in_time(asyncio.gather(first, second))
            both = list(zip(verdicts[0], verdicts[1][::-1], strict=True))
            for pair in both:
                same(sorted(v.name for v in pair), ["DUPLICATE", "NEW"], f"the verdicts of {both}")

    async def test_parts_commit_together(self) -> None:
        """What was staged before and after the end of a part is committed at once, in order (G4, G7)."""
        async with self.running() as storage:
            lease, batch = await self.lease(storage), numbered(2)
            async with self.opened(storage) as transaction:
                await transaction.admit(lease, GROUP, batch)
                for each in batch:
                    transaction.enqueue([each])
                    transaction.park(lease, each, state=State.WAITING, delay_seconds=LONG_SECONDS)
                    await transaction.end_part()
                    transaction.advance(lease, each.data.decode())
                holds(transaction.touched, "the end of a part made the transaction untouched")
                same(await self.outbox(storage), [], "what others see before the commit")
                await transaction.commit()
            same(bodies(row.message for row in await self.outbox(storage)), [b"0", b"1"])
            same((await storage.backlog(QUEUE)).waiting, 2, "the number of parked messages")
            same(await storage.positions(QUEUE), {0: "1"})

    async def test_a_doomed_part_dooms_all(self) -> None:
        """The end of a part raises the doom, and nothing of any part is stored (G4)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            async with self.opened(storage) as transaction:
                transaction.enqueue([message()])
                transaction.advance(lease, "7")
                await transaction.end_part()
                error = RuntimeError("second part")
                transaction.doom(error)
                raised = await refused(RuntimeError, transaction.end_part())
                holds(raised is error, "the end of a part raised another error than the doom")
                await refused(RuntimeError, transaction.commit())
            same(await self.outbox(storage), [])
            same(await storage.positions(QUEUE), {})
