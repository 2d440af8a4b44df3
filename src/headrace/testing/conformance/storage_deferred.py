"""Clauses about deferred messages: stored with the commit, run by whoever has the lease, gone with their effects."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.envelope import Message
from headrace.errors import UnitOfWorkError
from headrace.storage import Failure, State, Storage, Stored, after_queue
from headrace.testing.conformance.kit import only, refused_now, same
from headrace.testing.conformance.samples import bodies, message, numbered
from headrace.testing.conformance.storage_steps import ALL, APP, BOOM, StorageSteps

AFTER = after_queue(APP)


class DeferredClauses(StorageSteps):
    """What is to be done after a commit is stored by it, and is done once (G9)."""

    async def test_deferred_messages_come_with_the_commit(self) -> None:
        """They are seen after the commit and not before, each in its partition, beside the outbox (G9)."""
        async with self.running() as storage:
            first, second = numbered(2, key=None)
            async with self.opened(storage) as transaction:
                transaction.defer(AFTER, [(2, first)])
                transaction.enqueue([message(data=b"published")])
                transaction.defer(AFTER, [(0, second)])
                same(transaction.touched, True, "touched")
                same(await self._runnable(storage), [], "what may run before the commit")
                await transaction.commit()
            rows = await self._runnable(storage)
            same([(row.partition, row.message) for row in rows], [(2, first), (0, second)])
            same([(row.state, row.attempts) for row in rows], [(State.READY, 0)] * 2)
            same(bodies(row.message for row in await self.outbox(storage)), [b"published"])
            alone = await storage.runnable(AFTER, [2], limit=10)
            same([row.message for row in alone], [first], "what may run in one partition")
            same(await storage.due_in(AFTER, ALL), 0.0, "the seconds until one may run")
            same((await storage.backlog(AFTER)).ready, 2, "the backlog")

    async def test_deferred_messages_of_a_rollback_are_not_stored(self) -> None:
        """Nothing of a transaction that was rolled back is done (G4)."""
        async with self.running() as storage:
            async with self.opened(storage) as transaction:
                transaction.defer(AFTER, [(0, message(None))])
                await transaction.rollback()
            same(await self._runnable(storage), [])

    async def test_a_savepoint_undoes_what_was_deferred_in_it(self) -> None:
        """A savepoint that is rolled back takes what was deferred since it began, and nothing else (G4)."""
        async with self.running() as storage:
            before, inside, behind = numbered(3, key=None)
            async with self.opened(storage) as transaction:
                transaction.defer(AFTER, [(0, before)])
                savepoint = await transaction.savepoint()
                transaction.defer(AFTER, [(0, inside)])
                await savepoint.rollback()
                transaction.defer(AFTER, [(0, behind)])
                await transaction.commit()
            same([row.message for row in await self._runnable(storage)], [before, behind])

    async def test_a_read_only_transaction_defers_nothing(self) -> None:
        """A query that wants something done later is refused (G4)."""
        async with self.running() as storage:
            async with self.opened(storage, read_only=True) as transaction:
                refused_now(UnitOfWorkError, lambda: transaction.defer(AFTER, [(0, message(None))]))
                await transaction.rollback()
            same(await self._runnable(storage), [])

    async def test_a_deferred_message_goes_with_its_effects(self) -> None:
        """Run under a lease it is deleted by the commit of its effects; others pass it while it waits or is dead (G9)."""
        async with self.running() as storage:
            done, failing, waiting = await self._deferred(storage, numbered(3, key=None))
            lease = await self.lease(storage, queue=AFTER)
            same(await storage.attempt(lease, failing), True, "an attempt")
            await storage.repark(lease, failing, state=State.DEAD, failure=BOOM)
            await storage.repark(lease, waiting, state=State.WAITING, delay_seconds=60.0)
            async with self.opened(storage) as transaction:
                same(await transaction.resume(lease, done), True, "the message may run")
                transaction.defer(AFTER, [(0, message(None, b"what follows"))])
                await transaction.commit()
            rows = await self._runnable(storage)
            same(bodies(row.message for row in rows), [b"what follows"])
            letter = only(await storage.dead_letters(queue=AFTER))
            same((letter.message, letter.attempts), (failing.message, 1))
            same(letter.failure, Failure(BOOM.error, BOOM.message, BOOM.traceback))
            same(await storage.redrive([letter.position]), 1, "redriven")
            again = (await self._runnable(storage))[0]
            same((again.message, again.attempts), (failing.message, 0))

    async def _deferred(self, storage: Storage, messages: Sequence[Message]) -> Sequence[Stored]:
        async with self.opened(storage) as transaction:
            transaction.defer(AFTER, [(0, each) for each in messages])
            await transaction.commit()
        return await self._runnable(storage)

    async def _runnable(self, storage: Storage) -> Sequence[Stored]:
        return await storage.runnable(AFTER, ALL, limit=100)
