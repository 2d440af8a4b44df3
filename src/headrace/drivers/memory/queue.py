"""One named queue in memory: rows by partition in order, and the lanes of their keys."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from headrace.envelope import Message, sequence_of
from headrace.storage import Backlog, Failure, State, Stored

Lane = tuple[str, str]


@dataclass(slots=True)
class Row:
    """A stored message, mutable where storage changes it."""

    position: int
    queue: str
    partition: int
    message: Message
    created_at: float
    state: State = State.READY
    attempts: int = 0
    due_at: float | None = None
    failure: Failure | None = None

    @property
    def lane(self) -> Lane | None:
        """What keeps order with what: (topic, key), or None."""
        key = self.message.key
        return None if key is None else (self.message.topic, key)

    def stored(self) -> Stored:
        """A copy for the outside."""
        return Stored(
            self.position,
            self.queue,
            self.partition,
            self.message,
            self.state,
            self.attempts,
            self.due_at,
            self.failure,
            self.created_at,
        )

    def to_publish(self) -> Stored:
        """A copy whose envelope has the row's place as its `sequence`."""
        envelope = replace(self.message.envelope, sequence=sequence_of(self.position))
        return replace(self.stored(), message=replace(self.message, envelope=envelope))


class Queue:
    """Rows in order of position. Positions only grow, so the order of insertion is the order of position."""

    def __init__(self) -> None:
        # OrderedDict: its first entry is found at once after any number of deletions at the front, a dict's is not.
        self._partitions: dict[int, OrderedDict[int, Row]] = {}
        self._lanes: dict[Lane, OrderedDict[int, Row]] = {}
        self._keyless: OrderedDict[int, Row] = OrderedDict()
        # The rows of a lane that are not READY: usually none, so that `ready` need not look at whole lanes.
        self._blocking: dict[Lane, set[int]] = {}
        self._sizes: Counter[State] = Counter()

    def add(self, row: Row) -> None:
        """Append a row, whose position must be the highest so far."""
        self._partitions.setdefault(row.partition, OrderedDict())[row.position] = row
        lane = row.lane
        if lane is None:
            self._keyless[row.position] = row
        else:
            self._lanes.setdefault(lane, OrderedDict())[row.position] = row
        self._count(row, 1)

    def remove(self, row: Row) -> None:
        """Delete a row."""
        del self._partitions[row.partition][row.position]
        lane = row.lane
        if lane is None:
            del self._keyless[row.position]
        else:
            rows = self._lanes[lane]
            del rows[row.position]
            if not rows:
                del self._lanes[lane]
        self._count(row, -1)

    def change(self, row: Row, state: State, due_at: float | None) -> None:
        """Put a row into another state, at its place."""
        self._count(row, -1)
        row.state = state
        row.due_at = due_at
        self._count(row, 1)

    def holds(self, message: Message) -> bool:
        """True if a message of this (topic, key) stands in the queue."""
        return message.key is not None and (message.topic, message.key) in self._lanes

    def may_run(self, row: Row, now: float) -> bool:
        """True for the first of its key, or a keyless row, unless it is dead or not yet due."""
        lane = row.lane
        if lane is not None and next(iter(self._lanes[lane])) != row.position:
            return False
        if row.state is State.WAITING:
            return row.due_at is None or row.due_at <= now
        return row.state is not State.DEAD

    def ready(self, partitions: Collection[int], paused: Collection[str], limit: int) -> list[Row]:
        """See `Storage.ready`."""
        chosen = [self._partitions[p].values() for p in set(partitions) if p in self._partitions]
        in_order = heapq.merge(*chosen, key=lambda row: row.position)
        found = (row for row in in_order if row.message.topic not in paused and self._first(row))
        return list(itertools.islice(found, limit))

    def _first(self, row: Row) -> bool:
        lane = row.lane
        blocking = self._blocking.get(lane) if lane is not None else None
        return row.state is State.READY and not (blocking and min(blocking) < row.position)

    def runnable(self, partitions: Collection[int], now: float, limit: int) -> list[Row]:
        """See `Storage.runnable`."""
        found = (row for row in self._heads(partitions) if self.may_run(row, now))
        return heapq.nsmallest(limit, found, key=lambda row: row.position)

    def due_in(self, partitions: Collection[int], now: float) -> float | None:
        """See `Storage.due_in`. A WAITING row behind a dead one is due for nobody."""
        times = [
            max(0.0, (row.due_at or now) - now) if row.state is State.WAITING else 0.0
            for row in self._heads(partitions)
            if row.state is not State.DEAD
        ]
        return min(times, default=None)

    def _heads(self, partitions: Collection[int]) -> Iterator[Row]:
        firsts = (next(iter(rows.values())) for rows in self._lanes.values())
        for row in itertools.chain(firsts, self._keyless.values()):
            if row.partition in partitions:
                yield row

    def lane_of(self, row: Row) -> Collection[int]:
        """The positions of all messages of its (topic, key); none without a key."""
        lane = row.lane
        return self._lanes[lane].keys() if lane is not None else ()

    def dead(self) -> Iterator[Row]:
        """The dead letters, in no order."""
        if not self._sizes[State.DEAD]:
            return
        for rows in self._partitions.values():
            yield from (row for row in rows.values() if row.state is State.DEAD)

    def backlog(self, now: float) -> Backlog:
        """See `Storage.backlog`."""
        alive = (
            next((row.created_at for row in rows.values() if row.state is not State.DEAD), now)
            for rows in self._partitions.values()
        )
        return Backlog(
            ready=self._sizes[State.READY],
            waiting=self._sizes[State.WAITING],
            held=self._sizes[State.HELD],
            dead=self._sizes[State.DEAD],
            oldest_seconds=max(0.0, now - min(alive, default=now)),
        )

    def _count(self, row: Row, change: int) -> None:
        self._sizes[row.state] += change
        lane = row.lane
        if lane is None or row.state is State.READY:
            return
        if change > 0:
            self._blocking.setdefault(lane, set()).add(row.position)
            return
        self._blocking[lane].discard(row.position)
        if not self._blocking[lane]:
            del self._blocking[lane]
