"""Statements of Headrace's own whose best form differs by database: here the plain ones, which every database can run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from headrace.drivers.sql import inbox, log, outbox, parking
from headrace.drivers.sql.steps import Outcome, Step, Values
from headrace.storage import State

if TYPE_CHECKING:
    from sqlalchemy import Executable

    from headrace.drivers.sql.dialect import Dialect
    from headrace.storage import Lease

Id = tuple[str, str]
"""The source and id of a message."""

Key = tuple[str, str]
"""A topic and key."""


class Statements:
    """Makes steps. A database that can do better overrides a method; what it finds and changes stays the same.

    Args:
        dialect: of the database.
    """

    chunk = 500
    """How many rows one statement names: below the number of parameters of every database, short as a transaction."""

    stale_after_waiting = False
    """True if the holds that `admit` reads may be older than what a wait for another transaction's inbox row has shown."""

    reads_before_deleting = False
    """True if a DELETE waits for rows that it only looks at, so that what is old is found by a SELECT before."""

    reads_in_order = False
    """True if parts that each have the order of the whole are merged row by row: no part is read further than needed."""

    replaced: Mapping[Executable, Executable] = MappingProxyType({})
    """What to run instead of a statement that this database cannot run, or not well; with the same parameters."""

    def __init__(self, dialect: Dialect) -> None:
        self._see = inbox.see(dialect)

    def own(self, lease: Lease, *, isolation: str | None = None) -> Step:
        """Lock the lease's row; ends its group with `Unexpected` if the token is not the lease's any more.

        On a server, also sets how long this transaction may be idle: no longer than the lease lasts, so that an owner that
        hangs is not in its successor's way.

        Args:
            lease: whose row.
            isolation: of the transaction, None for one of Headrace's own.
        """
        return Step(parking.own, lease_values(lease), expects=1)

    def advance(self, lease: Lease, position: str, *, owned: bool = False) -> Step:
        """Move the position of a lease; ends its group with `Unexpected` as `own` does.

        Args:
            lease: whose.
            position: the new one.
            owned: this transaction has locked the row and found the token there.
        """
        return Step(parking.advance, {**lease_values(lease), "l_position": position}, expects=1)

    def admit(
        self, lease: Lease, group: str, ids: Sequence[Id], keys: Sequence[Key]
    ) -> Sequence[Step]:
        """Insert ids, sorted and each once, into the inbox, waiting for others that do, and look for holds of keys."""
        seen = (Step(self._see, {"i_group": group, "i_source": s, "i_id": i}) for s, i in ids)
        return [*seen, *self.holds(lease, keys)]

    def holds(self, lease: Lease, keys: Sequence[Key]) -> Sequence[Step]:
        """Look for holds of keys."""
        return [
            Step(parking.held, {"l_queue": lease.queue, "m_topic": topic, "m_key": key})
            for topic, key in keys
        ]

    def admitted(
        self, ids: Sequence[Id], keys: Sequence[Key], found: Sequence[Outcome]
    ) -> tuple[Collection[Id], Collection[Key]]:
        """From what the steps of `admit` found: the ids that are new, and the keys that are held."""
        new = {one for one, outcome in zip(ids, found, strict=False) if outcome.count}
        return new, self.held(keys, found[len(ids) :])

    def held(self, keys: Sequence[Key], found: Sequence[Outcome]) -> Collection[Key]:
        """From what the steps of `holds` found: the keys that are held."""
        return {key for key, outcome in zip(keys, found, strict=True) if outcome.rows}

    def enqueue(self, rows: Sequence[Values]) -> Step:
        """Insert messages that whoever commits may add, in one statement, numbered in this order.

        Args:
            rows: of `outbox.enqueue_values` and `outbox.defer_values`.
        """
        return Step(outbox.enqueue, rows)

    def append(self, reserve: Sequence[Values], rows: Sequence[Values]) -> Sequence[Step]:
        """Reserve positions of logs, in this order, and add messages there.

        Args:
            reserve: the parameters of `log.reserve`: how many messages each partition gets.
            rows: the parameters of `log.append`.
        """
        return (Step(log.reserve, reserve), Step(log.append, rows))

    def delete(self, positions: Sequence[int]) -> Step:
        """Delete outbox rows by number, at most `chunk`."""
        return Step(outbox.delete_published, [{"r_position": one} for one in positions])


def lease_values(lease: Lease) -> Mapping[str, object]:
    """The parameters that name a lease and its token."""
    return {"l_queue": lease.queue, "l_partition": lease.partition, "l_token": lease.token}


def pairs(outcome: Outcome, kind: int) -> Collection[tuple[str, str]]:
    """The last two columns of the rows whose first is `kind`."""
    return {cast("tuple[str, str]", row[1:]) for row in outcome.rows if row[0] == kind}


def promote(queue: str, topic: str, key: str) -> Step:
    """The step that lets the next message of a key run, after the one before it was deleted."""
    return Step(parking.promote, {"h_queue": queue, "h_topic": topic, "h_key": key})


def delay_ms(state: State, delay_seconds: float) -> int | None:
    """The delay as the database takes it; None for a state that waits for no time."""
    return round(delay_seconds * 1000) if state is State.WAITING else None
