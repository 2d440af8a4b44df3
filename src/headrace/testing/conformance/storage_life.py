"""Clauses about a storage's own life: start, stop, what survives, and other processes."""

from __future__ import annotations

import asyncio

from headrace.errors import PartitionCountChanged
from headrace.storage import State, Stored, Verdict
from headrace.testing.conformance.kit import holds, needs, only, refused, same
from headrace.testing.conformance.samples import message, numbered
from headrace.testing.conformance.storage_outbox import texts
from headrace.testing.conformance.storage_steps import (
    APP,
    BOOM,
    GROUP,
    OUTBOX,
    PARTITIONS,
    QUEUE,
    StorageSteps,
)


class LifeClauses(StorageSteps):
    """A storage says what it promises, starts again, and is shared by processes (G5, G6)."""

    async def test_the_declaration_is_true(self) -> None:
        """The storage says of itself what its kit declares: durable or not (G5)."""
        async with self.running() as storage:
            same(storage.durable, self.durable, "storage.durable")

    async def test_a_stopped_storage_starts_again(self) -> None:
        """After `stop` the same object can be started and used again."""
        storage = await self.make()
        for _ in range(2):
            await storage.start(APP, partitions=PARTITIONS)
            await self.enqueue(storage, message())
            holds(bool(await self.outbox(storage)), "nothing was stored")
            await storage.stop()

    async def test_warnings_are_sentences(self) -> None:
        """`start` returns warnings for people as whole sentences (G5)."""
        storage = await self.make()
        warnings = await storage.start(APP, partitions=PARTITIONS)
        await storage.stop()
        for warning in warnings:
            holds(" " in warning and warning.strip().endswith("."), f"{warning!r} is no sentence")

    async def test_another_partition_count_is_refused(self) -> None:
        """An app that was first started with one number of partitions does not start with another (G6)."""
        async with self.running() as storage:
            await storage.stop()
            await refused(PartitionCountChanged, storage.start(APP, partitions=PARTITIONS + 1))
            await storage.start(APP, partitions=PARTITIONS)

    @needs("durable")
    async def test_a_restart_keeps_everything(self) -> None:
        """Outbox, inbox, parked messages, positions, tokens and types are there after a restart (G5)."""
        storage = await self.make()
        await storage.start(APP, partitions=PARTITIONS)
        seen, messages = message("seen"), numbered(3)
        try:
            lease = await self.lease(storage)
            await self.enqueue(storage, *messages)
            await self.handle(storage, lease, seen)
            await self.park(
                storage, lease, message("p"), state=State.DEAD, attempts=2, failure=BOOM
            )
            async with self.opened(storage) as transaction:
                transaction.advance(lease, "7")
                await transaction.commit()
            await storage.learn_types(GROUP, ["a"])
            outbox, dead = await self.outbox(storage), await storage.dead_letters()
        finally:
            storage = await self.reopen(storage)
        await storage.start(APP, partitions=PARTITIONS)
        try:
            same(await self.outbox(storage), outbox, "the outbox")
            same(list[Stored](await storage.dead_letters()), list[Stored](dead), "the dead letters")
            same(await storage.positions(QUEUE), {0: "7"}, "the positions")
            same(await storage.learn_types(GROUP, ["b"]), frozenset("ab"), "the types")
            await storage.release(QUEUE, lease.owner, [lease], leaving=True)
            again = await self.lease(storage, "b")
            holds(again.token > lease.token, f"token {again.token} after {lease.token}")
            same(await self.handle(storage, again, seen), Verdict.DUPLICATE)
            await storage.delete([row.position for row in outbox])
            await self.enqueue(storage, message())
            new = only(await self.outbox(storage))
            holds(new.position > max(row.position for row in outbox), "a position came twice")
        finally:
            await storage.stop()

    @needs("shareable")
    async def test_processes_share_the_data(self) -> None:
        """What one process commits another sees: outbox, inbox, leases and parked messages (G6, G7)."""
        async with self.running() as storage:
            other = await self.second(storage)
            await other.start(APP, partitions=PARTITIONS)
            try:
                await self.enqueue(storage, message(data=b"1"))
                same(texts(list(await other.ready(OUTBOX, range(PARTITIONS), limit=9))), [b"1"])
                lease, seen = await self.lease(storage, "a"), message()
                same((await other.lease(QUEUE, "b", partitions=1, seconds=9.0)).held, ())
                await self.handle(storage, lease, seen)
                same(await self.handle(other, lease, seen), Verdict.DUPLICATE)
                await self.park(storage, lease, message("p"), state=State.READY)
                same(len(await self.runnable(other)), 1, "the parked messages that the other sees")
            finally:
                await other.stop()

    @needs("shareable")
    async def test_processes_write_at_once(self) -> None:
        """Two processes that commit at the same time lose nothing and keep order per key (G5, G6)."""
        async with self.running() as storage:
            other = await self.second(storage)
            await other.start(APP, partitions=PARTITIONS)
            try:

                async def write(key: str) -> None:
                    for number in range(5):
                        each = message(key, str(number).encode())
                        await self.enqueue(storage if key == "a" else other, each)

                await self.in_time(asyncio.gather(write("a"), write("b")))
                rows = await self.outbox(storage)
                for key in "ab":
                    mine = [row for row in rows if row.message.key == key]
                    same(texts(mine), [b"0", b"1", b"2", b"3", b"4"], f"the rows of key {key}")
            finally:
                await other.stop()
