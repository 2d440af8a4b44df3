"""What `MemoryStorage` does beyond the conformance kit: bounded waiting, and errors that explain."""

from __future__ import annotations

import pytest

from headrace.drivers.memory import MemoryDatabase, MemoryStorage
from headrace.errors import (
    ConfigurationError,
    LeaseLost,
    PartitionCountChanged,
    StorageBusy,
    StorageUnavailable,
    UnitOfWorkError,
)
from headrace.storage import Lease, group_queue
from headrace.testing.conformance.samples import message

QUEUE = group_queue("billing", "orders")


async def test_waiting_for_a_lock_is_bounded() -> None:
    """A transaction that waits too long for another one's message gets `StorageBusy`, with advice (G11)."""
    storage = MemoryStorage(MemoryDatabase(busy_seconds=0.01))
    await storage.start("app", partitions=1)
    one, two = (await storage.lease(QUEUE, "a", partitions=2, seconds=60)).held
    first, second = storage.transaction(), storage.transaction()
    wanted = message()
    await first.admit(one, "billing", [wanted])
    with pytest.raises(StorageBusy, match="end units sooner") as caught:
        await second.admit(two, "billing", [wanted])
    assert storage.transient(caught.value)
    await second.rollback()
    await first.rollback()


async def test_a_storage_that_is_not_started_says_so() -> None:
    """Before `start` and after `stop` calls raise `StorageUnavailable` (G13)."""
    storage = MemoryStorage()
    with pytest.raises(StorageUnavailable, match="not started"):
        storage.transaction()
    await storage.start("app", partitions=1)
    await storage.stop()
    with pytest.raises(StorageUnavailable, match="not started"):
        await storage.ready("outbox:app", [0], limit=1)


async def test_one_object_is_one_apps() -> None:
    """Two apps on one object are refused; on objects that share the data they work (G12)."""
    storage = MemoryStorage()
    await storage.start("shop", partitions=1)
    with pytest.raises(ConfigurationError, match="runs for app 'shop' and was started for 'till'"):
        await storage.start("till", partitions=1)
    await MemoryStorage(storage.database).start("till", partitions=1)


async def test_faults_are_explained() -> None:
    """Errors name the value, and what to do about it (G13)."""
    storage = MemoryStorage()
    with pytest.raises(ConfigurationError, match="0 partitions: give 1 or more"):
        await storage.start("app", partitions=0)
    await storage.start("app", partitions=2)
    with pytest.raises(PartitionCountChanged, match="first started with 2 partitions, now with 3"):
        await storage.start("app", partitions=3)
    with pytest.raises(UnitOfWorkError, match="queries change nothing"):
        storage.transaction(read_only=True).enqueue([message()])
    lease = Lease(QUEUE, 0, token=7, owner="a", deadline=0.0)
    with pytest.raises(LeaseLost, match="with token 7, but there is no lease now"):
        await storage.transaction().admit(lease, "billing", [message()])


async def test_it_promises_no_more_than_it_holds() -> None:
    """Memory is not durable and offers handlers no session (G5)."""
    storage = MemoryStorage()
    assert not storage.durable
    assert not storage.provides


async def test_an_ended_transaction_leaves_nothing_behind() -> None:
    """Locks are gone with their transaction, so memory does not grow with the messages handled (G11)."""
    storage = MemoryStorage()
    await storage.start("app", partitions=1)
    [lease] = (await storage.lease(QUEUE, "a", partitions=1, seconds=60)).held
    for commits in (True, False):
        transaction = storage.transaction()
        await transaction.admit(lease, "billing", [message()])
        await (transaction.commit() if commits else transaction.rollback())
    assert not storage.database._locks
