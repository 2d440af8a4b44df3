"""One connection taken from the engine, with the transaction that Headrace runs on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.util.concurrency import greenlet_spawn

from headrace.drivers.sql.steps import Compiled, Outcome, Step, run_fast, run_slow

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, RootTransaction

    from headrace.drivers.sql.dialect import Dialect


class Link:
    """A connection and its transaction. Used by one task at a time.

    Where the dialect has a line to the driver's own connection, groups of statements go over it and BEGIN comes with the
    first; on any other they are plain statements of SQLAlchemy.

    Args:
        connection: SQLAlchemy's, open.
        dialect: how the database begins and ends transactions.
        compiled: the storage's compiled statements.
        read_only: the transaction writes nothing.
    """

    def __init__(
        self, connection: Connection, dialect: Dialect, compiled: Compiled, *, read_only: bool
    ) -> None:
        self.connection = connection
        self.read_only = read_only
        self._dialect = dialect
        self._compiled = compiled
        driver: object = connection.connection.driver_connection
        self._fast = dialect.line(driver)
        # The line has ended the transaction; where SQLAlchemy sends no ROLLBACK after that, it needs no greenlet to say so.
        self._ends_at_once = self._fast is not None and connection.dialect.skip_autocommit_rollback
        self._root: RootTransaction | None = None

    @property
    def ended(self) -> bool:
        """True if `end` has nothing to wait for."""
        return self._fast is not None and not self._fast.is_open

    @property
    def reusable(self) -> bool:
        """True if another transaction may begin here after `end`: a connection of Headrace's own that is whole."""
        return self._fast is not None and self.usable and self._fast.whole

    @property
    def usable(self) -> bool:
        """False if SQLAlchemy has given the connection up."""
        return not self.connection.closed and not self.connection.invalidated

    @property
    def begun(self) -> bool:
        """False if BEGIN is still to be sent before others may use the connection: call `open` first."""
        return self._fast is None or self._fast.begun

    async def begin(self, isolation: str | None) -> None:
        """Begin a transaction; without I/O where BEGIN can come with the first statement.

        Args:
            isolation: the level for a user's unit, as the database spells it; None for a transaction of Headrace's own.
        """
        statements = self._dialect.begin(read_only=self.read_only, isolation=isolation)
        if self._fast is not None:
            self._fast.open_with(statements)
        else:
            self._root = await greenlet_spawn(self._begin, statements)

    async def open(self) -> None:
        """Begin now what `begin` has only noted."""
        if self._fast is not None and not self._fast.begun:
            await self._fast.begin()

    def join(self) -> Connection:
        """SQLAlchemy's connection, for statements of others inside the transaction."""
        if self._root is None:
            # Without this SQLAlchemy would believe that the session owns the transaction. No I/O.
            self._root = self.connection.begin()
        return self.connection

    def _begin(self, statements: Sequence[str]) -> RootTransaction:
        root = self.connection.begin()
        if self._dialect.is_open(self.connection):
            # The engine's own listener has begun one, of a kind that cannot be known; ours must lock as we say.
            self.connection.exec_driver_sql("ROLLBACK")
        for statement in statements:
            self.connection.exec_driver_sql(statement)
        return root

    async def run(self, steps: Sequence[Step], *, commit: bool = False) -> Sequence[Outcome]:
        """Run statements of Headrace's own, then COMMIT if asked. Raises as `run_fast`, with the driver's errors."""
        if self._fast is not None:
            return await run_fast(self._fast, self._compiled, steps, commit=commit)
        return await greenlet_spawn(partial(run_slow, self.connection, steps, commit=commit))

    async def execute(self, statement: str) -> None:
        """Run one statement without parameters, for what SQLAlchemy has no words for."""
        await self.open()
        await greenlet_spawn(self.join().exec_driver_sql, statement)

    async def read(self, steps: Sequence[Step]) -> Sequence[Outcome]:
        """Run statements that only read, the last of the transaction: where the driver can, its end is in the same hop."""
        if self._fast is None:
            return await self.run(steps)
        end = ("ROLLBACK", *self._dialect.end(read_only=self.read_only))
        return await run_fast(self._fast, self._compiled, steps, commit=False, then=end)

    async def end(self) -> None:
        """Roll back what is not committed. May raise the driver's errors; then the connection is to be given up."""
        root, self._root = self._root, None
        after = self._dialect.end(read_only=self.read_only)
        if self._fast is not None and self.usable:
            await self._fast.end(after)
        if root is None:
            return
        if self._ends_at_once and self.reusable:
            self._end(root, after)
        else:
            await greenlet_spawn(self._end, root, after)

    def _end(self, root: RootTransaction, after: Sequence[str]) -> None:
        if root.is_active:
            root.rollback()
        else:
            root.close()
        if self._fast is None and self.usable:
            for statement in after:
                self.connection.exec_driver_sql(statement)
            if after:
                self.connection.rollback()
