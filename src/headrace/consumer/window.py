"""How many messages each partition may have in memory, so that the sum is bounded and none starves the others (G11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Window:
    """Shares a bounded number of places: half are reserved, the same for each partition, half are for whoever comes.

    So one partition with a long backlog fills most of the window, and a message of another is still read at once.

    Args:
        size: places in all.
        taken: those taken now, by partition, for all partitions.
        least: places that each partition has in any case, also if their sum is more than `size`.
    """

    def __init__(self, size: int, taken: Mapping[int, int], *, least: int = 1) -> None:
        count = max(len(taken), 1)
        self._reserved = max(least, size // (2 * count))
        self._taken = dict(taken)
        shared = max(0, size - self._reserved * count)
        self._shared = shared - sum(max(0, n - self._reserved) for n in taken.values())

    def for_all(self, partitions: Iterable[int]) -> int:
        """The most that these partitions could take together."""
        own = sum(max(0, self._reserved - self._taken.get(p, 0)) for p in partitions)
        return own + max(0, self._shared)

    def take(self, partition: int) -> bool:
        """Take one more place for a partition; False if there is none. Once False, it stays so."""
        taken = self._taken.get(partition, 0)
        if taken >= self._reserved:
            if self._shared <= 0:
                return False
            self._shared -= 1
        self._taken[partition] = taken + 1
        return True
