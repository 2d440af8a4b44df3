"""What several `MemoryStorage` objects may share: the data, its clock and its locks."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Final

from headrace.drivers.memory.leases import Leases
from headrace.drivers.memory.queue import Queue, Row
from headrace.drivers.memory.records import Records
from headrace.errors import StorageBusy
from headrace.storage import Stored

InboxKey = tuple[str, str, str]


class Session:
    """The holder of locks: one transaction, from its first lock to its end."""

    def __init__(self) -> None:
        self.ended: Final = asyncio.Event()
        self.keys: Final[set[Hashable]] = set()


class MemoryDatabase:
    """The committed data of apps in this process. Used by one event loop at a time.

    Args:
        clock: the database's clock, in UTC seconds since the epoch; default `time.time`. Leases, due times and ages
            are measured by it, so a test may pass a clock of its own.
        busy_seconds: how long a transaction waits for another one's lock before `StorageBusy`; default 10, longer
            than any unit should take and shorter than a person waits.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.time, busy_seconds: float = 10.0
    ) -> None:
        self.clock: Final = clock
        self.busy_seconds: Final = busy_seconds
        self.queues: Final[dict[str, Queue]] = {}
        self.rows: Final[dict[int, Row]] = {}
        self.inbox: Final[OrderedDict[InboxKey, float]] = OrderedDict()
        self.leases: Final = Leases()
        self.types: Final[dict[str, frozenset[str]]] = {}
        self.records: Final = Records()
        self.outboxes: Final[dict[str, int]] = {}
        self._numbers: Final = itertools.count(1)
        self._locks: Final[dict[Hashable, Session]] = {}

    def queue(self, name: str) -> Queue:
        """The queue of that name, empty if nothing was ever put into it."""
        return self.queues.get(name) or Queue()

    def insert(self, rows: Iterable[Stored]) -> None:
        """Number rows and store them, in this order. The position that they carry is replaced."""
        now = self.clock()
        for new in rows:
            row = Row(
                next(self._numbers),
                new.queue,
                new.partition,
                new.message,
                now,
                new.state,
                new.attempts,
                new.due_at,
                new.failure,
            )
            self.rows[row.position] = row
            self.queues.setdefault(row.queue, Queue()).add(row)

    def remove(self, position: int) -> None:
        """Delete a row; one that is gone is no error."""
        row = self.rows.pop(position, None)
        if row is not None:
            self.queues[row.queue].remove(row)

    def age(self, seconds: float) -> None:
        """Make all that is kept older, and what waits due sooner: as if so much time had passed. Leases stay as they are."""
        for row in self.rows.values():
            row.created_at -= seconds
            if row.due_at is not None:
                row.due_at -= seconds
        for key in self.inbox:
            self.inbox[key] -= seconds

    def may_run(self, stored: Stored) -> bool:
        """True if the row is still there and may run now."""
        row = self.rows.get(stored.position)
        return row is not None and self.queues[row.queue].may_run(row, self.clock())

    async def lock(self, key: Hashable, session: Session) -> None:
        """Wait until no other transaction holds the key, then hold it until `unlock`.

        Raises:
            StorageBusy: the other transaction did not end within `busy_seconds`.
        """
        if self._locks.get(key, session) is not session:
            await self._free(key)
        self._locks[key] = session
        session.keys.add(key)

    async def _free(self, key: Hashable) -> None:
        try:
            async with asyncio.timeout(self.busy_seconds):
                while (holder := self._locks.get(key)) is not None:
                    await holder.ended.wait()
        except TimeoutError:
            raise StorageBusy(
                f"{key!r} was locked by another transaction for more than {self.busy_seconds} s:"
                " end units sooner (no slow awaits inside them), or lock in one order"
            ) from None

    def unlock(self, session: Session) -> None:
        """Give back all locks of a transaction and wake those that wait for it."""
        for key in session.keys:
            del self._locks[key]
        session.keys.clear()
        session.ended.set()
