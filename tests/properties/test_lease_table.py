"""Leases against a model: owners come, renew, leave, fall silent and come back too late."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from headrace.errors import LeaseLost
from headrace.storage import Lease, group_queue
from tests.properties.worlds import Machine, in_memory, on_sql

QUEUE = group_queue("billing", "orders")
PARTITIONS = 3
SECONDS = 100.0
OWNERS = st.sampled_from(["a", "b", "c"])


class Leases(Machine):
    """G6 and G7: one owner at a time, tokens grow, and only the newest token may commit."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.tokens = dict.fromkeys(range(PARTITIONS), 0)
        # What each partition's newest lease is, until when, and whether it was given back.
        self.holders: dict[int, tuple[Lease, float]] = {}
        self.known: dict[str, dict[int, Lease]] = {"a": {}, "b": {}, "c": {}}
        self.beats: dict[str, float] = {}
        self.positions: dict[int, str] = {}
        self.written = 0

    @rule(owner=OWNERS)
    def heartbeat(self, owner: str) -> None:
        grant = self.run(self.storage.lease(QUEUE, owner, partitions=PARTITIONS, seconds=SECONDS))
        self.beats[owner] = self.now + SECONDS
        share = -(-PARTITIONS // sum(end > self.now for end in self.beats.values()))
        had = {p for p, (lease, _) in self.holders.items() if lease.owner == owner}
        held = {lease.partition: lease for lease in grant.held}
        assert had <= set(held), "a lease that nobody else took was lost"
        assert len(held) <= max(share, len(had)), "more was taken than the fair share"
        free = PARTITIONS - sum(
            lease.owner == owner or until > self.now for lease, until in self.holders.values()
        )
        assert len(held) == max(len(had), min(share, len(had) + free)), "free partitions were left"
        assert len(grant.surplus) == max(0, len(held) - share)
        for partition, lease in held.items():
            if partition in had:
                assert lease.token == self.tokens[partition], "a renewal changed the token"
            else:
                before = self.holders.get(partition)
                assert before is None or before[1] <= self.now, "taken from a live owner"
                assert lease.unclean == (before is not None)
                assert lease.token > self.tokens[partition], "the token did not grow"
            assert lease.position == self.positions.get(partition)
            self.tokens[partition] = lease.token
            self.holders[partition] = (lease, self.now + SECONDS)
        self.known[owner] |= held

    @rule(owner=OWNERS, leaving=st.booleans())
    def release(self, owner: str, leaving: bool) -> None:
        """The owner gives back all leases that it ever had, old ones too."""
        leases = list(self.known[owner].values())
        self.run(self.storage.release(QUEUE, owner, leases, leaving=leaving))
        for lease in leases:
            holder = self.holders.get(lease.partition)
            if holder and holder[0].token == lease.token:
                del self.holders[lease.partition]
        if leaving:
            self.beats.pop(owner, None)
        self.known[owner] = {}

    @rule(owner=OWNERS)
    def write(self, owner: str) -> None:
        """The owner moves the position of each partition that it believes to have."""
        for partition, lease in self.known[owner].items():
            self.written += 1
            position = str(self.written)

            async def advance(lease: Lease = lease, position: str = position) -> bool:
                transaction = self.storage.transaction()
                transaction.advance(lease, position)
                try:
                    await transaction.commit()
                except LeaseLost:
                    return False
                return True

            assert self.run(advance()) == (lease.token == self.tokens[partition])
            if lease.token == self.tokens[partition]:
                self.positions[partition] = position

    @rule()
    def time_passes(self) -> None:
        self.here.advance(60)
        self.now += 60

    @invariant()
    def positions_are_those_committed(self) -> None:
        assert dict(self.run(self.storage.positions(QUEUE))) == self.positions


TestLeasesInMemory = in_memory(Leases)
TestLeasesOnSql = on_sql(Leases)
