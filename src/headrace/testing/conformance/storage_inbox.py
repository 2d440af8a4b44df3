"""Clauses about the inbox: effects once, whoever tries at the same time."""

from __future__ import annotations

import asyncio

from headrace.storage import State, Verdict, group_queue
from headrace.testing.conformance.kit import same
from headrace.testing.conformance.samples import message, numbered
from headrace.testing.conformance.storage_steps import GROUP, LONG_SECONDS, StorageSteps


class InboxClauses(StorageSteps):
    """The effects of a message happen once per (group, source, id) (G7)."""

    async def test_a_message_is_new_once(self) -> None:
        """A message is NEW, and DUPLICATE after a commit that admitted it (G7)."""
        async with self.running() as storage:
            lease, first = await self.lease(storage), message()
            same(await self.handle(storage, lease, first), Verdict.NEW)
            same(await self.handle(storage, lease, first), Verdict.DUPLICATE)
            same(await self.handle(storage, lease, message()), Verdict.NEW)

    async def test_a_rolled_back_message_is_new_again(self) -> None:
        """Only a committed inbox row means duplicate: after a rollback the message is NEW (G7)."""
        async with self.running() as storage:
            lease, tried = await self.lease(storage), message()
            async with self.opened(storage) as transaction:
                same(await transaction.admit(lease, GROUP, [tried]), [Verdict.NEW])
                await transaction.rollback()
            same(await self.handle(storage, lease, tried), Verdict.NEW)

    async def test_the_second_waits_and_finds_a_duplicate(self) -> None:
        """Who admits the same message at the same time waits, and gets DUPLICATE if the first commits (G7)."""
        async with self.running() as storage:
            one, two = await self.leases(storage, 2)
            wanted = message()
            async with self.opened(storage) as first, self.opened(storage) as second:
                same(await first.admit(one, GROUP, [wanted]), [Verdict.NEW])
                waiting = await self.started(second.admit(two, GROUP, [wanted]))
                await first.commit()
                same(await self.in_time(waiting), [Verdict.DUPLICATE])
                await second.rollback()

    async def test_the_second_waits_and_takes_over(self) -> None:
        """Who admits the same message at the same time waits, and gets NEW if the first rolls back (G7)."""
        async with self.running() as storage:
            one, two = await self.leases(storage, 2)
            wanted = message()
            async with self.opened(storage) as first, self.opened(storage) as second:
                same(await first.admit(one, GROUP, [wanted]), [Verdict.NEW])
                waiting = await self.started(second.admit(two, GROUP, [wanted]))
                await first.rollback()
                same(await self.in_time(waiting), [Verdict.NEW])
                await second.commit()
            same(await self.handle(storage, one, wanted), Verdict.DUPLICATE)

    async def test_of_many_only_one_is_new(self) -> None:
        """Of many that admit one message at once, exactly one finds it NEW (G7)."""
        async with self.running() as storage:
            leases = await self.leases(storage, 8)
            wanted = message()
            verdicts = await self.in_time(
                asyncio.gather(*(self.handle(storage, lease, wanted) for lease in leases))
            )
            same(verdicts.count(Verdict.NEW), 1, "the number that found it NEW")
            same(verdicts.count(Verdict.DUPLICATE), 7, "the number that found it DUPLICATE")

    async def test_another_source_or_group_is_another_message(self) -> None:
        """The same id from another source, or for another group, is NEW (G7)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            same(
                await self.handle(storage, lease, message(message_id="1", source="shop")),
                Verdict.NEW,
            )
            same(
                await self.handle(storage, lease, message(message_id="1", source="till")),
                Verdict.NEW,
            )
            other = await self.lease(storage, queue=group_queue("other", "orders"))
            again = message(message_id="1", source="shop")
            same(await self.handle(storage, other, again, "other"), Verdict.NEW)

    async def test_a_parked_message_holds_its_key(self) -> None:
        """Behind a parked message, later ones of its key are HELD, those of other keys NEW (G8, G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            for state in (State.DEAD, State.WAITING, State.HELD, State.READY):
                key = state.name
                await self.park(
                    storage, lease, message(key), state=state, delay_seconds=LONG_SECONDS
                )
                same(await self.handle(storage, lease, message(key)), Verdict.HELD, key)
            same(await self.handle(storage, lease, message("other")), Verdict.NEW)

    async def test_a_parked_message_holds_only_in_its_group(self) -> None:
        """A message that one group parked is in no other group's way (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            other = await self.lease(storage, queue=group_queue("other", "orders"))
            await self.park(storage, lease, message(), state=State.DEAD)
            same(await self.handle(storage, other, message(), "other"), Verdict.NEW)

    async def test_a_message_without_key_is_never_held(self) -> None:
        """Messages without a key wait for nobody, also behind parked ones without a key (G14)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await self.park(storage, lease, message(None), state=State.DEAD)
            same(await self.handle(storage, lease, message(None)), Verdict.NEW)

    async def test_a_parked_message_is_a_duplicate(self) -> None:
        """A parked id counts as seen, dead or held: a late repeat is not parked again (G9)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            dead, held = numbered(2)
            await self.dead_then_held(storage, lease, [dead, held])
            same(await self.handle(storage, lease, dead), Verdict.DUPLICATE)
            same(await self.handle(storage, lease, held), Verdict.DUPLICATE)

    async def test_old_inbox_rows_are_forgotten(self) -> None:
        """`forget` deletes rows handled long enough ago, at most `limit` in a call, and no younger ones (G11)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            old, young = numbered(3), message()
            for each in old:
                await self.handle(storage, lease, each)
            await self.pass_seconds(self.short_seconds)
            await self.handle(storage, lease, young)
            age = self.short_seconds / 2
            same(await storage.forget(inbox_older_than_seconds=age, limit=2), 2, "the first chunk")
            same(await storage.forget(inbox_older_than_seconds=age, limit=2), 1, "the second chunk")
            same(await storage.forget(inbox_older_than_seconds=age, limit=2), 0, "the rest")
            same(await self.handle(storage, lease, young), Verdict.DUPLICATE)
            same(await self.handle(storage, lease, old[0]), Verdict.NEW)

    async def test_types_are_read_beside_a_writer(self) -> None:
        """`learn_types` without types only reads: it waits for nobody who writes (G14)."""
        async with self.running() as storage:
            lease = await self.lease(storage)
            await storage.learn_types(GROUP, ["a"])
            async with self.opened(storage) as writer:
                await writer.admit(lease, GROUP, [message()])
                same(await self.in_time(storage.learn_types(GROUP, ())), frozenset("a"))
                await writer.commit()
            same(await storage.learn_types("nobody", ()), frozenset[str]())

    async def test_types_add_up(self) -> None:
        """`learn_types` adds to what the group knows and returns all that it ever knew (G14)."""
        async with self.running() as storage:
            same(await storage.learn_types(GROUP, ["a", "b"]), frozenset("ab"))
            same(await storage.learn_types(GROUP, ["b", "c"]), frozenset("abc"))
            same(await storage.learn_types(GROUP, []), frozenset("abc"))
            same(await storage.learn_types("other", ["z"]), frozenset("z"))
