"""What a group has fetched of one partition and not yet given up."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from confluent_kafka import Message as Record

_RECORD_BYTES: Final = 500
"""What a record without a body takes in memory, about: objects, key, headers."""


def bytes_of(records: Collection[Record]) -> int:
    """What they take in memory, about."""
    return sum(map(len, records)) + _RECORD_BYTES * len(records)


class Feed:
    """Records of one partition, in order, from a position on; reading takes nothing away.

    Args:
        generation: grows with each beginning; records that an earlier one had fetched are dropped.
        start: the offset that it begins at. None: where the group is, or the earliest.
    """

    __slots__ = (
        "_bytes",
        "_from",
        "_records",
        "error",
        "generation",
        "next",
        "paused",
        "settled",
        "start",
    )

    def __init__(self, generation: int, start: int | None) -> None:
        self.generation = generation
        self.start = start
        self.settled: int | None = None
        """The offset behind what the group has settled here."""
        self.next: int | None = None
        """The offset behind the last record fetched."""
        self.paused = False
        self.error: str | None = None
        """Why nothing comes, if the servers said so."""
        self._from = start
        self._records: deque[Record] = deque()
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes held in memory, about."""
        return self._bytes

    def add(self, records: Sequence[Record]) -> None:
        """Records were fetched, the next in order."""
        self._records.extend(records)
        self._bytes += bytes_of(records)
        self.next = _offset(records[-1]) + 1
        self.error = None

    def reach(self, offset: int | None) -> bool:
        """Make the first record the one at this offset or the next after it. False if it must be fetched anew.

        Args:
            offset: None for where the group is.
        """
        if offset is None:
            offset = self.settled
            if offset is None:
                return self.start is None and self._from is None
        if offset == self.start:
            # Also where that position was gone and fetching began elsewhere: what came is what there is.
            return self._from == self.start
        first = self._records[0] if self._records else None
        if self._from is not None and offset < self._from:
            return False
        if self._from is None and (first is None or offset < _offset(first)):
            return False
        if self.next is None or offset > self.next:
            return False
        while self._records and _offset(self._records[0]) < offset:
            self._bytes -= len(self._records.popleft()) + _RECORD_BYTES
        self._from = offset
        return True

    def first(self, limit: int) -> list[Record]:
        """The first records, at most so many."""
        if limit >= len(self._records):
            return list(self._records)
        records = iter(self._records)
        return [next(records) for _ in range(limit)]


def _offset(record: Record) -> int:
    offset = record.offset()
    return -1 if offset is None else offset
