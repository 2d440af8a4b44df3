"""`MemoryStorage`: a `Storage` that keeps everything in this process, for apps without a database and for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from headrace.drivers.memory.database import MemoryDatabase, Session
from headrace.drivers.memory.inspection import MemoryInspection
from headrace.drivers.memory.transaction import MemoryTransaction
from headrace.errors import (
    ConfigurationError,
    PartitionCountChanged,
    StorageBusy,
    StorageUnavailable,
)
from headrace.leases import clock
from headrace.storage import (
    Backlog,
    Failure,
    Lease,
    LeaseGrant,
    Owner,
    State,
    Stored,
    Transaction,
)


class MemoryStorage(MemoryInspection):
    """Keeps outbox, inbox, leases and parked messages in memory, with the behaviour of a database.

    What was committed survives `stop` and a new `start` of the same object, and is lost with the process. It provides
    no session, so nothing of the user's is in its transactions. One event loop uses it at a time.

    Args:
        database: the data; default a new one of its own. Pass the `database` of another `MemoryStorage` to work on
            the same data, as a second process on one database would.
    """

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self.database = database or MemoryDatabase()
        self._app: str | None = None
        self._running = False

    @property
    def durable(self) -> bool:
        """False: memory ends with the process."""
        return False

    @property
    def provides(self) -> Mapping[type, Callable[[Transaction], object]]:
        """Nothing: there is no session."""
        return MappingProxyType({})

    def transient(self, error: BaseException) -> bool:
        """See `Storage.transient`: a lock that could not be had, or a storage that is stopped."""
        return isinstance(error, StorageUnavailable | StorageBusy)

    async def start(self, app: str, *, partitions: int) -> Sequence[str]:
        """See `Storage.start`.

        Raises:
            ConfigurationError: another app uses this object, or `partitions` is below 1.
        """
        if self._running and self._app != app:
            raise ConfigurationError(
                f"this MemoryStorage runs for app {self._app!r} and was started for {app!r}: give each app its own,"
                " MemoryStorage(other.database) for the same data"
            )
        if partitions < 1:
            raise ConfigurationError(
                f"app {app!r} asks for {partitions} partitions: give 1 or more"
            )
        first = self.database.outboxes.setdefault(app, partitions)
        if first != partitions:
            raise PartitionCountChanged(
                f"the outbox of app {app!r} was first started with {first} partitions, now with {partitions}:"
                f" start it with {first}, or with a new MemoryStorage"
            )
        self._app = app
        self._running = True
        return ()

    async def stop(self) -> None:
        """See `Storage.stop`."""
        self._running = False

    def transaction(self, *, read_only: bool = False) -> MemoryTransaction:
        """See `Storage.transaction`."""
        database = self._open()
        assert self._app is not None
        return MemoryTransaction(database, self._app, read_only=read_only)

    async def lease(self, queue: str, owner: str, *, partitions: int, seconds: float) -> LeaseGrant:
        """See `Storage.lease`."""
        deadline = clock() + seconds
        database = self._open()
        return database.leases.lease(
            queue,
            owner,
            partitions=partitions,
            seconds=seconds,
            now=database.clock(),
            deadline=deadline,
        )

    async def release(
        self, queue: str, owner: str, leases: Sequence[Lease], *, leaving: bool = False
    ) -> None:
        """See `Storage.release`."""
        self._open().leases.release(queue, owner, leases, leaving=leaving)

    async def owners(self, queue: str) -> Mapping[int, Owner | None]:
        """See `Storage.owners`."""
        database = self._open()
        return database.leases.owners(queue, database.clock())

    async def ready(
        self,
        queue: str,
        partitions: Sequence[int],
        *,
        limit: int,
        paused_topics: Sequence[str] = (),
    ) -> Sequence[Stored]:
        """See `Storage.ready`."""
        rows = self._open().queue(queue).ready(partitions, frozenset(paused_topics), limit)
        return [row.to_publish() for row in rows]

    async def runnable(
        self, queue: str, partitions: Sequence[int], *, limit: int
    ) -> Sequence[Stored]:
        """See `Storage.runnable`."""
        database = self._open()
        rows = database.queue(queue).runnable(frozenset(partitions), database.clock(), limit)
        return [row.stored() for row in rows]

    async def due_in(self, queue: str, partitions: Sequence[int]) -> float | None:
        """See `Storage.due_in`."""
        database = self._open()
        return database.queue(queue).due_in(frozenset(partitions), database.clock())

    async def delete(self, positions: Sequence[int]) -> None:
        """See `Storage.delete`."""
        for position in positions:
            self._open().remove(position)

    async def attempt(self, lease: Lease, stored: Stored) -> bool:
        """See `Storage.attempt`."""
        await self._own(lease)
        database = self._open()
        if not database.may_run(stored):
            return False
        database.rows[stored.position].attempts = stored.attempts + 1
        return True

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
        """See `Storage.repark`."""
        await self._own(lease)
        database = self._open()
        row = database.rows.get(stored.position)
        if row is None:
            return
        due_at = database.clock() + delay_seconds if state is State.WAITING else None
        database.queues[row.queue].change(row, state, due_at)
        row.failure = failure or row.failure
        row.attempts = row.attempts if attempts is None else attempts

    async def _own(self, lease: Lease) -> None:
        """Check the token, after transactions that work under the same lease have ended."""
        database, session = self._open(), Session()
        database.leases.check(lease)
        try:
            await database.lock(("lease", lease.queue, lease.partition), session)
            database.leases.check(lease)
        finally:
            # What follows has no await in it, so nobody comes between this and the write.
            database.unlock(session)

    async def backlog(self, queue: str) -> Backlog:
        """See `Storage.backlog`."""
        database = self._open()
        return database.queue(queue).backlog(database.clock())

    async def positions(self, queue: str) -> Mapping[int, str]:
        """See `Storage.positions`."""
        return self._open().leases.positions(queue)

    async def learn_types(self, group: str, types: Sequence[str]) -> frozenset[str]:
        """See `Storage.learn_types`."""
        known = self._open().types
        if types:
            known[group] = known.get(group, frozenset()) | frozenset(types)
        return known.get(group, frozenset())

    def listen(self, queue: str, wake: Callable[[], None]) -> Callable[[], None]:
        """See `Storage.listen`: there is no other process, so nobody is called."""
        return lambda: None

    def hint(self, queue: str) -> None:
        """See `Storage.hint`: there is no other process to tell."""

    async def forget(self, *, inbox_older_than_seconds: float, limit: int = 1000) -> int:
        """See `Storage.forget`."""
        database = self._open()
        database.records.forget(database.clock())
        handled_before = database.clock() - inbox_older_than_seconds
        forgotten = 0
        # In order of handling, so the first row that is young enough ends it.
        while database.inbox and forgotten < limit:
            key = next(iter(database.inbox))
            if database.inbox[key] >= handled_before:
                break
            del database.inbox[key]
            forgotten += 1
        return forgotten

    def _open(self) -> MemoryDatabase:
        if not self._running:
            raise StorageUnavailable(
                "this MemoryStorage is not started: await start(app, partitions=...) first"
            )
        return self.database
