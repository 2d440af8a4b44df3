"""Clauses about transactions: all or nothing, savepoints, doom, and the end."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from headrace.envelope import Message
from headrace.errors import (
    DecodeError,
    HeadraceError,
    StorageBusy,
    StorageUnavailable,
    UnitOfWorkClosed,
)
from headrace.storage import Lease, State, Storage, Stored, Transaction, Verdict
from headrace.testing.conformance.kit import holds, refused, refused_now, same
from headrace.testing.conformance.samples import bodies, message
from headrace.testing.conformance.storage_steps import GROUP, QUEUE, StorageSteps


class Seen(NamedTuple):
    """What others see of a transaction that enqueues, parks and moves a position."""

    outbox: list[bytes]
    parked: list[bytes]
    positions: dict[int, str]


NOTHING = Seen([], [], {})
WRITTEN = Seen([b"sent"], [b"parked"], {0: "7"})


class UnitClauses(StorageSteps):
    """One transaction is one unit of work (G4)."""

    async def test_an_untouched_transaction_commits_nothing(self) -> None:
        """A transaction that nobody used says so, and its commit does nothing (G4)."""
        async with self.running() as storage, self.opened(storage) as transaction:
            holds(not transaction.touched, "a new transaction says that it was touched")
            transaction.enqueue([])
            holds(not transaction.touched, "enqueueing nothing touched the transaction")
            await transaction.commit()
            same(await self.outbox(storage), [])

    async def test_a_used_transaction_is_touched(self) -> None:
        """A transaction in which a message was enqueued or admitted says that there is something to commit (G4)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            async with self.opened(storage) as transaction:
                transaction.enqueue([message()])
                holds(transaction.touched, "not touched after enqueue")
                await transaction.rollback()
            async with self.opened(storage) as transaction:
                await transaction.admit(lease, GROUP, [message()])
                holds(transaction.touched, "not touched after admit")
                await transaction.rollback()

    async def test_a_commit_that_does_not_wait_ends_at_once(self) -> None:
        """A transaction that says that its end does not wait gives no cancellation a chance to cut it (G4)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            async with self.opened(storage) as transaction:
                await self._write(transaction, lease, message("a"))
                ending = asyncio.ensure_future(transaction.commit())
                await asyncio.sleep(0)
                holds(ending.done() or transaction.waits, "the commit waited and had not said so")
                await ending
            same(await self._visible(storage), WRITTEN)

    async def test_a_commit_stores_all_together(self) -> None:
        """Inbox, parked messages, position and outbox become visible with the commit, not before (G4, G5)."""
        async with self.running() as storage:
            lease, admitted = await self.lease(storage), message("a")
            async with self.opened(storage) as transaction:
                await self._write(transaction, lease, admitted)
                same(await self._visible(storage), NOTHING, "what others see before the commit")
                await transaction.commit()
            same(
                await self._visible(storage),
                WRITTEN,
                "what the commit stored",
            )
            same(await self.handle(storage, lease, admitted), Verdict.DUPLICATE)

    async def test_a_rollback_stores_nothing(self) -> None:
        """After a rollback nothing of what the transaction did is there, and its message may be tried again (G4)."""
        async with self.running() as storage:
            lease, admitted = await self.lease(storage), message("a")
            async with self.opened(storage) as transaction:
                await self._write(transaction, lease, admitted)
                await transaction.rollback()
            same(await self._visible(storage), NOTHING, "what the rollback left")
            same(await self.handle(storage, lease, admitted), Verdict.NEW)

    async def test_a_savepoint_undoes_what_came_after_it(self) -> None:
        """Rolling a savepoint back undoes what was staged and enqueued since it began, and no more (G4)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            async with self.opened(storage) as transaction:
                transaction.enqueue([message(data=b"before")])
                savepoint = await transaction.savepoint()
                self._stage(transaction, lease)
                await savepoint.rollback()
                transaction.enqueue([message(data=b"after")])
                await transaction.commit()
            same(await self._visible(storage), Seen([b"before", b"after"], [], {}))

    async def test_a_released_savepoint_keeps_what_came_after_it(self) -> None:
        """Releasing a savepoint keeps what was done since it began, for the commit (G4)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            async with self.opened(storage) as transaction:
                savepoint = await transaction.savepoint()
                self._stage(transaction, lease)
                await savepoint.release()
                await transaction.commit()
            same(await self._visible(storage), WRITTEN)

    async def test_savepoints_nest(self) -> None:
        """An outer savepoint that is rolled back takes a released inner one with it (G4)."""
        async with self.running() as storage, self.opened(storage) as transaction:
            transaction.enqueue([message(data=b"first")])
            outer = await transaction.savepoint()
            transaction.enqueue([message(data=b"second")])
            inner = await transaction.savepoint()
            transaction.enqueue([message(data=b"third")])
            await inner.release()
            await outer.rollback()
            await transaction.commit()
            same(bodies(row.message for row in await self.outbox(storage)), [b"first"])

    async def test_a_doomed_transaction_cannot_commit(self) -> None:
        """After `doom`, statements and the commit raise the very error, and nothing is stored (G4)."""
        async with self.running() as storage:
            lease, error = await self.lease(storage), RuntimeError("the database said no")
            async with self.opened(storage) as transaction:
                transaction.enqueue([message()])
                transaction.doom(error)
                holds(transaction.doomed is error, "`doomed` is not the error")
                raised = await refused(RuntimeError, transaction.admit(lease, GROUP, [message()]))
                holds(raised is error, "admit raised another error than the doom")
                raised = await refused(RuntimeError, transaction.commit())
                holds(raised is error, "commit raised another error than the doom")
            same(await self._visible(storage), NOTHING)

    async def test_the_first_doom_stays(self) -> None:
        """A second doom does not replace the error that people need to see (G4)."""
        async with self.running() as storage, self.opened(storage) as transaction:
            first = RuntimeError("first")
            transaction.enqueue([message()])
            transaction.doom(first)
            transaction.doom(RuntimeError("second"))
            holds(
                await refused(RuntimeError, transaction.commit()) is first,
                "the first doom was lost",
            )

    async def test_a_doom_inside_a_savepoint(self) -> None:
        """Rolling a savepoint back clears a doom from inside it; where a database cannot, nothing is stored (G4)."""
        async with self.running() as storage, self.opened(storage) as transaction:
            transaction.enqueue([message(data=b"before")])
            savepoint = await transaction.savepoint()
            transaction.enqueue([message(data=b"inside")])
            error = RuntimeError("inside")
            transaction.doom(error)
            await savepoint.rollback()
            if transaction.doomed is None:
                await transaction.commit()
                expected = [b"before"]
            else:
                holds(await refused(RuntimeError, transaction.commit()) is error, "another error")
                expected = []
            same(bodies(row.message for row in await self.outbox(storage)), expected)

    async def test_nothing_works_after_the_end(self) -> None:
        """Whoever uses a transaction after its commit or rollback gets `UnitOfWorkClosed` (G4)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            for committed in (True, False):
                async with self.opened(storage) as transaction:
                    transaction.enqueue([message(data=b"1")])
                    await (transaction.commit() if committed else transaction.rollback())
                await self._closed(transaction, lease)
            same(await self._visible(storage), Seen([b"1"], [], {}))

    async def _closed(self, transaction: Transaction, lease: Lease) -> None:
        late, stored = message(), Stored(1, QUEUE, 0, message())
        refused_now(UnitOfWorkClosed, lambda: transaction.enqueue([late]))
        refused_now(UnitOfWorkClosed, lambda: transaction.advance(lease, "8"))
        refused_now(UnitOfWorkClosed, lambda: transaction.park(lease, late, state=State.DEAD))
        await refused(UnitOfWorkClosed, transaction.admit(lease, GROUP, [late]))
        await refused(UnitOfWorkClosed, transaction.resume(lease, stored))
        await refused(UnitOfWorkClosed, transaction.end_part())
        await refused(UnitOfWorkClosed, transaction.savepoint())
        await refused(UnitOfWorkClosed, transaction.commit())

    async def test_a_rollback_after_the_end_is_harmless(self) -> None:
        """A rollback in a `finally`, after the commit or another rollback, changes and raises nothing (G4)."""
        async with self.running() as storage, self.opened(storage) as transaction:
            transaction.enqueue([message(data=b"1")])
            await transaction.commit()
            await transaction.rollback()
            await transaction.rollback()
            same(bodies(row.message for row in await self.outbox(storage)), [b"1"])

    async def test_a_read_only_transaction_writes_nothing(self) -> None:
        """A read-only transaction refuses what would change something, at the call or at the commit (G4)."""
        async with self.running() as storage:
            async with self.opened(storage, read_only=True) as transaction:

                async def write() -> None:
                    transaction.enqueue([message()])
                    await transaction.commit()

                await refused(HeadraceError, write())
                await transaction.rollback()
            same(await self.outbox(storage), [])

    async def test_a_cancelled_wait_leaves_no_trace(self) -> None:
        """A transaction that is cancelled while it waits for another one, and rolled back, is in nobody's way (G7)."""
        async with self.running() as storage:
            one, two = await self.leases(storage, 2)
            wanted = message()
            async with self.opened(storage) as first, self.opened(storage) as second:
                same(await first.admit(one, GROUP, [wanted]), [Verdict.NEW])
                waiting = await self.started(second.admit(two, GROUP, [wanted]))
                waiting.cancel()
                await self.started(waiting)
                await second.rollback()
                await first.rollback()
            same(await self.in_time(self.handle(storage, one, wanted)), Verdict.NEW)

    async def test_transient_errors_are_told_from_others(self) -> None:
        """An unreachable or busy database is transient, an error of handlers or decoding is not (G9)."""
        async with self.running() as storage:
            holds(storage.transient(StorageUnavailable("gone")), "StorageUnavailable is transient")
            holds(storage.transient(StorageBusy("locked")), "StorageBusy is transient")
            holds(not storage.transient(ValueError("wrong")), "ValueError is not transient")
            # What a handler uses besides the database: its message fails, and others of its partition are not to wait.
            for other in (
                ConnectionRefusedError("mail"),
                TimeoutError("http"),
                FileNotFoundError("x"),
            ):
                holds(
                    not storage.transient(other),
                    f"a handler's {type(other).__name__} is not transient",
                )
            holds(not storage.transient(DecodeError("torn")), "DecodeError is not transient")

    async def _write(self, transaction: Transaction, lease: Lease, admitted: Message) -> None:
        """All four kinds of write."""
        await transaction.admit(lease, GROUP, [admitted])
        self._stage(transaction, lease)

    def _stage(self, transaction: Transaction, lease: Lease) -> None:
        transaction.park(lease, message("p", b"parked"), state=State.READY)
        transaction.advance(lease, "7")
        transaction.enqueue([message("s", b"sent")])

    async def _visible(self, storage: Storage) -> Seen:
        """What others see of `_write`: outbox, parked messages, positions."""
        return Seen(
            bodies(row.message for row in await self.outbox(storage)),
            bodies(row.message for row in await self.runnable(storage)),
            dict(await storage.positions(QUEUE)),
        )
