"""Parked messages against a model: per key, what runs, runs in the order of arrival, whatever happens to it."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from headrace.storage import State, Stored, Verdict, group_queue
from headrace.testing.conformance.samples import message
from tests.properties.worlds import Machine, in_memory, on_sql

GROUP = "billing"
QUEUE = group_queue(GROUP, "orders")
DELAY = 100.0
KEYS = st.sampled_from(["a", "b", None])
OUTCOMES = st.sampled_from([None, State.DEAD, State.WAITING])
PICK = st.integers(0, 1000)


@dataclass
class Parked:
    number: int
    key: str | None
    state: State
    due_at: float = 0.0


class Lanes(Machine):
    """G8 and G9: per key one after another, in order; other keys flow; nothing is lost, nothing done twice."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.arrived = 0
        self.ran: dict[str | None, list[int]] = {}
        self.dropped: set[int] = set()
        self.parked: list[Parked] = []
        [self.lease] = self.run(self.storage.lease(QUEUE, "a", partitions=1, seconds=1e9)).held

    @rule(key=KEYS, failure=OUTCOMES)
    def arrive(self, key: str | None, failure: State | None) -> None:
        """A message comes from the broker; its handler succeeds, or fails for good or for now."""
        number, self.arrived = self.arrived, self.arrived + 1

        async def handle() -> State | None:
            transaction = self.storage.transaction()
            new = message(key, str(number).encode())
            [verdict] = await transaction.admit(self.lease, GROUP, [new])
            held = verdict is Verdict.HELD
            assert held == (key is not None and any(each.key == key for each in self.parked))
            state = State.HELD if held else failure
            if state is not None:
                transaction.park(self.lease, new, state=state, delay_seconds=DELAY)
            await transaction.commit()
            return state

        state = self.run(handle())
        if state is None:
            self.ran.setdefault(key, []).append(number)
        else:
            self.parked.append(Parked(number, key, state, self.now + DELAY))

    @rule(pick=PICK, failure=OUTCOMES, attempt=st.booleans())
    def run_parked(self, pick: int, failure: State | None, attempt: bool) -> None:
        """The owner runs a parked message; its handler succeeds, or fails again."""
        rows = self.runnable()
        if not rows:
            return
        row = rows[pick % len(rows)]
        each = next(p for p in self.parked if p.number == int(row.message.data))
        if attempt:
            assert self.run(self.storage.attempt(self.lease, row))
        if failure is None:
            assert self.run(self.resumed(row))
            self.parked.remove(each)
            self.ran.setdefault(each.key, []).append(each.number)
        else:
            self.run(self.storage.repark(self.lease, row, state=failure, delay_seconds=DELAY))
            each.state, each.due_at = failure, self.now + DELAY

    @rule(picks=st.sets(PICK, max_size=3), drop=st.booleans())
    def decide(self, picks: set[int], drop: bool) -> None:
        """Somebody redrives or drops some dead letters."""
        dead = list(self.run(self.storage.dead_letters(queue=QUEUE)))
        chosen = {pick % len(dead) for pick in picks} if dead else set[int]()
        positions = [dead[n].position for n in chosen]
        decide = self.storage.drop if drop else self.storage.redrive
        assert self.run(decide(positions)) == len(positions)
        for n in chosen:
            each = next(p for p in self.parked if p.number == int(dead[n].message.data))
            each.state = State.READY
            if drop:
                self.parked.remove(each)
                self.dropped.add(each.number)

    @rule()
    def time_passes(self) -> None:
        self.here.advance(60)
        self.now += 60

    def runnable(self) -> list[Stored]:
        return list(self.run(self.storage.runnable(QUEUE, [0], limit=10_000)))

    async def resumed(self, row: Stored) -> bool:
        transaction = self.storage.transaction()
        resumed = await transaction.resume(self.lease, row)
        await transaction.commit()
        return resumed

    @invariant()
    def runs_what_the_model_says(self) -> None:
        expected: list[int] = []
        keys: set[str] = set()
        for each in self.parked:
            first = each.key not in keys
            if each.key is not None:
                keys.add(each.key)
            late = each.state is State.WAITING and each.due_at > self.now
            if first and not late and each.state is not State.DEAD:
                expected.append(each.number)
        assert [int(row.message.data) for row in self.runnable()] == expected

    @invariant()
    def runs_in_the_order_of_arrival(self) -> None:
        for key, ran in self.ran.items():
            assert key is None or ran == sorted(ran)

    @invariant()
    def counts_what_is_parked(self) -> None:
        counts = self.run(self.storage.backlog(QUEUE))
        found = (counts.ready, counts.waiting, counts.held, counts.dead)
        states = (State.READY, State.WAITING, State.HELD, State.DEAD)
        assert found == tuple(sum(p.state is state for p in self.parked) for state in states)

    async def end(self) -> None:
        """In the end all is redriven and run: each arrival ran once, or was dropped."""
        while self.parked:
            self.here.advance(DELAY * 2)
            dead = await self.storage.dead_letters(queue=QUEUE)
            await self.storage.redrive([row.position for row in dead])
            rows = await self.storage.runnable(QUEUE, [0], limit=10_000)
            assert rows, f"nothing may run, of {self.parked}"
            for row in rows:
                assert await self.resumed(row)
                each = next(p for p in self.parked if p.number == int(row.message.data))
                self.parked.remove(each)
                self.ran.setdefault(each.key, []).append(each.number)
        done = sorted([n for ran in self.ran.values() for n in ran] + list(self.dropped))
        assert done == list(range(self.arrived))
        self.runs_in_the_order_of_arrival()
        await super().end()


TestLanesInMemory = in_memory(Lanes)
TestLanesOnSql = on_sql(Lanes)
