"""Reading ahead: in a backlog one half of the partitions is read while the other is published and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.storage import Lease, Stored

Leases = Mapping[int, "Lease"]
"""By partition."""


class Halves:
    """The rounds of a relay: each reads the oldest rows of partitions, publishes them and deletes what was confirmed.

    While rounds are full the partitions take turns in two halves, and what is published next is read meanwhile. A half is
    read after all that was read of it before is done with, so each read still begins at its oldest row that is left (G6).
    Two connections to the storage are enough: one reads and one writes.

    Args:
        read: the oldest rows of these partitions, at most `batch`.
        publish: publish and delete rows that were read under these leases.
        batch: how many rows are a full round.
    """

    def __init__(
        self,
        read: Callable[[Leases], Awaitable[Sequence[Stored]]],
        publish: Callable[[Sequence[Stored], Leases], Awaitable[None]],
        batch: int,
    ) -> None:
        self._read = read
        self._publish = publish
        self._batch = batch
        self._behind = False
        self._turn = 0
        self._ahead: tuple[Mapping[int, int], Sequence[Stored]] | None = None

    async def round(self, leases: Leases) -> tuple[int, bool]:
        """How many rows were published, and True if there are more to publish at once.

        After an error nothing that was read ahead is kept: the next round reads anew.
        """
        ahead, self._ahead = self._ahead, None
        behind, self._behind = self._behind, False
        if not behind or len(leases) < 2:
            rows = await self._read(leases)
            await self._publish(rows, leases)
            self._behind = len(rows) >= self._batch
            return len(rows), self._behind
        order = sorted(leases)
        halves = (order[::2], order[1::2])
        now = {p: leases[p] for p in halves[self._turn]}
        self._turn = 1 - self._turn
        then = {p: leases[p] for p in halves[self._turn]}
        # Rows that were read under other leases may have been published by another process since.
        rows = ahead[1] if ahead and ahead[0] == _tokens(now) else await self._read(now)
        published, found = await asyncio.gather(
            self._publish(rows, now), self._read(then), return_exceptions=True
        )
        for one in (published, found):
            if isinstance(one, BaseException):
                raise one
        more: Sequence[Stored] = found if not isinstance(found, BaseException) else ()
        self._ahead = (_tokens(then), more)
        self._behind = max(len(rows), len(more)) >= self._batch
        return len(rows), self._behind or bool(more)


def _tokens(leases: Leases) -> Mapping[int, int]:
    return {partition: lease.token for partition, lease in leases.items()}
