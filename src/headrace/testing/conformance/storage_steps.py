"""What every storage clause stands on: the hooks of a storage kit, and steps in the words of the contract."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar

from headrace.envelope import Message
from headrace.storage import (
    Failure,
    Lease,
    State,
    Storage,
    Stored,
    Transaction,
    Verdict,
    group_queue,
    outbox_queue,
)
from headrace.testing.conformance.kit import Kit, only

APP = "conformance"
OUTBOX = outbox_queue(APP)
PARTITIONS = 4
ALL = range(PARTITIONS)
GROUP = "billing"
QUEUE = group_queue(GROUP, "orders")
BOOM = Failure("ValueError", "boom", "Traceback: boom")
LONG_SECONDS = 300.0


class StorageSteps(Kit):
    """The hooks of `StorageKit`, and steps that clauses share."""

    durable: ClassVar[bool] = True
    shareable: ClassVar[bool] = True

    async def make(self) -> Storage:
        """A new storage on data of its own, not started. The one hook that every kit writes."""
        raise TypeError(
            f"{type(self).__qualname__} has no make(): return a new storage from it, not started"
        )

    async def second(self, storage: Storage) -> Storage:
        """Another storage on the same data, not started, as another process would make it (`shareable`)."""
        raise TypeError(
            f"{type(self).__qualname__} has no second(): return another storage on the data of the one given, or"
            " declare `shareable = False`"
        )

    async def reopen(self, storage: Storage) -> Storage:
        """Stop the storage and give one on the same data, not started; default: the same object."""
        await storage.stop()
        return storage

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Storage]:
        """A new storage, started; stopped at the end."""
        storage = await self.make()
        await storage.start(APP, partitions=PARTITIONS)
        try:
            yield storage
        finally:
            await storage.stop()

    @contextlib.asynccontextmanager
    async def opened(
        self, storage: Storage, *, read_only: bool = False
    ) -> AsyncGenerator[Transaction]:
        """A transaction that a failing clause does not leave open."""
        transaction = storage.transaction(read_only=read_only)
        try:
            yield transaction
        except BaseException:
            # The clause's own failure is what people need to see.
            with contextlib.suppress(Exception):
                await transaction.rollback()
            raise

    async def enqueue(self, storage: Storage, *messages: Message) -> None:
        """Commit messages to the outbox in one transaction."""
        async with self.opened(storage) as transaction:
            transaction.enqueue(messages)
            await transaction.commit()

    async def outbox(self, storage: Storage, *, limit: int = 1000) -> list[Stored]:
        """What the relay would read now."""
        return list(await storage.ready(OUTBOX, ALL, limit=limit))

    async def lease(
        self,
        storage: Storage,
        owner: str = "a",
        *,
        queue: str = QUEUE,
        seconds: float = LONG_SECONDS,
        partitions: int = 1,
    ) -> Lease:
        """The first lease that the owner holds now."""
        grant = await storage.lease(queue, owner, partitions=partitions, seconds=seconds)
        if not grant.held:
            raise AssertionError(f"{owner!r} got no lease of {queue!r}")
        return grant.held[0]

    async def leases(self, storage: Storage, count: int) -> Sequence[Lease]:
        """Leases of several partitions, all of one owner."""
        grant = await storage.lease(QUEUE, "a", partitions=count, seconds=LONG_SECONDS)
        return grant.held

    async def taken_over(self, storage: Storage) -> tuple[Lease, Lease]:
        """The lease that an owner lost, and the one of the owner that has it now."""
        lost = await self.lease(storage, "a")
        await storage.release(QUEUE, lost.owner, [lost], leaving=True)
        return lost, await self.lease(storage, "b")

    async def handle(
        self, storage: Storage, lease: Lease, message: Message, group: str = GROUP
    ) -> Verdict:
        """Admit a message and commit."""
        async with self.opened(storage) as transaction:
            [verdict] = await transaction.admit(lease, group, [message])
            await transaction.commit()
        return verdict

    async def handle_all(
        self, storage: Storage, lease: Lease, messages: Sequence[Message]
    ) -> list[Verdict]:
        """Admit messages together and commit."""
        async with self.opened(storage) as transaction:
            verdicts = await transaction.admit(lease, GROUP, messages)
            await transaction.commit()
        return list(verdicts)

    async def park(
        self,
        storage: Storage,
        lease: Lease,
        *messages: Message,
        state: State,
        delay_seconds: float = 0.0,
        attempts: int = 0,
        failure: Failure | None = None,
    ) -> None:
        """Admit and park messages, a transaction each."""
        for each in messages:
            async with self.opened(storage) as transaction:
                await transaction.admit(lease, GROUP, [each])
                transaction.park(
                    lease,
                    each,
                    state=state,
                    delay_seconds=delay_seconds,
                    attempts=attempts,
                    failure=failure,
                )
                await transaction.commit()

    async def dead_then_held(
        self, storage: Storage, lease: Lease, messages: Sequence[Message]
    ) -> Stored:
        """Park the first as a dead letter and the others behind it. Returns the dead letter."""
        await self.park(storage, lease, messages[0], state=State.DEAD, attempts=5, failure=BOOM)
        await self.park(storage, lease, *messages[1:], state=State.HELD)
        return only(await storage.dead_letters(queue=lease.queue))

    async def runnable(
        self, storage: Storage, *, limit: int = 1000, partitions: Sequence[int] = ALL
    ) -> list[Stored]:
        """What the group would run now."""
        return list(await storage.runnable(QUEUE, partitions, limit=limit))

    async def resume(self, storage: Storage, lease: Lease, stored: Stored) -> bool:
        """Run a parked message and commit."""
        async with self.opened(storage) as transaction:
            resumed = await transaction.resume(lease, stored)
            await transaction.commit()
        return resumed
