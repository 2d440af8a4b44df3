"""Clauses about the outbox: order, visibility, what is left out, deletion."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace

from headrace.broker import partition_of
from headrace.envelope import Message, sequence_of
from headrace.storage import State, Storage, Stored
from headrace.testing.conformance.kit import holds, needs, only, same
from headrace.testing.conformance.samples import bodies, message, numbered, unusual
from headrace.testing.conformance.storage_steps import (
    ALL,
    BOOM,
    GROUP,
    OUTBOX,
    PARTITIONS,
    StorageSteps,
)


def texts(rows: list[Stored]) -> list[bytes]:
    """The bodies of rows, in order."""
    return bodies(row.message for row in rows)


def enqueued(rows: Sequence[Stored]) -> list[Message]:
    """The messages of rows as they were before `ready` gave them their `sequence`."""
    return unnumbered([row.message for row in rows])


def unnumbered(messages: Sequence[Message]) -> list[Message]:
    """Messages without a `sequence`."""
    return [replace(each, envelope=replace(each.envelope, sequence=None)) for each in messages]


class OutboxClauses(StorageSteps):
    """A committed event is published at least once, and in commit order per key (G5, G6)."""

    async def test_order_within_a_transaction(self) -> None:
        """Rows of one transaction are numbered in the order enqueued, over several calls (G6)."""
        async with self.running() as storage:
            messages = numbered(7)
            async with self.opened(storage) as transaction:
                transaction.enqueue(messages[:2])
                transaction.enqueue(messages[2:])
                await transaction.commit()
            rows = await self.outbox(storage)
            same(enqueued(rows), messages)
            positions = [row.position for row in rows]
            same(positions, sorted(set(positions)), "the positions")
            sequence = [row.message.envelope.sequence for row in rows]
            same(sequence, [sequence_of(one) for one in positions], "the sequence")

    async def test_order_across_transactions(self) -> None:
        """Rows of a later commit stand behind those of an earlier one (G6)."""
        async with self.running() as storage:
            messages = numbered(5)
            for each in messages:
                await self.enqueue(storage, each)
            same(enqueued(await self.outbox(storage)), messages)

    async def test_the_commit_decides_the_order(self) -> None:
        """Of transactions that are open at once, the one that commits first comes first, each as a whole (G6)."""
        async with self.running() as storage:
            async with self.opened(storage) as early, self.opened(storage) as late:
                late.enqueue([message(data=b"late 1")])
                early.enqueue([message(data=b"early")])
                late.enqueue([message(data=b"late 2")])
                await early.commit()
                await late.commit()
            same(texts(await self.outbox(storage)), [b"early", b"late 1", b"late 2"])

    async def test_concurrent_transactions_lose_nothing(self) -> None:
        """Many transactions at once: every row is there once, in order per key (G5, G6)."""
        async with self.running() as storage:
            sent = {f"key {n}": numbered(3, f"key {n}") for n in range(20)}
            await asyncio.gather(*(self.enqueue(storage, *messages) for messages in sent.values()))
            rows = await self.outbox(storage)
            same(len(rows), 60, "the number of rows")
            for key, messages in sent.items():
                same(enqueued([row for row in rows if row.message.key == key]), messages, key)

    async def test_a_position_is_never_reused(self) -> None:
        """The number of a deleted row is not given again, even if it was the highest (G6)."""
        async with self.running() as storage:
            await self.enqueue(storage, message())
            first = only(await self.outbox(storage))
            await storage.delete([first.position])
            await self.enqueue(storage, message())
            second = only(await self.outbox(storage))
            holds(
                second.position > first.position,
                f"position {second.position} came after {first.position}",
            )

    async def test_nothing_is_seen_before_its_commit(self) -> None:
        """A message of an open transaction is not read, and so never published (G5)."""
        async with self.running() as storage, self.opened(storage) as transaction:
            transaction.enqueue([message()])
            same(await self.outbox(storage), [], "the outbox before the commit")
            await transaction.commit()
            same(len(await self.outbox(storage)), 1, "the rows after the commit")

    async def test_a_late_commit_is_not_skipped(self) -> None:
        """A transaction that enqueued before a drain and commits after it is read all the same (G6)."""
        async with self.running() as storage, self.opened(storage) as late:
            late.enqueue([message(data=b"late")])
            await self.enqueue(storage, message(data=b"early"))
            same(await self._drain(storage), [b"early"])
            await late.commit()
            same(await self._drain(storage), [b"late"])

    async def test_a_writer_held_open_across_a_drain(self) -> None:
        """With a transaction open that has written, a drain and other commits lose nothing and repeat nothing (G6).

        On an engine with one writer the other commit waits for the open one; on others it goes ahead.
        """
        async with self.running() as storage:
            lease = await self.lease(storage)
            async with self.opened(storage) as held:
                await held.admit(lease, GROUP, [message()])
                held.enqueue([message(data=b"held")])
                other = await self.started(self.enqueue(storage, message(data=b"other")))
                drained = await self._drain(storage)
                await held.commit()
            await self.in_time(other)
            drained += await self._drain(storage)
            same(sorted(drained), [b"held", b"other"], "what was drained")

    async def test_the_limit_takes_the_oldest(self) -> None:
        """`ready` gives at most `limit` rows: the oldest of all partitions asked for (G11)."""
        async with self.running() as storage:
            for number in range(10):
                await self.enqueue(storage, message(f"key {number}", str(number).encode()))
            same(texts(await self.outbox(storage, limit=4)), [b"0", b"1", b"2", b"3"])

    async def test_a_row_stands_in_the_partition_of_its_key(self) -> None:
        """`ready` gives only the partitions asked for; a row is in that of its key, or of its id without one (G6)."""
        async with self.running() as storage:
            sent = [message(key) for key in ("a", "b", "c", "d", "e", None, None, None)]
            await self.enqueue(storage, *sent)
            for partition in ALL:
                rows = await storage.ready(OUTBOX, [partition], limit=100)
                mine = [each for each in sent if partition_of(each, PARTITIONS) == partition]
                same(enqueued(rows), mine, f"partition {partition}")
                same({row.partition for row in rows} - {partition}, set[int]())

    async def test_paused_topics_are_left_out(self) -> None:
        """A paused topic is not read and does not use up the limit, so it never starves the others (G6)."""
        async with self.running() as storage:
            await self.enqueue(storage, *numbered(5, topic="broken"), message(topic="fine"))
            rows = await storage.ready(OUTBOX, ALL, limit=2, paused_topics=["broken"])
            same([row.message.topic for row in rows], ["fine"])

    async def test_a_dead_letter_holds_its_key(self) -> None:
        """Behind a dead letter wait the later messages of its (topic, key), and nothing else (G6)."""
        async with self.running() as storage:
            earlier, dead, later = numbered(3)
            other = [message("other", b"key"), message(topic="invoices", data=b"topic")]
            await self.enqueue(storage, earlier, dead, later, *other)
            await self._kill(storage, dead)
            same(texts(await self.outbox(storage)), [b"0", b"key", b"topic"])
            rows = await self.outbox(storage, limit=2)
            same(texts(rows), [b"0", b"key"], "with held rows that must not use up the limit")

    async def test_a_dead_letter_without_key_holds_nothing(self) -> None:
        """A dead letter without a key is in nobody's way (G14)."""
        async with self.running() as storage:
            dead, other = message(None, b"dead"), message(None, b"other")
            await self.enqueue(storage, dead, other)
            await self._kill(storage, dead)
            same(texts(await self.outbox(storage)), [b"other"])

    async def test_a_redriven_row_goes_before_those_it_held(self) -> None:
        """A dead letter of the outbox that is redriven is read again, in its old place, with no attempts (G9)."""
        async with self.running() as storage:
            dead, later = numbered(2)
            await self.enqueue(storage, dead, later)
            row = await self._kill(storage, dead)
            same(await storage.redrive([row.position]), 1, "the number redriven")
            rows = await self.outbox(storage)
            same(texts(rows), [b"0", b"1"])
            same(rows[0].attempts, 0, "the attempts")

    async def test_a_dropped_row_releases_its_key(self) -> None:
        """Dropping a dead letter of the outbox lets the later messages of its key go (G9)."""
        async with self.running() as storage:
            dead, later = numbered(2)
            await self.enqueue(storage, dead, later)
            row = await self._kill(storage, dead)
            same(await storage.drop([row.position]), 1, "the number dropped")
            same(texts(await self.outbox(storage)), [b"1"])

    async def test_all_behind_a_dead_letter_go_in_order_when_it_is_redriven(self) -> None:
        """However many a dead letter held, and added before and after it was seen: it goes first, then they in order (G9)."""
        async with self.running() as storage:
            row, sent = await self._long_hold(storage)
            same(await storage.redrive([row.position]), 1, "the number redriven")
            late = message(data=b"late")
            await self.enqueue(storage, late)
            drained = await self._drained_by(storage, 100)
            same(drained, [*bodies(sent), b"late"], "what was drained")

    async def test_all_behind_a_dead_letter_go_in_order_when_it_is_dropped(self) -> None:
        """However many a dead letter held, and added before and after it was seen: they go in order (G9)."""
        async with self.running() as storage:
            row, sent = await self._long_hold(storage)
            same(await storage.drop([row.position]), 1, "the number dropped")
            late = message(data=b"late")
            await self.enqueue(storage, late)
            drained = await self._drained_by(storage, 100)
            same(drained, [*bodies(sent[1:]), b"late"], "what was drained")

    async def test_deletion_is_by_number(self) -> None:
        """`delete` removes the rows named and none between them, and may be repeated (G6)."""
        async with self.running() as storage:
            await self.enqueue(storage, *numbered(3))
            first, _, last = await self.outbox(storage)
            for _ in range(2):
                await storage.delete([first.position, last.position])
                same(texts(await self.outbox(storage)), [b"1"])

    async def test_many_rows_are_deleted_at_once(self) -> None:
        """`delete` takes more numbers than a database takes parameters (G11)."""
        async with self.running() as storage:
            await self.enqueue(storage, *numbered(2500, None))
            rows = await self.outbox(storage, limit=5000)
            same(len(rows), 2500, "the rows")
            await storage.delete([row.position for row in rows])
            same(await self.outbox(storage), [])

    async def test_messages_are_kept_byte_for_byte(self) -> None:
        """Bodies, keys and attributes come out as they went in: empty, large, in any alphabet (G5)."""
        async with self.running() as storage:
            sent = unusual()
            await self.enqueue(storage, *sent)
            same(enqueued(await self.outbox(storage)), unnumbered(sent))

    async def test_the_backlog_of_the_outbox(self) -> None:
        """`backlog` counts what is ready and dead, and tells the age of the oldest that is not dead (G13)."""
        async with self.running() as storage:
            empty = await storage.backlog(OUTBOX)
            same((empty.ready, empty.dead, empty.oldest_seconds), (0, 0, 0.0), "an empty outbox")
            old = message("old")
            await self.enqueue(storage, old)
            await self.pass_seconds(self.short_seconds)
            await self.enqueue(storage, *numbered(3))
            full = await storage.backlog(OUTBOX)
            same((full.ready, full.dead), (4, 0), "ready and dead")
            holds(
                full.oldest_seconds >= self.short_seconds * 0.9,
                f"the oldest is {full.oldest_seconds} s old",
            )
            await self._kill(storage, old)
            killed = await storage.backlog(OUTBOX)
            same((killed.ready, killed.dead), (3, 1), "ready and dead")
            holds(killed.oldest_seconds < full.oldest_seconds, "the dead letter counts for the age")

    @needs("shareable")
    async def test_apps_do_not_see_each_other(self) -> None:
        """Two apps on the same data have an outbox each (G5)."""
        async with self.running() as storage:
            other = await self.second(storage)
            await other.start("other app", partitions=2)
            try:
                await self.enqueue(other, message(data=b"other"))
                await self.enqueue(storage, message(data=b"own"))
                same(texts(await self.outbox(storage)), [b"own"])
            finally:
                await other.stop()

    async def _drain(self, storage: Storage) -> list[bytes]:
        rows = await self.outbox(storage)
        if rows:
            await storage.delete([row.position for row in rows])
        return texts(rows)

    async def _long_hold(self, storage: Storage) -> tuple[Stored, list[Message]]:
        """A dead letter that has held many for a while, and those, the dead one first."""
        sent = numbered(1300)
        await self.enqueue(storage, *sent[:1200], message("other", b"other"))
        row = await self._kill(storage, sent[0])
        same(texts(await self.outbox(storage, limit=5)), [b"other"], "what it does not hold")
        await self.enqueue(storage, *sent[1200:])
        same(await self._drained_by(storage, 5), [b"other"], "what it does not hold")
        return row, sent

    async def _drained_by(self, storage: Storage, limit: int) -> list[bytes]:
        """What a relay would publish, so many at a time, until nothing is left."""
        found: list[bytes] = []
        while rows := await self.outbox(storage, limit=limit):
            await storage.delete([row.position for row in rows])
            found += texts(rows)
        return found

    async def _kill(self, storage: Storage, dead: Message) -> Stored:
        """What the relay does with a message that the broker refuses for good."""
        grant = await storage.lease(OUTBOX, "relay", partitions=PARTITIONS, seconds=300.0)
        rows = await self.outbox(storage, limit=2000)
        row = only([row for row in rows if enqueued([row]) == [dead]])
        lease = grant.held[row.partition]
        await storage.repark(lease, row, state=State.DEAD, failure=BOOM, attempts=1)
        return row
