"""Clauses about what people look at and mend: dead letters, messages by id and key, pulses, audit records."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.envelope import Message
from headrace.storage import (
    AuditNote,
    DeadErrors,
    Failure,
    Lease,
    State,
    Storage,
    Stored,
    outbox_queue,
)
from headrace.testing.conformance.kit import holds, only, same
from headrace.testing.conformance.samples import message, numbered, unusual
from headrace.testing.conformance.storage_outbox import texts
from headrace.testing.conformance.storage_steps import (
    APP,
    BOOM,
    GROUP,
    LONG_SECONDS,
    OUTBOX,
    PARTITIONS,
    QUEUE,
    StorageSteps,
)

NOTE = AuditNote(APP, "ann", "mend", "as a clause wants it")
OTHER = Failure("KeyError", "gone")


class InspectionClauses(StorageSteps):
    """What is stored can be seen and mended by people, at any size, and what they did is recorded (G9, G13)."""

    async def buried(
        self, storage: Storage, lease: Lease, each: Message, failure: Failure | None
    ) -> Stored:
        """A dead letter of these, whatever its topic."""
        async with self.opened(storage) as transaction:
            transaction.park(lease, each, state=State.DEAD, failure=failure)
            await transaction.commit()
        return (await storage.dead_letters(queue=lease.queue, limit=1000))[-1]

    async def one_dead(self, storage: Storage) -> Stored:
        """The only dead letter."""
        return await self.buried(storage, await self.lease(storage), message(), BOOM)

    async def test_dead_letters_are_chosen_by_topic_and_error(self) -> None:
        """`dead_letters` gives those of a topic and of a type of error, the first `limit` of them (G13)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            for number, (topic, failure) in enumerate(
                [("orders", BOOM), ("orders", OTHER), ("bills", BOOM), ("orders", None)] * 2
            ):
                each = message(f"key {number}", str(number).encode(), topic=topic)
                await self.buried(storage, lease, each, failure)

            async def found(
                *, queue: str | None = None, topic: str | None = None, error: str | None = None
            ) -> list[bytes]:
                rows = await storage.dead_letters(queue=queue, topic=topic, error=error, limit=2)
                return texts(list(rows))

            same(await found(topic="bills"), [b"2", b"6"], "those of a topic")
            same(await found(error="KeyError"), [b"1", b"5"], "those with an error")
            same(await found(error="ValueError", topic="bills"), [b"2", b"6"], "those with both")
            same(await found(error=""), [b"3", b"7"], "those without a failure")
            same(await found(queue=QUEUE, error="ValueError"), [b"0", b"2"], "those of a queue")
            same(await found(topic="unknown"), [], "those of an unknown topic")
            page = await storage.dead_letters(error="ValueError", limit=2)
            page = await storage.dead_letters(error="ValueError", after=page[-1].position)
            same(texts(list(page)), [b"4", b"6"], "the second page")

    async def test_dead_letters_are_counted_by_error(self) -> None:
        """`dead_errors` counts by queue, topic and error, the largest first, with the newest one's message (G13)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            other = await self.lease(storage, queue="group:other/orders")
            rows = [
                await self.buried(storage, each, message(f"key {number}", topic=topic), failure)
                for number, (each, topic, failure) in enumerate(
                    [
                        (lease, "orders", OTHER),
                        (lease, "orders", BOOM),
                        (lease, "bills", None),
                        (lease, "orders", Failure(BOOM.error, "boom again")),
                        (other, "orders", BOOM),
                    ]
                )
            ]
            at = [row.position for row in rows]
            await self.park(storage, lease, message("held"), state=State.HELD, failure=BOOM)
            booms = DeadErrors(QUEUE, "orders", BOOM.error, 2, at[1], at[3], "boom again")
            gone = DeadErrors(QUEUE, "orders", OTHER.error, 1, at[0], at[0], "gone")
            none = DeadErrors(QUEUE, "bills", "", 1, at[2], at[2], "")
            elsewhere = DeadErrors(other.queue, "orders", BOOM.error, 1, at[4], at[4], "boom")
            found = list(await storage.dead_errors())
            same(found, [booms, gone, none, elsewhere], "the errors")
            found = list(await storage.dead_errors(queue=other.queue))
            same(found, [elsewhere], "the errors of one queue")

    async def test_what_waits_behind_a_dead_letter_is_counted(self) -> None:
        """`behind` counts later messages of the same queue, topic and key, and no others (G9, G13)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            dead = await self.dead_then_held(storage, lease, numbered(4))
            await self.park(storage, lease, message("other"), state=State.HELD)
            same(await storage.behind(dead.position), 3, "those behind the first")
            await storage.drop([dead.position])
            same(await storage.behind(dead.position), 0, "those behind one that is gone")
            await self.park(storage, lease, message(None), message(None), state=State.DEAD)
            keyless, _ = await storage.dead_letters(queue=QUEUE)
            same(await storage.behind(keyless.position), 0, "those behind one without a key")

    async def test_what_waits_in_the_outbox_is_counted(self) -> None:
        """`behind` counts messages of the outbox that the relay has not looked at too (G9, G13)."""
        async with self.running() as storage:
            await self.enqueue(storage, *numbered(3), message("other"))
            first, *_ = await self.outbox(storage)
            grant = await storage.lease(OUTBOX, "a", partitions=PARTITIONS, seconds=LONG_SECONDS)
            lease = next(one for one in grant.held if one.partition == first.partition)
            await storage.repark(lease, first, state=State.DEAD, failure=BOOM)
            same(await storage.behind(first.position), 2)

    async def test_messages_are_found_by_what_they_are(self) -> None:
        """`find` gives stored messages in any state by id, topic, key and queue, oldest first, at most `limit` (G13)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            dead, held = numbered(2, "a")
            sent = [message("a", b"2"), message("b", b"3"), message("a", b"4", topic="bills")]
            await self.park(storage, lease, dead, state=State.DEAD, failure=BOOM)
            await self.park(storage, lease, held, state=State.HELD)
            await self.enqueue(storage, *sent)

            async def found(
                *,
                id: str | None = None,  # noqa: A002 - as in the protocol
                topic: str | None = None,
                key: str | None = None,
                queue: str | None = None,
                limit: int = 100,
            ) -> list[bytes]:
                rows = await storage.find(id=id, topic=topic, key=key, queue=queue, limit=limit)
                return texts(list(rows))

            same(await found(key="a"), [b"0", b"1", b"2", b"4"], "those of a key")
            same(await found(key="a", topic="orders"), [b"0", b"1", b"2"], "of a topic and key")
            same(await found(key="a", queue=QUEUE), [b"0", b"1"], "of a key in a queue")
            same(await found(queue=outbox_queue(APP)), [b"2", b"3", b"4"], "of a queue")
            same(await found(limit=2, key="a"), [b"0", b"1"], "the first two")
            same(await found(id=sent[1].envelope.id), [b"3"], "the one of an id")
            same(await found(id=sent[1].envelope.id, key="a"), [], "of an id, with another key")
            same(await found(id="unknown"), [], "of an unknown id")
            row = only(await storage.find(id=dead.envelope.id))
            same((row.message, row.state, row.failure), (dead, State.DEAD, BOOM))

    async def test_what_one_request_caused_is_found(self) -> None:
        """`find` gives the messages of a correlation id, and none that has it elsewhere (G13)."""
        async with self.running() as storage:
            sent = [
                message(message_id="1", correlation="r1"),
                message(message_id="2", correlation="r2"),
                message(message_id="3", correlation="r1"),
                message(message_id="r1", correlation="r10"),
            ]
            await self.enqueue(storage, *sent)
            found = await storage.find(correlation="r1")
            same([row.message.envelope.id for row in found], ["1", "3"], "those of a request")

    async def test_any_id_is_found(self) -> None:
        """`find` finds ids of any letters, and of two that begin alike the right one (G13, G14)."""
        async with self.running() as storage:
            ids = ["1", "12", 'a"b', "a\\", "ünïque", "%", "_", "ключ 鍵 🔑", "</x>"]
            await self.enqueue(storage, *(message(message_id=each) for each in ids), unusual()[-1])
            for each in [*ids, unusual()[-1].envelope.id]:
                found = await storage.find(id=each)
                same([row.message.envelope.id for row in found], [each], f"what has the id {each}")

    async def test_people_look_beside_a_writer(self) -> None:
        """Whoever looks waits for nobody who writes, and sees what is committed (G13)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            dead = await self.dead_then_held(storage, lease, numbered(2))
            async with self.opened(storage) as writer:
                await writer.admit(lease, GROUP, [message("w")])
                writer.enqueue([message()])
                same(len(await self.in_time(storage.find(key="k"))), 2, "what is found")
                same(len(await self.in_time(storage.dead_errors())), 1, "the errors")
                same(await self.in_time(storage.behind(dead.position)), 1, "what waits behind")
                same(await self.in_time(storage.audits(APP)), [], "the records")
                same(await self.in_time(storage.pulses(APP)), [], "the pulses")
                await writer.commit()

    async def test_the_inbox_tells_what_was_handled(self) -> None:
        """`handled` gives groups, sources and times of an id that was handled or parked, those asked for alone (G7, G13)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            other = await self.lease(storage, queue="group:other/orders")
            shop, till = (message(message_id="1", source=one) for one in ("shop", "till"))
            await self.handle(storage, lease, shop)
            await self.handle(storage, lease, till)
            await self.handle(storage, other, shop, "other")
            await self.park(storage, lease, message("p", message_id="2"), state=State.DEAD)
            await self.handle(storage, lease, message("n", message_id="3"))

            async def seen(
                id_: str, groups: Sequence[str] | None = None, sources: Sequence[str] = ()
            ) -> list[tuple[str, str, str]]:
                found = await storage.handled(id_, groups=groups, sources=sources)
                holds(all(each.at > 1_600_000_000 for each in found), "a time is no UTC time")
                return sorted((each.group, each.source, each.id) for each in found)

            all_of_one = [(GROUP, "shop", "1"), (GROUP, "till", "1"), ("other", "shop", "1")]
            same(await seen("1"), all_of_one, "all of an id")
            same(await seen("1", [GROUP]), all_of_one[:2], "of one group")
            same(await seen("1", [GROUP, "other"], ["shop"]), [all_of_one[0], all_of_one[2]])
            same(await seen("1", sources=["till"]), [all_of_one[1]], "of one source")
            same(await seen("1", []), [], "of no group")
            same(await seen("2"), [(GROUP, "shop", "2")], "one that was parked")
            same(await seen("4"), [], "one that nobody has seen")

    async def test_a_dead_letter_gets_another_body(self) -> None:
        """`rewrite` replaces the body of a dead letter and nothing else; redriven, it runs with the new one (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            dead = await self.dead_then_held(storage, lease, numbered(2))
            body = bytes(range(256))
            same(await storage.rewrite(dead.position, body), True)
            after = only(await storage.dead_letters())
            same(after.message.data, body, "the body")
            same(after.message.envelope, dead.message.envelope, "the envelope")
            same((after.position, after.attempts, after.failure), (dead.position, 5, BOOM))
            await storage.redrive([dead.position])
            row = only(await self.runnable(storage))
            same((row.position, row.message.data), (dead.position, body))

    async def test_only_dead_letters_get_another_body(self) -> None:
        """`rewrite` answers False, and changes nothing, for what is ready, held or gone (G9)."""
        async with self.running() as storage:
            dead = await self.one_dead(storage)
            await storage.redrive([dead.position])
            for position in (dead.position, dead.position + 1000):
                same(await storage.rewrite(position, b"new", audit=NOTE), False)
            same(only(await self.runnable(storage)).message.data, dead.message.data, "the body")
            same(list(await storage.audits(APP)), [], "the records")

    async def test_a_process_says_how_it_is(self) -> None:
        """`pulses` gives what each process of an app has last said, and how long ago (G13)."""
        async with self.running() as storage:
            for process, data in (("b", b"1"), ("a", b"\x00\xff"), ("b", b"2")):
                await storage.pulse(APP, process, data, seconds=LONG_SECONDS)
            await storage.pulse("other", "c", b"3", seconds=LONG_SECONDS)
            found = await storage.pulses(APP)
            same([(one.process, one.data) for one in found], [("a", b"\x00\xff"), ("b", b"2")])
            ages = [one.age_seconds for one in found]
            holds(all(0.0 <= age < LONG_SECONDS for age in ages), f"the ages are {ages}")

    async def test_a_process_that_is_silent_is_not_shown(self) -> None:
        """What a process said ends after its time, unless it says something again; `forget` leaves the others (G13)."""
        async with self.running() as storage:
            for process, seconds in (("a", self.short_seconds), ("b", LONG_SECONDS)):
                await storage.pulse(APP, process, b"1", seconds=seconds)
            await self.pass_seconds(self.short_seconds * 1.2)
            same([one.process for one in await storage.pulses(APP)], ["b"])
            await storage.forget(inbox_older_than_seconds=LONG_SECONDS)
            same([one.process for one in await storage.pulses(APP)], ["b"], "those not forgotten")
            await storage.pulse(APP, "a", b"2", seconds=LONG_SECONDS)
            same([one.data for one in await storage.pulses(APP)], [b"2", b"1"])

    async def test_what_people_did_is_recorded(self) -> None:
        """`audits` gives the records of an app, newest first, in pages, as they were written (G13)."""
        async with self.running() as storage:
            for number in range(5):
                await storage.audit(APP, "ann", "look", f"at {number}")
            await storage.audit("other", "bob", "look", "elsewhere")
            await storage.audit(APP, "", "ключ 鍵 🔑", "x" * 20_000)
            last, *rest = await storage.audits(APP)
            same((last.who, last.action, len(last.detail)), ("", "ключ 鍵 🔑", 20_000))
            same([one.detail for one in rest], [f"at {number}" for number in (4, 3, 2, 1, 0)])
            holds(all(one.at > 1_600_000_000 for one in rest), "a time is no UTC time")
            page = await storage.audits(APP, before=rest[1].number, limit=2)
            same([one.detail for one in page], ["at 2", "at 1"], "a page")

    async def test_a_change_and_its_record_are_one(self) -> None:
        """Redrive, drop and rewrite write their note if, and only if, they changed something (G9, G13)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            one, two = [
                await self.buried(storage, lease, message(f"key {number}"), BOOM)
                for number in range(2)
            ]

            async def records() -> int:
                return len(await storage.audits(APP))

            same(await storage.rewrite(one.position, b"new"), True)
            same(await records(), 0, "the records of a change without a note")
            same(await storage.rewrite(one.position, b"newer", audit=NOTE), True)
            same(await records(), 1, "the records after a rewrite")
            same(await storage.redrive([one.position], audit=NOTE), 1)
            same(await records(), 2, "the records after a redrive")
            same(await storage.drop([two.position, one.position], audit=NOTE), 1)
            same(await records(), 3, "the records after a drop")
            for position in (one.position, two.position):
                same(await storage.redrive([position], audit=NOTE), 0)
                same(await storage.drop([position], audit=NOTE), 0)
            same(await records(), 3, "the records after changes that changed nothing")
            last = (await storage.audits(APP))[0]
            same((last.who, last.action, last.detail), (NOTE.who, NOTE.action, NOTE.detail))
