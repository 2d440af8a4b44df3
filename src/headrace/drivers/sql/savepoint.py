"""`SqlSavepoint`: a part of a unit of work that can be undone alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSessionTransaction


class _Undoes(Protocol):
    def back_to(self, waiting: tuple[int, int, int]) -> None: ...


class SqlSavepoint:
    """A `Savepoint` of `SqlTransaction`, which makes it: the session's own, with what was staged beside it.

    Args:
        transaction: whose part it is.
        nested: the session's.
        waiting: how many steps were staged, and messages enqueued and deferred, before.
    """

    def __init__(
        self, transaction: _Undoes, nested: AsyncSessionTransaction, waiting: tuple[int, int, int]
    ) -> None:
        self._transaction = transaction
        self._nested = nested
        self._waiting = waiting

    async def release(self) -> None:
        """See `Savepoint.release`."""
        await self._nested.commit()

    async def rollback(self) -> None:
        """See `Savepoint.rollback`."""
        self._transaction.back_to(self._waiting)
        await self._nested.rollback()
