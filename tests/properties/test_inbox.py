"""The inbox against a model: only what was committed, and not forgotten, is a duplicate."""

from __future__ import annotations

import asyncio

from hypothesis import strategies as st
from hypothesis.stateful import rule

from headrace.storage import Verdict, group_queue
from headrace.testing.conformance.samples import message
from tests.properties.worlds import Machine, in_memory, on_sql

NAMES = st.sampled_from(["1", "2", "3"])
SOURCES = st.sampled_from(["shop", "till"])
GROUPS = st.sampled_from(["billing", "mail"])


class Inbox(Machine):
    """G7: the effects of a message happen once per (group, source, id), whoever tries at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.handled: dict[tuple[str, str, str], int] = {}
        self.hour = 0
        self.leases = {
            group: self.run(
                self.storage.lease(group_queue(group, "orders"), "a", partitions=2, seconds=1e9)
            ).held
            for group in ("billing", "mail")
        }

    def expected(self, key: tuple[str, str, str]) -> Verdict:
        return Verdict.DUPLICATE if key in self.handled else Verdict.NEW

    @rule(group=GROUPS, source=SOURCES, name=NAMES, commits=st.booleans())
    def alone(self, group: str, source: str, name: str, commits: bool) -> None:
        key = (group, source, name)

        async def handle() -> Verdict:
            transaction = self.storage.transaction()
            wanted = message(message_id=name, source=source)
            [verdict] = await transaction.admit(self.leases[group][0], group, [wanted])
            await (transaction.commit() if commits else transaction.rollback())
            return verdict

        assert self.run(handle()) is self.expected(key)
        self.note(key, commits)

    @rule(
        group=GROUPS,
        source=SOURCES,
        names=st.lists(NAMES, min_size=2, max_size=3),
        commits=st.lists(st.booleans(), min_size=3, max_size=3),
    )
    def at_once(self, group: str, source: str, names: list[str], commits: list[bool]) -> None:
        """Several transactions begin before any ends; those that found it NEW end as told, in turn."""
        order: list[tuple[str, Verdict, bool]] = []

        async def handle(number: int) -> None:
            transaction = self.storage.transaction()
            wanted = message(message_id=names[number], source=source)
            lease = self.leases[group][number % 2]
            [verdict] = await transaction.admit(lease, group, [wanted])
            await asyncio.sleep(0)
            order.append((names[number], verdict, commits[number]))
            await (transaction.commit() if commits[number] else transaction.rollback())

        async def all_of_them() -> None:
            await asyncio.gather(*(handle(number) for number in range(len(names))))

        self.run(all_of_them())
        for name, verdict, committed in order:
            assert verdict is self.expected((group, source, name))
            self.note((group, source, name), committed)

    @rule(group=GROUPS, source=SOURCES, names=st.lists(NAMES, max_size=4), commits=st.booleans())
    def in_a_batch(self, group: str, source: str, names: list[str], commits: bool) -> None:
        """Several messages in one transaction, repeats among them: the first of each counts."""

        async def handle() -> list[Verdict]:
            transaction = self.storage.transaction()
            batch = [message(message_id=name, source=source) for name in names]
            verdicts = await transaction.admit(self.leases[group][0], group, batch)
            await (transaction.commit() if commits else transaction.rollback())
            return list(verdicts)

        expected = [
            Verdict.DUPLICATE if name in names[:n] else self.expected((group, source, name))
            for n, name in enumerate(names)
        ]
        assert self.run(handle()) == expected
        for name in names:
            self.note((group, source, name), commits)

    @rule(limit=st.integers(1, 4))
    def forget(self, limit: int) -> None:
        """An hour goes by, and what was handled before it is forgotten, the oldest first."""
        self.here.advance(3600)
        self.hour += 1
        gone = self.run(self.storage.forget(inbox_older_than_seconds=5400, limit=limit))
        old = [key for key, hour in self.handled.items() if self.hour - hour >= 2]
        assert gone == min(limit, len(old))
        for key in sorted(old, key=lambda key: self.handled[key]):
            # Which of those handled in the same hour went is the storage's own affair.
            if not self.still_there(key):
                del self.handled[key]
        assert sum(self.hour - hour >= 2 for hour in self.handled.values()) == len(old) - gone

    def still_there(self, key: tuple[str, str, str]) -> bool:
        group, source, name = key

        async def look() -> Verdict:
            transaction = self.storage.transaction()
            wanted = message(message_id=name, source=source)
            [verdict] = await transaction.admit(self.leases[group][0], group, [wanted])
            await transaction.rollback()
            return verdict

        return self.run(look()) is Verdict.DUPLICATE

    def note(self, key: tuple[str, str, str], committed: bool) -> None:
        if committed:
            self.handled.setdefault(key, self.hour)


TestInboxInMemory = in_memory(Inbox)
TestInboxOnSql = on_sql(Inbox)
