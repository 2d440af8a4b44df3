"""`SqlSavepoint`: a part of a unit of work that can be undone alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSessionTransaction


class _Undoes(Protocol):
    def back_to(self, staged: int, enqueued: int) -> None: ...


class SqlSavepoint:
    """A `Savepoint` of `SqlTransaction`, which makes it: the session's own, with what was staged beside it.

    Args:
        transaction: whose part it is.
        nested: the session's.
        staged: how many steps were staged before.
        enqueued: how many messages were enqueued before.
    """

    def __init__(
        self, transaction: _Undoes, nested: AsyncSessionTransaction, staged: int, enqueued: int
    ) -> None:
        self._transaction = transaction
        self._nested = nested
        self._staged = staged
        self._enqueued = enqueued

    async def release(self) -> None:
        """See `Savepoint.release`."""
        await self._nested.commit()

    async def rollback(self) -> None:
        """See `Savepoint.rollback`."""
        self._transaction.back_to(self._staged, self._enqueued)
        await self._nested.rollback()
