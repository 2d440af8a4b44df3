"""The outbox against a model: whatever order transactions commit, rows are read, deleted, refused and redriven in."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from headrace.storage import State, Stored, Transaction, outbox_queue
from headrace.testing.conformance.samples import message
from tests.properties.worlds import APP, PARTITIONS, Machine, in_memory, on_sql

OUTBOX = outbox_queue(APP)
KEYS = st.sampled_from(["a", "b", "c", None])
PICK = st.integers(0, 1000)


class Outbox(Machine):
    """G5 and G6: what is committed is read in commit order until deleted, held behind the dead of its key."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[tuple[Transaction, list[tuple[str | None, bytes]]]] = []
        # Committed rows in order: key, body, dead.
        self.rows: dict[bytes, tuple[str | None, bool]] = {}
        self.seen: dict[bytes, int] = {}
        self.count = 0
        self.leases = self.run(
            self.storage.lease(OUTBOX, "relay", partitions=PARTITIONS, seconds=1e6)
        ).held

    async def end(self) -> None:
        for transaction, _ in self.opened:
            await transaction.rollback()
        await super().end()

    def stored(self) -> list[Stored]:
        return list(self.run(self.storage.ready(OUTBOX, range(PARTITIONS), limit=10_000)))

    @rule()
    @precondition(lambda self: len(self.opened) < 4)
    def begin(self) -> None:
        self.opened.append((self.storage.transaction(), []))

    @rule(pick=PICK, keys=st.lists(KEYS, max_size=4))
    @precondition(lambda self: self.opened)
    def enqueue(self, pick: int, keys: list[str | None]) -> None:
        transaction, staged = self.opened[pick % len(self.opened)]
        new = [(key, str(self.count + n).encode()) for n, key in enumerate(keys)]
        self.count += len(new)
        transaction.enqueue([message(key, body) for key, body in new])
        staged += new

    @rule(key=KEYS)
    def send(self, key: str | None) -> None:
        """A transaction that begins and commits while others are open."""
        self.begin()
        self.enqueue(-1, [key])
        self.commit(-1)

    @rule(pick=PICK)
    @precondition(lambda self: self.opened)
    def commit(self, pick: int) -> None:
        transaction, staged = self.opened.pop(pick % len(self.opened))
        self.run(transaction.commit())
        self.rows |= {body: (key, False) for key, body in staged}

    @rule(pick=PICK)
    @precondition(lambda self: self.opened)
    def roll_back(self, pick: int) -> None:
        transaction, _ = self.opened.pop(pick % len(self.opened))
        self.run(transaction.rollback())

    @rule(picks=st.sets(PICK, max_size=5))
    def publish(self, picks: set[int]) -> None:
        rows = self.stored()
        chosen = {pick % len(rows) for pick in picks} if rows else set[int]()
        self.run(self.storage.delete([rows[n].position for n in chosen]))
        for n in chosen:
            del self.rows[rows[n].message.data]

    @rule()
    def publish_all(self) -> None:
        self.publish(set(range(len(self.stored()))))

    @rule(pick=PICK)
    def refuse(self, pick: int) -> None:
        if rows := self.stored():
            row = rows[pick % len(rows)]
            lease = self.leases[row.partition]
            self.run(self.storage.repark(lease, row, state=State.DEAD))
            self.rows[row.message.data] = (row.message.key, True)

    @rule(drop=st.booleans())
    def decide(self, drop: bool) -> None:
        dead = self.run(self.storage.dead_letters(queue=OUTBOX))
        assert [row.message.data for row in dead] == [b for b, (_, d) in self.rows.items() if d]
        positions = [row.position for row in dead]
        decide = self.storage.drop if drop else self.storage.redrive
        assert self.run(decide(positions)) == len(dead)
        for row in dead:
            if drop:
                del self.rows[row.message.data]
            else:
                self.rows[row.message.data] = (row.message.key, False)

    @invariant()
    def reads_what_the_model_says(self) -> None:
        held: set[str] = set()
        expected: list[bytes] = []
        for body, (key, dead) in self.rows.items():
            if dead and key is not None:
                held.add(key)
            elif not dead and key not in held:
                expected.append(body)
        rows = self.stored()
        assert [row.message.data for row in rows] == expected
        for row in rows:
            # A position is one row's for ever, and a row keeps it.
            assert self.seen.setdefault(row.message.data, row.position) == row.position
        assert len(set(self.seen.values())) == len(self.seen)


TestOutboxInMemory = in_memory(Outbox)
TestOutboxOnSql = on_sql(Outbox)
