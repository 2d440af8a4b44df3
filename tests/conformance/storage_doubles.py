"""Broken storages. Each breaks one promise of `MemoryStorage`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from msgspec import structs

from headrace.drivers.memory import MemoryDatabase, MemoryStorage
from headrace.drivers.memory.database import Session
from headrace.drivers.memory.transaction import MemorySavepoint, MemoryTransaction, Staged
from headrace.envelope import Message
from headrace.errors import LeaseLost, StorageBusy, UnitOfWorkClosed
from headrace.storage import (
    Audit,
    AuditNote,
    Backlog,
    DeadErrors,
    Handled,
    Lease,
    LeaseGrant,
    Owner,
    State,
    Stored,
    Verdict,
    outbox_queue,
)
from headrace.testing.conformance import StorageKit
from tests.conformance.doubles import Doubles

DOUBLES = Doubles()
fails = DOUBLES.fails


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Faithful(MemoryStorage):
    """Breaks nothing: what it holds survives stop and start, so within a test it is durable."""

    found_by: ClassVar[type[Exception]] = AssertionError
    """What a clause raises: an error of its own checks, so that no mistake of a double passes for its being found."""

    transactions: type[MemoryTransaction] = MemoryTransaction

    @property
    def durable(self) -> bool:
        return True

    def transaction(self, *, read_only: bool = False) -> MemoryTransaction:
        assert self._app is not None
        return self.transactions(self._open(), self._app, read_only=read_only)

    def twin(self) -> Faithful:
        return type(self)(self.database)


class DoubleKit(StorageKit):
    """Runs the clauses against one double, with little patience."""

    hang_seconds = 0.2
    patience_seconds = 0.01

    def __init__(self, double: type[Faithful]) -> None:
        self.double = double
        self.clock = Clock()

    async def make(self) -> Faithful:
        return self.double(MemoryDatabase(clock=self.clock))

    async def second(self, storage: Any) -> Faithful:
        twin: Faithful = storage.twin()
        return twin

    async def pass_seconds(self, seconds: float) -> None:
        self.clock.now += seconds


# Transactions


@fails("an_untouched_transaction_commits_nothing")
class AlwaysTouched(Faithful):
    class transactions(MemoryTransaction):
        touched = True


@fails("a_used_transaction_is_touched")
class NeverTouched(Faithful):
    class transactions(MemoryTransaction):
        touched = False


@fails("a_commit_that_does_not_wait_ends_at_once")
class SaysThatItDoesNotWait(Faithful):
    class transactions(MemoryTransaction):
        async def commit(self) -> None:
            await asyncio.sleep(0)
            await super().commit()


@fails(
    "a_commit_stores_all_together",
    "a_rollback_stores_nothing",
    "nothing_is_seen_before_its_commit",
    "the_commit_decides_the_order",
)
class WritesAtOnce(Faithful):
    class transactions(MemoryTransaction):
        def enqueue(self, messages: Sequence[Message]) -> None:
            self._write("enqueue")
            name = outbox_queue(self._app)
            self._database.insert(Stored(0, name, 0, each) for each in messages)


@fails(
    "a_rollback_stores_nothing",
    "a_resume_that_is_rolled_back_keeps_the_message",
    "a_rolled_back_message_is_new_again",
    "the_second_waits_and_takes_over",
)
class RollbackCommits(Faithful):
    class transactions(MemoryTransaction):
        async def rollback(self) -> None:
            if self._ended is None:
                await self.commit()


@fails(
    "a_savepoint_undoes_what_came_after_it",
    "savepoints_nest",
    "a_doom_inside_a_savepoint",
)
class SavepointsUndoNothing(Faithful):
    class transactions(MemoryTransaction):
        def undo_savepoint(self, point: MemorySavepoint, before: Staged) -> None:
            super().undo_savepoint(point, replace(self._staged))


@fails("a_released_savepoint_keeps_what_came_after_it")
class ReleaseUndoes(Faithful):
    class transactions(MemoryTransaction):
        def release_savepoint(self, point: MemorySavepoint) -> None:
            self.undo_savepoint(point, point._before)


@fails("a_doomed_transaction_cannot_commit")
class IgnoresDoom(Faithful):
    class transactions(MemoryTransaction):
        def doom(self, error: BaseException) -> None:
            pass


@fails("the_first_doom_stays")
class LastDoomWins(Faithful):
    class transactions(MemoryTransaction):
        def doom(self, error: BaseException) -> None:
            self._doomed = error


@fails("nothing_works_after_the_end")
class NeverEnds(Faithful):
    class transactions(MemoryTransaction):
        def _open(self, what: str, *, end_if_doomed: bool = False) -> None:
            self._ended = None
            super()._open(what, end_if_doomed=end_if_doomed)


@fails("a_rollback_after_the_end_is_harmless")
class RollbackRaises(Faithful):
    found_by = UnitOfWorkClosed

    class transactions(MemoryTransaction):
        async def rollback(self) -> None:
            if self._ended is not None:
                raise UnitOfWorkClosed("too late")
            await super().rollback()


@fails("a_read_only_transaction_writes_nothing")
class ReadOnlyWrites(Faithful):
    def transaction(self, *, read_only: bool = False) -> MemoryTransaction:
        return super().transaction()


@fails("a_cancelled_wait_leaves_no_trace", "the_second_waits_and_takes_over")
class KeepsLocks(Faithful):
    class transactions(MemoryTransaction):
        async def rollback(self) -> None:
            self._session = None
            await super().rollback()


@fails("transient_errors_are_told_from_others")
class AllIsTransient(Faithful):
    def transient(self, error: BaseException) -> bool:
        return True


# Life


@fails("the_declaration_is_true")
class SaysItForgets(Faithful):
    durable = False


class _Restless(Faithful):
    starts = 0

    async def start(self, app: str, *, partitions: int) -> Sequence[str]:
        self.starts += 1
        return await super().start(app, partitions=partitions)


@fails("a_stopped_storage_starts_again")
class StartsOnce(_Restless):
    found_by = RuntimeError

    async def start(self, app: str, *, partitions: int) -> Sequence[str]:
        if self.starts:
            raise RuntimeError("was closed")
        return await super().start(app, partitions=partitions)


@fails("warnings_are_sentences")
class Mumbles(Faithful):
    async def start(self, app: str, *, partitions: int) -> Sequence[str]:
        await super().start(app, partitions=partitions)
        return ["synchronous"]


@fails("another_partition_count_is_refused")
class TakesAnyCount(Faithful):
    async def start(self, app: str, *, partitions: int) -> Sequence[str]:
        self.database.outboxes[app] = partitions
        return await super().start(app, partitions=partitions)


@fails("a_restart_keeps_everything")
class ForgetsAtStop(Faithful):
    async def stop(self) -> None:
        await super().stop()
        self.database = MemoryDatabase(clock=self.database.clock)


@fails("processes_share_the_data", "processes_write_at_once")
class TwinsShareNothing(Faithful):
    def twin(self) -> Faithful:
        return Faithful()


@fails("apps_do_not_see_each_other")
class OneOutboxForAll(Faithful):
    def transaction(self, *, read_only: bool = False) -> MemoryTransaction:
        return MemoryTransaction(self._open(), "conformance", read_only=read_only)


# Outbox


@fails("order_within_a_transaction", "concurrent_transactions_lose_nothing")
class ReversesBatches(Faithful):
    class transactions(MemoryTransaction):
        def enqueue(self, messages: Sequence[Message]) -> None:
            super().enqueue(messages[::-1])


class _Ready(Faithful):
    """Answers `ready` from all rows of the outbox, oldest first, as `seen` and `answer` say."""

    async def ready(
        self,
        queue: str,
        partitions: Sequence[int],
        *,
        limit: int,
        paused_topics: Sequence[str] = (),
    ) -> Sequence[Stored]:
        rows = await super().ready(queue, partitions, limit=10_000, paused_topics=paused_topics)
        return self.answer(rows)[:limit]

    def answer(self, rows: Sequence[Stored]) -> Sequence[Stored]:
        return rows


@fails("order_across_transactions", "the_limit_takes_the_oldest")
class NewestFirst(_Ready):
    def answer(self, rows: Sequence[Stored]) -> Sequence[Stored]:
        return rows[::-1]


@fails(
    "a_dead_letter_holds_its_key",
    "a_redriven_row_goes_before_those_it_held",
    "all_behind_a_dead_letter_go_in_order_when_it_is_redriven",
)
class FailuresMoveToTheEnd(_Ready):
    """Dead letters do not hold their key, and those that were redriven come last."""

    def answer(self, rows: Sequence[Stored]) -> Sequence[Stored]:
        ready = (row for row in self.database.rows.values() if row.state is State.READY)
        return sorted((row.stored() for row in ready), key=lambda row: row.failure is not None)


@fails("a_dead_letter_without_key_holds_nothing")
class NoKeyIsAKeyInTheOutbox(_Ready):
    def answer(self, rows: Sequence[Stored]) -> Sequence[Stored]:
        dead = any(
            row.state is State.DEAD and row.message.key is None
            for row in self.database.rows.values()
        )
        return [row for row in rows if row.message.key is not None or not dead]


@fails("a_position_is_never_reused")
class ReusesPositions(Faithful):
    async def delete(self, positions: Sequence[int]) -> None:
        await super().delete(positions)
        highest = max(self.database.rows, default=0)
        vars(self.database)["_numbers"] = itertools.count(highest + 1)


@fails("a_late_commit_is_not_skipped", "a_writer_held_open_across_a_drain")
class ReadsBehindTheHighest(_Ready):
    """Numbers rows when they are enqueued and reads only behind the highest number deleted."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        super().__init__(database)
        self.numbers: dict[str, int] = {}
        self.deleted = 0

    def transaction(self, *, read_only: bool = False) -> MemoryTransaction:
        numbers = self.numbers

        class Numbering(MemoryTransaction):
            def enqueue(self, messages: Sequence[Message]) -> None:
                super().enqueue(messages)
                for each in messages:
                    numbers[each.envelope.id] = len(numbers) + 1

        assert self._app is not None
        return Numbering(self.database, self._app)

    async def delete(self, positions: Sequence[int]) -> None:
        gone = [self.database.rows[p].message.envelope.id for p in positions]
        self.deleted = max(self.deleted, *(self.numbers[each] for each in gone))
        await super().delete(positions)

    def answer(self, rows: Sequence[Stored]) -> Sequence[Stored]:
        return [row for row in rows if self.numbers[row.message.envelope.id] > self.deleted]


@fails("the_limit_takes_the_oldest", "a_dead_letter_holds_its_key")
class NoLimit(Faithful):
    async def ready(
        self, queue: str, partitions: Sequence[int], **options: Any
    ) -> Sequence[Stored]:
        return await super().ready(queue, partitions, **options | {"limit": 1000})


@fails("a_row_stands_in_the_partition_of_its_key")
class ReadsAllPartitions(Faithful):
    async def ready(
        self, queue: str, partitions: Sequence[int], **options: Any
    ) -> Sequence[Stored]:
        return await super().ready(queue, range(100), **options)


@fails("paused_topics_are_left_out")
class PausesAfterTheLimit(Faithful):
    async def ready(
        self,
        queue: str,
        partitions: Sequence[int],
        *,
        limit: int,
        paused_topics: Sequence[str] = (),
    ) -> Sequence[Stored]:
        rows = await super().ready(queue, partitions, limit=limit)
        return [row for row in rows if row.message.topic not in paused_topics]


@fails(
    "a_dropped_row_releases_its_key",
    "a_drop_releases_the_key",
    "all_behind_a_dead_letter_go_in_order_when_it_is_dropped",
)
class DropKeepsTheRow(Faithful):
    async def drop(self, positions: Sequence[int], *, audit: AuditNote | None = None) -> int:
        return len(positions)


@fails("deletion_is_by_number")
class DeletesRanges(Faithful):
    async def delete(self, positions: Sequence[int]) -> None:
        await super().delete(range(min(positions), max(positions) + 1))


@fails("many_rows_are_deleted_at_once")
class TakesFewParameters(Faithful):
    found_by = RuntimeError

    async def delete(self, positions: Sequence[int]) -> None:
        if len(positions) > 999:
            raise RuntimeError("too many SQL variables")
        await super().delete(positions)


@fails("messages_are_kept_byte_for_byte", "a_parked_message_keeps_its_story")
class KeepsText(Faithful):
    class transactions(MemoryTransaction):
        def enqueue(self, messages: Sequence[Message]) -> None:
            super().enqueue([_as_text(each) for each in messages])

        def park(self, lease: Lease, message: Message, **options: Any) -> None:
            super().park(lease, _as_text(message), **options)


def _as_text(message: Message) -> Message:
    return structs.replace(message, data=message.data.decode(errors="replace").encode())


@fails("the_backlog_of_the_outbox", "the_backlog_of_a_group")
class CountsNothing(Faithful):
    async def backlog(self, queue: str) -> Backlog:
        return Backlog()


# Inbox


@fails(
    "a_message_is_new_once",
    "the_second_waits_and_finds_a_duplicate",
    "of_many_only_one_is_new",
    "a_parked_message_is_a_duplicate",
)
class ForgetsWhatItAdmitted(Faithful):
    class transactions(MemoryTransaction):
        def _apply(self) -> None:
            self._staged.inbox = ()
            super()._apply()


@fails(
    "a_rolled_back_message_is_new_again",
    "the_second_waits_and_takes_over",
    "a_batch_is_kept_or_undone_as_one",
)
class TriedIsSeen(Faithful):
    class transactions(MemoryTransaction):
        async def admit(
            self, lease: Lease, group: str, messages: Sequence[Message]
        ) -> Sequence[Verdict]:
            verdicts = await super().admit(lease, group, messages)
            for key in self._staged.inbox:
                self._database.inbox[key] = self._database.clock()
            return verdicts


@fails("the_second_waits_and_finds_a_duplicate")
class NobodyWaits(Faithful):
    class transactions(MemoryTransaction):
        def _locks(self) -> Any:
            self._database._locks.clear()
            return super()._locks()

        def _end(self, how: str) -> None:
            self._session = None
            super()._end(how)


@fails("another_source_or_group_is_another_message")
class IgnoresTheSource(Faithful):
    class transactions(MemoryTransaction):
        async def admit(
            self, lease: Lease, group: str, messages: Sequence[Message]
        ) -> Sequence[Verdict]:
            same = [
                structs.replace(m, envelope=structs.replace(m.envelope, source=""))
                for m in messages
            ]
            return await super().admit(lease, group, same)


@fails("a_parked_message_holds_its_key", "arrivals_wait_until_the_held_have_run")
class HoldsNothing(Faithful):
    class transactions(MemoryTransaction):
        def _holds(self, lease: Lease, message: Message) -> bool:
            return False


@fails("a_parked_message_holds_only_in_its_group")
class HoldsInAllGroups(Faithful):
    class transactions(MemoryTransaction):
        def _holds(self, lease: Lease, message: Message) -> bool:
            return any(queue.holds(message) for queue in self._database.queues.values())


@fails("a_message_without_key_is_never_held", "a_parked_message_holds_its_key")
class HoldsAll(Faithful):
    class transactions(MemoryTransaction):
        def _holds(self, lease: Lease, message: Message) -> bool:
            return bool(self._database.rows)


@fails("a_parked_message_is_a_duplicate")
class HeldIsNotSeen(Faithful):
    class transactions(MemoryTransaction):
        async def admit(
            self, lease: Lease, group: str, messages: Sequence[Message]
        ) -> Sequence[Verdict]:
            verdicts = await super().admit(lease, group, messages)
            if Verdict.HELD in verdicts:
                self._staged.inbox = ()
            return verdicts


@fails("old_inbox_rows_are_forgotten")
class ForgetsTheYoung(Faithful):
    async def forget(self, *, inbox_older_than_seconds: float, limit: int = 1000) -> int:
        return await super().forget(inbox_older_than_seconds=-1.0, limit=limit)


@fails("types_are_read_beside_a_writer")
class ReadsTypesAsAWriter(Faithful):
    async def learn_types(self, group: str, types: Sequence[str]) -> frozenset[str]:
        session = Session()
        for key in list(self.database._locks):
            await self.database.lock(key, session)
        self.database.unlock(session)
        return await super().learn_types(group, types)


# Batches


class _Admits(Faithful):
    """Admits messages otherwise than all together."""

    class transactions(MemoryTransaction):
        async def one(self, lease: Lease, group: str, message: Message) -> Verdict:
            [verdict] = await super().admit(lease, group, [message])
            return verdict


@fails("each_of_a_batch_has_its_own_verdict", "of_a_repeat_in_a_batch_the_first_is_new")
class JudgesByTheFirst(_Admits):
    class transactions(_Admits.transactions):
        async def admit(
            self, lease: Lease, group: str, messages: Sequence[Message]
        ) -> Sequence[Verdict]:
            return [await self.one(lease, group, messages[0])] * len(messages)


@fails("of_a_repeat_in_a_batch_the_first_is_new")
class SortsTheVerdicts(_Admits):
    class transactions(_Admits.transactions):
        async def admit(
            self, lease: Lease, group: str, messages: Sequence[Message]
        ) -> Sequence[Verdict]:
            in_order = sorted(messages, key=lambda m: m.envelope.id)
            return await super().admit(lease, group, in_order)


@fails("an_empty_batch_checks_the_token")
class ChecksWithEachMessage(_Admits):
    class transactions(_Admits.transactions):
        async def admit(
            self, lease: Lease, group: str, messages: Sequence[Message]
        ) -> Sequence[Verdict]:
            return await super().admit(lease, group, messages) if messages else []


@fails("batches_that_cross_do_not_lock_each_other_out")
class LocksAsTheyCome(_Admits):
    found_by = (AssertionError, StorageBusy)  # type: ignore[assignment]

    class transactions(_Admits.transactions):
        async def admit(
            self, lease: Lease, group: str, messages: Sequence[Message]
        ) -> Sequence[Verdict]:
            verdicts: list[Verdict] = []
            for each in messages:
                verdicts.append(await self.one(lease, group, each))
                await asyncio.sleep(0)
            return verdicts


@fails("parts_commit_together")
class EachPartBeginsAnew(Faithful):
    class transactions(MemoryTransaction):
        async def end_part(self) -> None:
            await super().end_part()
            self._staged = Staged()


@fails("a_doomed_part_dooms_all")
class ForgetsTheDoom(Faithful):
    class transactions(MemoryTransaction):
        async def end_part(self) -> None:
            self._doomed = None
            await super().end_part()


@fails("types_add_up")
class LearnsAnew(Faithful):
    async def learn_types(self, group: str, types: Sequence[str]) -> frozenset[str]:
        return frozenset(types)


# Parked messages


class _Parks(Faithful):
    """Stores what is parked otherwise than asked."""

    changes: dict[str, Any] = {}

    def transaction(self, *, read_only: bool = False) -> MemoryTransaction:
        changes = self.changes

        class Changing(MemoryTransaction):
            def park(self, lease: Lease, message: Message, **options: Any) -> None:
                super().park(lease, message, **options | changes)

        assert self._app is not None
        return Changing(self._open(), self._app, read_only=read_only)


@fails(
    "a_waiting_message_runs_when_it_is_due",
    "a_waiting_message_holds_its_key",
    "due_in_tells_when_to_look_again",
)
class WaitsForNothing(_Parks):
    changes = {"delay_seconds": 0.0}


@fails("a_parked_message_keeps_its_story")
class LosesTheFailure(_Parks):
    changes = {"failure": None}


@fails("a_ready_message_is_runnable_at_once")
class AllWaits(_Parks):
    changes = {"state": State.WAITING, "delay_seconds": 99.0}


@fails("a_resume_that_is_rolled_back_keeps_the_message")
class ResumeDeletesAtOnce(Faithful):
    class transactions(MemoryTransaction):
        async def resume(self, lease: Lease, stored: Stored) -> bool:
            resumed = await super().resume(lease, stored)
            self._database.remove(stored.position)
            return resumed


@fails("a_resume_finds_out_what_changed")
class ResumesAnything(Faithful):
    class transactions(MemoryTransaction):
        async def resume(self, lease: Lease, stored: Stored) -> bool:
            await super().resume(lease, stored)
            return True


@fails("an_attempt_is_counted_before_it_runs")
class CountsNoAttempt(Faithful):
    async def attempt(self, lease: Lease, stored: Stored) -> bool:
        await self._own(lease)
        return True


@fails("an_attempt_is_counted_before_it_runs")
class CountsARepeatedAttempt(Faithful):
    async def attempt(self, lease: Lease, stored: Stored) -> bool:
        row = self.database.rows.get(stored.position)
        before = 0 if row is None else row.attempts
        counted = await super().attempt(lease, stored)
        if row is not None and counted:
            row.attempts = before + 1
        return counted


@fails(
    "a_dead_letter_holds_its_key_only",
    "a_waiting_message_holds_its_key",
    "a_redrive_releases_in_order",
    "failing_again_keeps_the_place",
    "a_repark_may_wait",
)
class RunsInAnyOrder(Faithful):
    async def runnable(
        self, queue: str, partitions: Sequence[int], *, limit: int
    ) -> Sequence[Stored]:
        rows = [row.stored() for row in self.database.rows.values() if row.queue == queue]
        return [row for row in rows if row.state in (State.READY, State.HELD)][::-1][:limit]


@fails("messages_without_key_hold_nothing")
class NoKeyIsAKey(Faithful):
    async def runnable(
        self, queue: str, partitions: Sequence[int], *, limit: int
    ) -> Sequence[Stored]:
        rows = await super().runnable(queue, partitions, limit=limit)
        dead = [row for row in await self.dead_letters(queue=queue) if row.message.key is None]
        return [row for row in rows if not dead or row.message.key is not None]


@fails("a_repark_without_a_failure_keeps_the_last")
class ReparksWithoutAStory(Faithful):
    async def repark(self, lease: Lease, stored: Stored, **options: Any) -> None:
        await super().repark(lease, stored, **options)
        if options.get("failure") is None and stored.position in self.database.rows:
            self.database.rows[stored.position].failure = None


@fails("a_row_that_is_gone_is_not_put_back")
class ReparksWhatIsGone(Faithful):
    async def repark(self, lease: Lease, stored: Stored, **options: Any) -> None:
        if stored.position not in self.database.rows:
            self.database.insert([structs.replace(stored, state=State.READY)])
        await super().repark(lease, stored, **options)


@fails("failing_again_keeps_the_place", "a_repark_may_wait")
class ReparksAtTheEnd(Faithful):
    async def repark(self, lease: Lease, stored: Stored, **options: Any) -> None:
        await super().repark(lease, stored, **options)
        changed = self.database.rows[stored.position].stored()
        self.database.remove(stored.position)
        self.database.insert([changed])


@fails("only_dead_letters_are_redriven_or_dropped")
class RedrivesAnything(Faithful):
    async def redrive(self, positions: Sequence[int]) -> int:
        await super().redrive(positions)
        return len(positions)


@fails("runnable_takes_the_oldest_of_its_partitions")
class RunsAllPartitions(Faithful):
    async def runnable(
        self, queue: str, partitions: Sequence[int], *, limit: int
    ) -> Sequence[Stored]:
        return await super().runnable(queue, range(100), limit=limit)


@fails("due_in_tells_when_to_look_again")
class AlwaysDue(Faithful):
    async def due_in(self, queue: str, partitions: Sequence[int]) -> float | None:
        return 0.0


@fails("dead_letters_come_in_pages")
class OnePage(Faithful):
    async def dead_letters(
        self, *, queue: str | None = None, after: int = 0, limit: int = 100
    ) -> Sequence[Stored]:
        return await super().dead_letters(queue=queue, limit=limit)


# Deferred


@fails("deferred_messages_come_with_the_commit", "deferred_messages_of_a_rollback_are_not_stored")
class DefersAtOnce(Faithful):
    class transactions(MemoryTransaction):
        def defer(self, queue: str, messages: Sequence[tuple[int, Message]]) -> None:
            self._write("defer")
            self._database.insert(Stored(0, queue, p, m) for p, m in messages)


@fails("a_savepoint_undoes_what_was_deferred_in_it")
class SavepointsKeepWhatWasDeferred(Faithful):
    class transactions(MemoryTransaction):
        def undo_savepoint(self, point: MemorySavepoint, before: Staged) -> None:
            super().undo_savepoint(point, replace(before, deferred=self._staged.deferred))


@fails("a_read_only_transaction_defers_nothing")
class QueriesDefer(Faithful):
    class transactions(MemoryTransaction):
        def defer(self, queue: str, messages: Sequence[tuple[int, Message]]) -> None:
            self._read_only = False
            super().defer(queue, messages)


@fails("a_deferred_message_goes_with_its_effects")
class DeferredMessagesStay(Faithful):
    class transactions(MemoryTransaction):
        async def resume(self, lease: Lease, stored: Stored) -> bool:
            resumed = await super().resume(lease, stored)
            if stored.queue.startswith("after:"):
                self._staged.resumed = ()
            return resumed


# Leases


@fails("owners_are_told")
class TellsNoOwners(Faithful):
    async def owners(self, queue: str) -> Mapping[int, Owner | None]:
        return dict.fromkeys(await super().owners(queue))


@fails("owners_are_told")
class ForgetsWhoDied(Faithful):
    async def owners(self, queue: str) -> Mapping[int, Owner | None]:
        found = await super().owners(queue)
        return {p: one if one and one.expires_seconds > 0 else None for p, one in found.items()}


@fails("a_partition_has_one_owner", "a_late_renewal_does_not_steal_back")
class LeasesToAll(Faithful):
    async def lease(self, queue: str, owner: str, *, partitions: int, seconds: float) -> LeaseGrant:
        for row in self._rows(queue):
            row.owner = None
        return await super().lease(queue, owner, partitions=partitions, seconds=seconds)

    def _rows(self, queue: str) -> list[Any]:
        table = self.database.leases._queues.get(queue)
        return list(table.partitions.values()) if table else []


@fails("shares_are_fair", "surplus_is_named")
class Greedy(Faithful):
    async def lease(self, queue: str, owner: str, *, partitions: int, seconds: float) -> LeaseGrant:
        table = self.database.leases._queues.get(queue)
        if table:
            table.owners.clear()
        return await super().lease(queue, owner, partitions=partitions, seconds=seconds)


class _Grants(Faithful):
    """Answers `lease` with other leases than it stored."""

    changes: dict[str, Any] = {}

    async def lease(self, queue: str, owner: str, *, partitions: int, seconds: float) -> LeaseGrant:
        grant = await super().lease(queue, owner, partitions=partitions, seconds=seconds)
        return LeaseGrant(tuple(self.changed(lease) for lease in grant.held), grant.surplus)

    def changed(self, lease: Lease) -> Lease:
        return replace(lease, **self.changes)


@fails("a_token_grows_at_each_acquisition", "an_expired_lease_is_taken_over")
class OneTokenForAll(_Grants):
    changes = {"token": 1}


@fails("a_token_grows_at_each_acquisition")
class RenewalsRaiseTheToken(_Grants):
    def changed(self, lease: Lease) -> Lease:
        row = self.database.leases._queues[lease.queue].partitions[lease.partition]
        row.token += 1
        return replace(lease, token=row.token)


@fails("an_expired_lease_is_taken_over")
class NeverUnclean(_Grants):
    changes = {"unclean": False}


@fails("a_released_lease_is_clean")
class AlwaysUnclean(_Grants):
    changes = {"unclean": True}


@fails("the_position_survives_a_takeover")
class LosesThePosition(_Grants):
    changes = {"position": None}


@fails("the_deadline_is_never_late")
class LateDeadline(_Grants):
    def changed(self, lease: Lease) -> Lease:
        return replace(lease, deadline=lease.deadline + 1.0)


@fails("an_expired_lease_is_taken_over", "a_dead_owner_is_not_counted")
class NeverExpires(Faithful):
    async def lease(self, queue: str, owner: str, *, partitions: int, seconds: float) -> LeaseGrant:
        return await super().lease(queue, owner, partitions=partitions, seconds=seconds * 1000)


@fails("a_renewal_puts_the_expiry_off")
class RenewsNothing(LeasesToAll):
    async def lease(self, queue: str, owner: str, *, partitions: int, seconds: float) -> LeaseGrant:
        before = {id(row): (row.owner, row.expires_at) for row in self._rows(queue)}
        grant = await Faithful.lease(self, queue, owner, partitions=partitions, seconds=seconds)
        for row in self._rows(queue):
            held_by, expires_at = before.get(id(row), (None, 0.0))
            if held_by == owner == row.owner:
                row.expires_at = expires_at
        return grant


@fails("a_late_release_changes_nothing")
class ReleasesAnyToken(Faithful):
    async def release(
        self, queue: str, owner: str, leases: Sequence[Lease], *, leaving: bool = False
    ) -> None:
        await super().release(queue, owner, leases, leaving=leaving)
        for lease in leases:
            self.database.leases._queues[lease.queue].partitions[lease.partition].owner = None


@fails("who_leaves_is_not_counted")
class NobodyLeaves(Faithful):
    async def release(
        self, queue: str, owner: str, leases: Sequence[Lease], *, leaving: bool = False
    ) -> None:
        await super().release(queue, owner, leases)


@fails("who_leaves_with_nothing_is_not_counted")
class LeavesByItsLeases(Faithful):
    async def release(
        self, queue: str, owner: str, leases: Sequence[Lease], *, leaving: bool = False
    ) -> None:
        if leases:
            await super().release(queue, owner, leases, leaving=leaving)


@fails("a_release_names_its_queue")
class LeavesAllQueues(Faithful):
    async def release(
        self, queue: str, owner: str, leases: Sequence[Lease], *, leaving: bool = False
    ) -> None:
        for table in self.database.leases._queues.values():
            for row in table.partitions.values():
                row.owner = None if row.owner == owner else row.owner


@fails(
    "a_lost_lease_admits_nothing",
    "a_lost_lease_resumes_nothing",
    "a_lost_lease_counts_no_attempt",
    "a_lost_lease_puts_nothing_back",
    "a_lost_lease_parks_nothing",
    "a_lost_lease_moves_no_position",
    "a_takeover_during_a_transaction_has_one_winner",
)
class NoFence(Faithful):
    def __init__(self, database: MemoryDatabase | None = None) -> None:
        super().__init__(database)
        vars(self.database.leases)["check"] = lambda lease: None


@fails("a_lost_lease_admits_nothing", "a_lost_lease_admits_no_batch")
class RemembersWhatItRefused(Faithful):
    class transactions(MemoryTransaction):
        async def admit(
            self, lease: Lease, group: str, messages: Sequence[Message]
        ) -> Sequence[Verdict]:
            try:
                return await super().admit(lease, group, messages)
            except LeaseLost:
                for message in messages:
                    key = (group, message.envelope.source, message.envelope.id)
                    self._database.inbox[key] = self._database.clock()
                raise


# Inspection


@fails("dead_letters_are_chosen_by_topic_and_error")
class ChoosesAfterTheLimit(Faithful):
    async def dead_letters(
        self,
        *,
        queue: str | None = None,
        after: int = 0,
        limit: int = 100,
        error: str | None = None,
        topic: str | None = None,
    ) -> Sequence[Stored]:
        page = await super().dead_letters(queue=queue, after=after, limit=limit)
        return [
            row
            for row in page
            if topic in {None, row.message.topic}
            and error in {None, row.failure.error if row.failure else ""}
        ]


@fails("dead_letters_are_counted_by_error")
class ShowsTheOldest(Faithful):
    async def dead_errors(self, *, queue: str | None = None) -> Sequence[DeadErrors]:
        found: list[DeadErrors] = []
        for each in await super().dead_errors(queue=queue):
            failure = self.database.rows[each.first_position].failure
            found.append(structs.replace(each, sample=failure.message if failure else ""))
        return found


@fails("what_waits_behind_a_dead_letter_is_counted", "people_look_beside_a_writer")
class CountsTheWholeQueue(Faithful):
    async def behind(self, position: int) -> int:
        row = self.database.rows.get(position)
        if row is None:
            return 0
        return sum(other.queue == row.queue for other in self.database.rows.values())


@fails("what_waits_in_the_outbox_is_counted")
class CountsWhatIsMarked(Faithful):
    async def behind(self, position: int) -> int:
        rows = self.database.rows.values()
        lanes = {row.lane for row in rows if row.position == position}
        return sum(row.lane in lanes and row.state is State.HELD for row in rows)


@fails("messages_are_found_by_what_they_are")
class FindsWhatIsParked(Faithful):
    async def find(self, **given: Any) -> Sequence[Stored]:
        found = await super().find(**given)
        return [row for row in found if row.queue.startswith("group:")]


@fails("any_id_is_found")
class FindsByTheBeginning(Faithful):
    async def find(self, **given: Any) -> Sequence[Stored]:
        wanted = given.pop("id", None)
        found = await super().find(**given)
        return [row for row in found if row.message.envelope.id.startswith(wanted or "")]


@fails("what_one_request_caused_is_found")
class FindsRequestsByTheBeginning(Faithful):
    async def find(self, **given: Any) -> Sequence[Stored]:
        wanted = given.pop("correlation", None) or ""
        found = await super().find(**given)
        return [r for r in found if (r.message.envelope.correlationid or "").startswith(wanted)]


@fails("people_look_beside_a_writer")
class LooksUnderALease(Faithful):
    async def find(self, **given: Any) -> Sequence[Stored]:
        session = Session()
        for queue, table in self.database.leases._queues.items():
            for partition in table.partitions:
                await self.database.lock(("lease", queue, partition), session)
        self.database.unlock(session)
        return await super().find(**given)


@fails("the_inbox_tells_what_was_handled")
class TellsOfAllGroups(Faithful):
    async def handled(self, id: str, **given: Any) -> Sequence[Handled]:
        return await super().handled(id, sources=given.get("sources", ()))


@fails("a_dead_letter_gets_another_body")
class KeepsTheBody(Faithful):
    async def rewrite(self, position: int, data: bytes, *, audit: AuditNote | None = None) -> bool:
        row = self.database.rows.get(position)
        return await super().rewrite(position, row.message.data if row else b"", audit=audit)


@fails("only_dead_letters_get_another_body")
class RewritesAnything(Faithful):
    async def rewrite(self, position: int, data: bytes, *, audit: AuditNote | None = None) -> bool:
        row = self.database.rows.get(position)
        if row is None:
            return False
        row.message = structs.replace(row.message, data=data)
        return True


@fails("a_process_says_how_it_is")
class KeepsTheFirstWord(Faithful):
    async def pulse(self, app: str, process: str, data: bytes, *, seconds: float) -> None:
        if (app, process) not in self.database.records.said:
            await super().pulse(app, process, data, seconds=seconds)


@fails("a_process_that_is_silent_is_not_shown")
class ShowsTheSilent(Faithful):
    async def pulse(self, app: str, process: str, data: bytes, *, seconds: float) -> None:
        await super().pulse(app, process, data, seconds=seconds * 1000)


@fails("what_people_did_is_recorded")
class OldestRecordsFirst(Faithful):
    async def audits(
        self, app: str, *, before: int | None = None, limit: int = 100
    ) -> Sequence[Audit]:
        return (await super().audits(app, before=before, limit=10_000))[::-1][:limit]


@fails("a_change_and_its_record_are_one", "only_dead_letters_get_another_body")
class RecordsWhatWasAsked(Faithful):
    async def redrive(self, positions: Sequence[int], *, audit: AuditNote | None = None) -> int:
        self._note(audit)
        return await super().redrive(positions)

    async def rewrite(self, position: int, data: bytes, *, audit: AuditNote | None = None) -> bool:
        self._note(audit)
        return await super().rewrite(position, data)
