"""The storage seam: what a database must do for Headrace, with the contract on each method.

One mechanism lies beneath everything that waits: a *queue* is a named, durable list of messages, cut into partitions and
ordered by key. The outbox is a queue whose consumer is the relay; a subscription's parked messages (waiting for a retry,
held behind an earlier message of their key, dead) are a queue whose consumer is the subscription; deliveries to after-commit
handlers are a queue whose consumer is the app. A *lease* says who works a partition now, and its growing token says who may
still commit.

Source: "Transactional outbox" and "Idempotent consumer", microservices.io; "Dead Letter Channel", Enterprise Integration
Patterns; fencing tokens, M. Kleppmann, "How to do distributed locking" (2016).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from headrace.inspection import Inspection
from headrace.stored import (
    Audit,
    AuditNote,
    Backlog,
    DeadErrors,
    Failure,
    Handled,
    Lease,
    LeaseGrant,
    Owner,
    Pulse,
    State,
    Stored,
    Verdict,
    after_queue,
    group_queue,
    outbox_queue,
)

if TYPE_CHECKING:
    from headrace.envelope import Message

__all__ = [
    "Audit",
    "AuditNote",
    "Backlog",
    "DeadErrors",
    "Failure",
    "Handled",
    "Inspection",
    "Lease",
    "LeaseGrant",
    "Owner",
    "Pulse",
    "Savepoint",
    "State",
    "Storage",
    "Stored",
    "Transaction",
    "Verdict",
    "after_queue",
    "group_queue",
    "outbox_queue",
]


class Transaction(Protocol):
    """One database transaction, the storage's half of a unit of work. Used by one task at a time.

    Making one does no I/O. `touched` says whether it ever needed the database. After any database error that may have ended
    the transaction the storage sets `doomed` to that error: every later statement, also the user's through the session,
    raises it again, and `commit` rolls back and raises it (G4).
    """

    @property
    def touched(self) -> bool:
        """True once a connection was taken, a message enqueued or a write staged: there is something to commit."""
        ...

    @property
    def waits(self) -> bool:
        """True if the end of a touched one does I/O; False if it never waits, so that no cancellation can cut a commit."""
        ...

    @property
    def doomed(self) -> BaseException | None:
        """The error after which this transaction can only roll back, or None."""
        ...

    def doom(self, error: BaseException) -> None:
        """Refuse every later statement and the commit with `error`; the first error stays."""
        ...

    async def admit(
        self, lease: Lease, group: str, messages: Sequence[Message]
    ) -> Sequence[Verdict]:
        """Begin handling messages taken from a broker: the first call on a consumer's transaction.

        In this order, in one round trip where the driver can: lock the lease's row and compare the token; insert
        (group, source, id) of each into the inbox, waiting for another transaction that inserts the same; look for
        earlier parked messages of their (topic, key) in the lease's queue. Where writers run side by side the ids are
        inserted in sorted order, so that two batches that share some never wait for each other.

        Args:
            lease: of the partition that all of them are from.
            group: the consuming group.
            messages: one, or several that are to share this transaction, in order.

        Returns:
            A verdict for each, in the order given. DUPLICATE if the inbox had a committed row, or one from an earlier
            message of this transaction; HELD if an earlier message of its key is parked (the inbox row is kept: a parked
            id counts as seen); else NEW. A message without a key is never HELD.

        Raises:
            LeaseLost: another owner has raised the token; nothing was changed.
        """
        ...

    async def end_part(self) -> None:
        """End what one of several units does in this transaction, so that the next has a session of its own.

        Flushes and closes what `Storage.provides` gave out: whoever kept it gets `UnitOfWorkClosed`, and what it is asked
        for next is made anew, on the same connection, and sees all that was written before. Commits nothing. No savepoint
        of Headrace may be open; nested transactions that the user left open are kept, as at a commit.

        Raises:
            Exception: the doom, or the error of the flush; the transaction can only roll back then.
        """
        ...

    async def resume(self, lease: Lease, stored: Stored) -> bool:
        """Begin handling a parked message: check the token as `admit` does and stage the row's deletion with the commit.

        Returns:
            False if the row is gone or no longer runnable (dropped or changed meanwhile): do nothing with it.

        Raises:
            LeaseLost: as in `admit`.
        """
        ...

    def park(
        self,
        lease: Lease,
        message: Message,
        *,
        state: State,
        delay_seconds: float = 0.0,
        attempts: int = 0,
        failure: Failure | None = None,
    ) -> None:
        """Stage a message of the lease's queue and partition to be stored with the commit. `delay_seconds` from then if WAITING.

        `commit` raises `LeaseLost`, and stores nothing, when the token is no longer the lease's.
        """
        ...

    def advance(self, lease: Lease, position: str) -> None:
        """Stage the group's new position in the lease's partition, to be written with the commit.

        `commit` raises `LeaseLost`, and stores nothing, when the token is no longer the lease's.
        """
        ...

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Add messages to the app's outbox, after those added before.

        They are inserted by `commit` in one statement as the last before COMMIT, in this order, numbered by the server.
        """
        ...

    def defer(self, queue: str, messages: Sequence[tuple[int, Message]]) -> None:
        """Add messages to another queue, each with its partition there: READY, for whoever has the lease to run.

        They are inserted by `commit`, in the statement that inserts the outbox rows where the driver can. Unlike `park` it
        needs no lease: whoever commits may add. So they are to be without a key: nothing orders what several processes add.

        Args:
            queue: see `after_queue`.
            messages: the partition and the message, whose key is None.
        """
        ...

    async def savepoint(self) -> Savepoint:
        """Begin a nested transaction around what follows (nested sends with `savepoint=True`)."""
        ...

    async def commit(self) -> None:
        """Flush the session, write what was staged, insert the outbox rows, COMMIT. Without anything touched: no I/O.

        Never cancelled half way by the caller (the unit of work shields it). Closes the session and gives the connection back.

        Raises:
            CommitOutcomeUnknown: the connection was lost during COMMIT.
            LeaseLost: what was staged belongs to a lease whose token another owner has raised; then all was rolled back.
            Exception: the doom, or the error of the flush or insert; then all was rolled back.
        """
        ...

    async def rollback(self) -> None:
        """Undo all and give the connection back. Never raises for a connection that is already gone."""
        ...


class Savepoint(Protocol):
    """A part of a transaction that can be undone alone. What was enqueued or staged since it began is undone with it."""

    async def release(self) -> None:
        """Keep what was done since the savepoint (flushes the session first)."""
        ...

    async def rollback(self) -> None:
        """Undo what was done since the savepoint and clear a doom that arose inside it, if the database allows."""
        ...


class Storage(Inspection, Protocol):
    """A database that keeps the outbox, inbox, leases, positions and parked messages of apps. Safe for concurrent use.

    Besides `transaction`, every method is a short transaction of its own, READ COMMITTED, safe to repeat. They raise
    `StorageUnavailable` (with the driver's error as cause) when the database cannot be reached, `StorageBusy` when a
    lock could not be had in time.
    """

    @property
    def durable(self) -> bool:
        """True if what was committed survives the process."""
        ...

    @property
    def provides(self) -> Mapping[type, Callable[[Transaction], object]]:
        """Types that a handler or request-scoped dependency may ask for, each made from the running transaction."""
        ...

    def transient(self, error: BaseException) -> bool:
        """True if the error (one of Headrace's or the driver's) is the database's fault and not the message's (G9).

        Lost connections, deadlocks, serialization failures, lock time-outs, a full disk: such an error counts no attempt.
        A bare `OSError` is the fault of something else that a handler uses: the driver's own are translated.
        """
        ...

    async def start(self, app: str, *, partitions: int) -> Sequence[str]:
        """Connect, create or check the schema, and fix the outbox's partition count at its first start.

        Returns:
            Warnings for people: settings weaker than full durability, each a sentence.

        Raises:
            SchemaVersionError: the tables are of another version.
            PartitionCountChanged: the app was first started with another count.
        """
        ...

    async def stop(self) -> None:
        """Close connections. Can be started again."""
        ...

    def transaction(self, *, read_only: bool = False) -> Transaction:
        """A new transaction that takes its connection at first use. Read-only ones never take a write lock."""
        ...

    async def lease(self, queue: str, owner: str, *, partitions: int, seconds: float) -> LeaseGrant:
        """Note a sign of life of `owner`, renew what it holds, take free or expired partitions up to its fair share.

        The fair share is ceil(partitions / owners that live). Expiry is set and compared by the database's
        clock. A renewal keeps the token, an acquisition raises it.
        """
        ...

    async def release(
        self, queue: str, owner: str, leases: Sequence[Lease], *, leaving: bool = False
    ) -> None:
        """Give leases back cleanly, if the token is still theirs; with `leaving` also say that the owner is gone.

        Args:
            queue: whose partitions these are.
            owner: who held them.
            leases: those to give back; those that others have by now are left alone. May be empty.
            leaving: the owner asks for no more: it counts no longer in the others' fair share, also if it held nothing.
        """
        ...

    async def owners(self, queue: str) -> Mapping[int, Owner | None]:
        """Who has which partition of a queue: None if it was given back and nobody has taken it since.

        A partition that nobody ever had is not in the answer.
        """
        ...

    async def ready(
        self,
        queue: str,
        partitions: Sequence[int],
        *,
        limit: int,
        paused_topics: Sequence[str] = (),
    ) -> Sequence[Stored]:
        """The oldest READY messages of an outbox's partitions, by position, at most `limit`.

        Leaves out paused topics and messages whose (topic, key) has an earlier dead letter; excluded in the query, so that
        they never fill the answer, and however many a dead letter holds, they cost the readings after the first nothing: it
        may mark them HELD, and makes them READY again when the dead letter has gone. Leaves out rows that are not committed.

        Each envelope has the attribute `sequence`, made from the position by `sequence_of`; all else is as it was enqueued.
        """
        ...

    async def runnable(
        self, queue: str, partitions: Sequence[int], *, limit: int
    ) -> Sequence[Stored]:
        """Parked messages that may run now: the first of its key (or keyless) and READY, HELD, or WAITING and due."""
        ...

    async def due_in(self, queue: str, partitions: Sequence[int]) -> float | None:
        """Seconds until the next WAITING message of these partitions is due (0.0 if one is runnable), or None."""
        ...

    async def delete(self, positions: Sequence[int]) -> None:
        """Delete published outbox rows by number, never by range, in chunks. Numbers that are gone are no error."""
        ...

    async def attempt(self, lease: Lease, stored: Stored) -> bool:
        """Count one more attempt of a parked message than `stored` has, committed before it runs. Repeated, it counts once.

        Returns:
            False if the row is gone or not runnable any more.

        Raises:
            LeaseLost: the token is not the lease's any more.
        """
        ...

    async def repark(
        self,
        lease: Lease,
        stored: Stored,
        *,
        state: State,
        delay_seconds: float = 0.0,
        failure: Failure | None = None,
        attempts: int | None = None,
    ) -> None:
        """Put a message back at its own place in another state (DEAD, WAITING); for the outbox as for parked messages.

        A row that is gone is no error: there is nothing to put back.

        Args:
            lease: of the row's partition.
            stored: which row.
            state: the new state.
            delay_seconds: from now, if WAITING.
            failure: why; None keeps the last one.
            attempts: the new count; None leaves it.

        Raises:
            LeaseLost: as in `attempt`.
        """
        ...

    async def backlog(self, queue: str) -> Backlog:
        """The queue's size and oldest age, counted now."""
        ...

    async def positions(self, queue: str) -> Mapping[int, str]:
        """The finished positions per partition of a group's queue, as last committed."""
        ...

    async def learn_types(self, group: str, types: Sequence[str]) -> frozenset[str]:
        """Record that the group has handlers for these event types. Returns all that it ever had (G14).

        Without types it only reads: it writes nothing and waits for no writer.
        """
        ...

    def listen(self, queue: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` (cheap, on the loop) when another process has hinted that a queue may have something new.

        A hint only: who waits polls besides. Where processes cannot tell each other, nobody is ever called. Returns a
        function that ends it.
        """
        ...

    def hint(self, queue: str) -> None:
        """Tell other processes that a queue may have something new, after the commit that added it.

        Does no I/O here: many hints within a moment are told as one, in the background. One that is lost is only counted.
        """
        ...

    async def forget(self, *, inbox_older_than_seconds: float, limit: int = 1000) -> int:
        """Delete inbox rows handled longer ago, a bounded chunk in each call. Returns how many.

        Also deletes the pulses that have expired, which are few and not counted.
        """
        ...
