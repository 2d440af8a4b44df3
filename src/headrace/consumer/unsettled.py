"""How far the broker is told that a partition is done, when what is parked lives in this process alone (G9).

With a storage, a parked message is kept there, and the broker is told of it as of a handled one. Without one, memory is all
that has it: were the broker told, a restart would lose it. So from the first message that is parked on, the broker is told
nothing more of the partition; the other keys go on, until as many messages as a window are handled and not settled. Then the
partition stands still, and says so. Once nothing of it is parked any more, the broker is told of everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.storage import Storage

PAGE: Final = 1000
"""Dead letters that are looked through at once."""


class Unsettled:
    """What one partition has parked in memory, and what was handled behind it."""

    __slots__ = ("_before", "_times", "count", "open")

    def __init__(self) -> None:
        self.open = False
        """True while something of the partition may be parked."""
        self.count = 0
        """Messages that were handled since, and that the broker is not told of."""
        self._before: str | None = None
        self._times = 0

    def parked(self, before: str | None) -> None:
        """A message was parked, the first one behind this position."""
        self._times += 1
        if not self.open:
            self.open, self._before, self.count = True, before, 0

    @property
    def times(self) -> int:
        """How often something was parked: to be asked before one looks whether it is still there."""
        return self._times

    def none_left(self, times: int) -> None:
        """Nothing was parked, when something had been `times` times."""
        if times == self._times:
            self.open = False

    def settles(self, finished: str | None) -> str | None:
        """The position up to which the broker may be told that all is done."""
        return self._before if self.open else finished


async def parked_in(storage: Storage, queue: str, partitions: Iterable[int]) -> frozenset[int]:
    """Those of the partitions that have messages parked in a queue; held ones stand behind one that waits or is dead."""
    asked = frozenset(partitions)
    found = {p for p in asked if await storage.due_in(queue, [p]) is not None}
    after = 0
    while not asked <= found:
        page = await storage.dead_letters(queue=queue, after=after, limit=PAGE)
        found.update(row.partition for row in page)
        if len(page) < PAGE:
            break
        after = page[-1].position
    return asked & found
