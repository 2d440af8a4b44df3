"""Clauses about leases: one owner at a time, fair shares, and tokens that grow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from headrace.errors import LeaseLost, StorageUnavailable
from headrace.leases import clock
from headrace.storage import Lease, LeaseGrant, State, Storage, Verdict, group_queue
from headrace.testing.conformance.kit import holds, only, refused, same
from headrace.testing.conformance.samples import message
from headrace.testing.conformance.storage_steps import (
    BOOM,
    GROUP,
    LONG_SECONDS,
    QUEUE,
    StorageSteps,
)


class LeaseClauses(StorageSteps):
    """A partition has one owner at a time, and the token says who may still commit (G6, G7)."""

    async def test_a_partition_has_one_owner(self) -> None:
        """What one owner holds another does not get, whoever asks how often (G6)."""
        async with self.running() as storage:
            first = await self._grant(storage, "a", 4)
            same(self._partitions(first), [0, 1, 2, 3], "all that is free goes to the only owner")
            second = await self._grant(storage, "b", 4)
            same(self._partitions(second), [], "what the second got while the first held all")
            both = await asyncio.gather(*(self._grant(storage, owner, 4) for owner in "abc"))
            got = [p for grant in both for p in self._partitions(grant)]
            same(len(got), len(set(got)), "the owners of all partitions")

    async def test_shares_are_fair(self) -> None:
        """With 2, then 3 owners each comes to hold at most its share, and together they hold all (G6)."""
        async with self.running() as storage:
            for owners, share in (("a", 8), ("ab", 4), ("abc", 3)):
                held = await self._settled(storage, owners, 8)
                same(sorted(p for own in held.values() for p in own), list(range(8)), owners)
                sizes = [len(own) for own in held.values()]
                holds(
                    max(sizes) <= share,
                    f"{len(owners)} owners hold {sizes} of 8, the share is {share}",
                )

    async def test_surplus_is_named(self) -> None:
        """An owner that holds more than its share is told which leases to give back, and keeps them until then (G6)."""
        async with self.running() as storage:
            await self._grant(storage, "a", 4)
            await self._grant(storage, "b", 4)
            grant = await self._grant(storage, "a", 4)
            same(self._partitions(grant), [0, 1, 2, 3], "what is still held")
            same(len(grant.surplus), 2, "the number to give back")
            holds(set(grant.surplus) <= set(grant.held), "a surplus lease is not among those held")

    async def test_a_token_grows_at_each_acquisition(self) -> None:
        """A renewal keeps the token, an acquisition by whomever raises it (G6)."""
        async with self.running() as storage:
            first = await self.lease(storage, "a")
            renewed = await self.lease(storage, "a")
            same(renewed.token, first.token, "the token of a renewal")
            for owner in ("a", "b", "a"):
                await storage.release(QUEUE, renewed.owner, [renewed], leaving=True)
                taken = await self.lease(storage, owner)
                holds(taken.token > renewed.token, f"token {taken.token} after {renewed.token}")
                renewed = taken

    async def test_an_expired_lease_is_taken_over(self) -> None:
        """After its expiry another owner gets the partition with a higher token, marked unclean (G6, G9)."""
        async with self.running() as storage:
            died = await self.lease(storage, "a", seconds=self.short_seconds)
            same(await self._held(storage, "b"), [], "what another gets before the expiry")
            await self.pass_seconds(self.short_seconds * 1.2)
            taken = await self.lease(storage, "b")
            holds(taken.token > died.token, f"token {taken.token} after {died.token}")
            same((taken.owner, taken.unclean, taken.taken_from), ("b", True, "a"))
            same((await self.lease(storage, "b")).taken_from, None, "taken from, of a renewal")

    async def test_owners_are_told(self) -> None:
        """`owners` tells who has a partition and for how long, also if the time is over; None once it is given back (G13)."""
        async with self.running() as storage:
            same(await storage.owners(QUEUE), {}, "the owners of a queue that nobody had")
            grant = await self._grant(storage, "a", 2)
            owners = await storage.owners(QUEUE)
            same({p: owner and owner.name for p, owner in owners.items()}, {0: "a", 1: "a"})
            left = [owner.expires_seconds for owner in owners.values() if owner]
            holds(all(0 < each <= LONG_SECONDS for each in left), f"the leases end in {left} s")
            await storage.release(QUEUE, "a", grant.held, leaving=True)
            same(await storage.owners(QUEUE), {0: None, 1: None}, "the owners after a release")
            await self.lease(storage, "b", seconds=self.short_seconds)
            await self.pass_seconds(self.short_seconds * 1.2)
            died = (await storage.owners(QUEUE))[0]
            holds(died is not None, "who died without a release is not told")
            if died is not None:
                same((died.name, died.expires_seconds <= 0), ("b", True))

    async def test_a_released_lease_is_clean(self) -> None:
        """What was given back is free at once and not marked unclean (G10)."""
        async with self.running() as storage:
            first = await self.lease(storage, "a")
            same(first.unclean, False, "unclean, of a partition that nobody had")
            await storage.release(QUEUE, first.owner, [first], leaving=True)
            same((await self.lease(storage, "b")).unclean, False, "unclean, after a release")

    async def test_a_renewal_puts_the_expiry_off(self) -> None:
        """An owner that renews in time keeps its partition beyond the first expiry (G6)."""
        async with self.running() as storage:
            await self.lease(storage, "a", seconds=self.short_seconds)
            await self.lease(storage, "a", seconds=LONG_SECONDS)
            await self.pass_seconds(self.short_seconds * 1.2)
            same(await self._held(storage, "b"), [], "what another gets")

    async def test_a_late_renewal_does_not_steal_back(self) -> None:
        """Who renews after another took over gets nothing, and the other keeps its token (G6)."""
        async with self.running() as storage:
            await self.lease(storage, "a", seconds=self.short_seconds)
            await self.pass_seconds(self.short_seconds * 1.2)
            taken = await self.lease(storage, "b")
            same(await self._held(storage, "a"), [], "what the late owner gets")
            same((await self.lease(storage, "b")).token, taken.token, "the token of the new owner")

    async def test_a_late_release_changes_nothing(self) -> None:
        """A release with an old token does not take the partition from its new owner (G6)."""
        async with self.running() as storage:
            lost, taken = await self.taken_over(storage)
            await storage.release(QUEUE, lost.owner, [lost])
            same(await self._held(storage, "c"), [], "what a third gets")
            same((await self.lease(storage, "b")).token, taken.token, "the token of the owner")

    async def test_who_leaves_is_not_counted(self) -> None:
        """With `leaving`, the others' share grows at once (G10)."""
        async with self.running() as storage:
            await self._settled(storage, "ab", 4)
            grant = await self._grant(storage, "a", 4)
            await storage.release(QUEUE, "a", grant.held, leaving=True)
            same(self._partitions(await self._grant(storage, "b", 4)), [0, 1, 2, 3])

    async def test_who_leaves_with_nothing_is_not_counted(self) -> None:
        """With `leaving`, an owner that never got a lease is not counted any more either (G10)."""
        async with self.running() as storage:
            await self._grant(storage, "a", 4)
            await self._grant(storage, "b", 4)
            await storage.release(QUEUE, "b", [], leaving=True)
            grant = await self._grant(storage, "a", 4)
            same(list(grant.surplus), [], "what the other is to give back")

    async def test_a_release_names_its_queue(self) -> None:
        """Who leaves one queue keeps its place in another (G10)."""
        async with self.running() as storage:
            other = group_queue("other", "orders")
            kept = await self.lease(storage, "a", queue=other)
            left = await self.lease(storage, "a")
            await storage.release(QUEUE, "a", [left], leaving=True)
            grant = await storage.lease(other, "b", partitions=1, seconds=LONG_SECONDS)
            same(list(grant.held), [], "what another owner gets of the queue that was not left")
            same((await self.lease(storage, "a", queue=other)).token, kept.token)

    async def test_a_dead_owner_is_not_counted(self) -> None:
        """An owner whose last sign of life has expired has no share (G6)."""
        async with self.running() as storage:
            await self._grant(storage, "a", 4, seconds=self.short_seconds)
            await self.pass_seconds(self.short_seconds * 1.2)
            same(self._partitions(await self._grant(storage, "b", 4)), [0, 1, 2, 3])

    async def test_the_position_survives_a_takeover(self) -> None:
        """The position committed last comes with the lease, to the same or the next owner (G8)."""
        async with self.running() as storage:
            lease = await self.lease(storage, "a")
            same(lease.position, None, "the position at the start")
            for position in ("7", "12"):
                async with self.opened(storage) as transaction:
                    transaction.advance(lease, position)
                    await transaction.commit()
            same((await self.lease(storage, "a")).position, "12", "the owner's position")
            same(await storage.positions(QUEUE), {0: "12"}, "the group's positions")
            await storage.release(QUEUE, lease.owner, [lease], leaving=True)
            same((await self.lease(storage, "b")).position, "12", "the next owner's position")

    async def test_the_deadline_is_never_late(self) -> None:
        """`deadline` lies `seconds` after a time before the storage was asked, by `leases.clock()` (G6)."""
        async with self.running() as storage:
            before = clock()
            lease = await self.lease(storage, seconds=LONG_SECONDS)
            after = clock()
            # The storage reads the clock first of all, so long before the answer came.
            early, late = before + LONG_SECONDS, after + LONG_SECONDS
            holds(early <= lease.deadline <= late, f"{lease.deadline} is not in {early} to {late}")

    async def test_a_lost_lease_admits_nothing(self) -> None:
        """`admit` with an old token raises `LeaseLost`; the message stays NEW for the new owner (G7)."""
        async with self.running() as storage:
            lost, taken = await self.taken_over(storage)
            wanted = message()
            await refused(LeaseLost, self.handle(storage, lost, wanted))
            same(await self.handle(storage, taken, wanted), Verdict.NEW)

    async def test_a_lost_lease_resumes_nothing(self) -> None:
        """`resume` with an old token raises `LeaseLost`; the parked message stays (G7)."""

        async def call(storage: Storage, lost: Lease) -> None:
            row = only(await self.runnable(storage))
            await self.resume(storage, lost, row)

        await self._changes_nothing(call)

    async def test_a_lost_lease_counts_no_attempt(self) -> None:
        """`attempt` with an old token raises `LeaseLost` and counts nothing (G7)."""

        async def call(storage: Storage, lost: Lease) -> None:
            row = only(await self.runnable(storage))
            await storage.attempt(lost, row)

        await self._changes_nothing(call)

    async def test_a_lost_lease_puts_nothing_back(self) -> None:
        """`repark` with an old token raises `LeaseLost` and changes nothing (G7)."""

        async def call(storage: Storage, lost: Lease) -> None:
            row = only(await self.runnable(storage))
            await storage.repark(lost, row, state=State.DEAD, failure=BOOM, attempts=9)

        await self._changes_nothing(call)

    async def test_a_lost_lease_parks_nothing(self) -> None:
        """A `park` under an old token makes the commit raise `LeaseLost`, and nothing is stored (G7)."""

        async def call(storage: Storage, lost: Lease) -> None:
            async with self.opened(storage) as transaction:
                transaction.park(lost, message("late"), state=State.READY)
                transaction.enqueue([message()])
                await transaction.commit()

        await self._changes_nothing(call)

    async def test_a_lost_lease_moves_no_position(self) -> None:
        """An `advance` under an old token makes the commit raise `LeaseLost`, and nothing is stored (G7)."""

        async def call(storage: Storage, lost: Lease) -> None:
            async with self.opened(storage) as transaction:
                transaction.advance(lost, "99")
                transaction.enqueue([message()])
                await transaction.commit()

        await self._changes_nothing(call)

    async def test_a_takeover_during_a_transaction_has_one_winner(self) -> None:
        """Of an open transaction and a takeover one wins: it commits and the new owner sees it, or it is lost (G7)."""
        async with self.running() as storage:
            lease = await self.lease(storage, "a", seconds=self.short_seconds)
            async with self.opened(storage) as transaction:
                await transaction.admit(lease, GROUP, [message()])
                transaction.advance(lease, "7")
                await self.pass_seconds(self.short_seconds * 1.2)
                takeover = await self.started(self._taken(storage, "b"))
                try:
                    await transaction.commit()
                    won = True
                except (LeaseLost, StorageUnavailable):
                    # A server may also have ended what was idle for longer than the lease.
                    won = False
            taken = await self.in_time(takeover)
            same(taken.position, "7" if won else None, "the position that the new owner got")
            same(await storage.positions(QUEUE), {0: "7"} if won else {}, "the position in the end")

    async def _changes_nothing(self, call: Callable[[Storage, Lease], Awaitable[None]]) -> None:
        async with self.running() as storage:
            lease = await self.lease(storage, "a")
            await self.park(storage, lease, message(), state=State.READY, attempts=1)
            before = await self.runnable(storage)
            await storage.release(QUEUE, lease.owner, [lease], leaving=True)
            await self.lease(storage, "b")
            await refused(LeaseLost, call(storage, lease))
            same(await self.runnable(storage), before, "the parked messages")
            same(await storage.positions(QUEUE), {}, "the positions")
            same(await self.outbox(storage), [], "the outbox")

    async def _settled(
        self, storage: Storage, owners: str, partitions: int
    ) -> dict[str, list[int]]:
        """What each owner holds after all have asked, given back their surplus and asked again."""
        held: dict[str, list[int]] = {}
        for _ in range(2):
            for owner in owners:
                grant = await self._grant(storage, owner, partitions)
                await storage.release(QUEUE, owner, grant.surplus)
        for owner in owners:
            held[owner] = self._partitions(await self._grant(storage, owner, partitions))
        return held

    async def _grant(
        self, storage: Storage, owner: str, partitions: int, *, seconds: float = LONG_SECONDS
    ) -> LeaseGrant:
        return await storage.lease(QUEUE, owner, partitions=partitions, seconds=seconds)

    async def _taken(self, storage: Storage, owner: str) -> Lease:
        """The lease, asked for as often as it takes: nobody need wait for a transaction that works under it."""
        while not (grant := await self._grant(storage, owner, 1)).held:
            await self.pass_seconds(self.patience_seconds)
        return grant.held[0]

    async def _held(self, storage: Storage, owner: str) -> list[int]:
        return self._partitions(await self._grant(storage, owner, 1))

    def _partitions(self, grant: LeaseGrant) -> list[int]:
        return sorted(lease.partition for lease in grant.held)
