"""The sql:// broker beyond what the conformance kit tries."""

from __future__ import annotations

import asyncio

import pytest

from headrace.broker import Topic
from headrace.drivers.memory import MemoryStorage
from headrace.drivers.sql import SqlBroker, SqlStorage
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicNotFound
from headrace.storage import group_queue
from tests.unit.drivers_sql.steps import message


async def started(storage: SqlStorage, broker: SqlBroker, partitions: int = 1) -> SqlBroker:
    await broker.start(storage)
    await broker.declare([Topic("orders", partitions)])
    return broker


async def test_it_needs_a_sql_storage() -> None:
    """Started on another storage, or none, it says what to do."""
    for storage in (None, MemoryStorage()):
        with pytest.raises(ConfigurationError, match="SqlStorage"):
            await SqlBroker().start(storage)


async def test_a_stopped_storage_is_an_unavailable_broker(storage: SqlStorage) -> None:
    """The relay sees a database that is gone as a broker that is gone (G6)."""
    broker = await started(storage, SqlBroker())
    await storage.stop()
    with pytest.raises(BrokerUnavailable, match="not started"):
        await broker.publish([message()])
    await broker.stop()


async def test_an_unknown_topic_names_the_nearest(storage: SqlStorage) -> None:
    """A typing error in a topic is answered with the name that was meant."""
    broker = await started(storage, SqlBroker())
    with pytest.raises(TopicNotFound, match="'orders'"):
        await broker.publish([message(topic="order")])


async def test_positions_have_no_gaps_whoever_publishes(storage: SqlStorage, url: str) -> None:
    """Publishers in two processes number a partition without gaps and lose nothing (G6)."""
    other_storage = SqlStorage(url)
    await other_storage.start("other", partitions=4)
    one, two = await started(storage, SqlBroker()), await started(other_storage, SqlBroker())
    await asyncio.gather(
        *(broker.publish([message(f"{n}")]) for n in range(10) for broker in (one, two))
    )
    found = await one.read("g", "orders", {0: None}, limit=100)
    assert [row.position for row in found] == [str(n) for n in range(1, 21)]
    assert await two.backlog("g", "orders", {0: "5"}) == 15
    await other_storage.stop()


async def test_a_read_of_fewer_than_partitions_starves_none(storage: SqlStorage) -> None:
    """With a limit below the number of partitions all come to be read as the group goes on (G8)."""
    broker = await started(storage, SqlBroker(), partitions=4)
    await broker.publish([message(str(n), f"k{n}") for n in range(40)])
    after: dict[int, str | None] = dict.fromkeys(range(4))
    seen: list[int] = []
    while found := await broker.read("g", "orders", after, limit=1):
        seen.append(found[0].partition)
        after[found[0].partition] = found[0].position
    assert len(seen) == 40
    assert set(seen[:8]) == set(range(4))


async def test_what_one_partition_leaves_goes_to_another(storage: SqlStorage) -> None:
    """A read is filled from the partitions that have messages (G8)."""
    broker = await started(storage, SqlBroker(), partitions=4)
    await broker.publish([message(str(n), "same") for n in range(40)])
    assert len(await broker.read("g", "orders", dict.fromkeys(range(4)), limit=20)) == 20


async def finish(storage: SqlStorage, group: str, position: str) -> None:
    queue = group_queue(group, "orders")
    (lease,) = (await storage.lease(queue, "me", partitions=1, seconds=60)).held
    transaction = storage.transaction()
    transaction.advance(lease, position)
    await transaction.commit()


async def test_what_every_group_finished_is_deleted(storage: SqlStorage) -> None:
    """Without retention, messages go as soon as the slowest known group has finished them (G11)."""
    broker = await started(storage, SqlBroker(retention_seconds=0))
    await broker.publish([message(str(n)) for n in range(10)])
    await finish(storage, "fast", "8")
    await finish(storage, "slow", "3")
    await broker.settle("fast", "orders", {0: "8"})
    found = await broker.read("g", "orders", {0: None}, limit=100)
    assert [row.position for row in found] == [str(n) for n in range(4, 11)]
    assert await broker.backlog("g", "orders", {0: None}) == 7


async def test_retention_keeps_what_is_young(storage: SqlStorage) -> None:
    """Finished messages stay for groups that come later, as long as they are retained (G8)."""
    broker = await started(storage, SqlBroker())
    await broker.publish([message(str(n)) for n in range(10)])
    await finish(storage, "g", "10")
    await broker.settle("g", "orders", {0: "10"})
    assert len(await broker.read("g", "orders", {0: None}, limit=100)) == 10


async def test_a_group_that_has_not_begun_keeps_everything(storage: SqlStorage) -> None:
    """A known group without a position has finished nothing (G7)."""
    broker = await started(storage, SqlBroker(retention_seconds=0))
    await broker.publish([message(str(n)) for n in range(3)])
    await storage.lease(group_queue("new", "orders"), "me", partitions=1, seconds=60)
    await finish(storage, "g", "3")
    await broker.settle("g", "orders", {0: "3"})
    assert len(await broker.read("g", "orders", {0: None}, limit=100)) == 3


async def test_positions_go_on_after_deletion(storage: SqlStorage) -> None:
    """A partition whose messages are all deleted goes on numbering where it was (G6)."""
    broker = await started(storage, SqlBroker(retention_seconds=0))
    await broker.publish([message("1")])
    await finish(storage, "g", "1")
    await broker.settle("g", "orders", {0: "1"})
    assert await broker.read("g", "orders", {0: None}, limit=9) == []
    await broker.publish([message("2")])
    (row,) = await broker.read("g", "orders", {0: "1"}, limit=9)
    assert row.position == "2"


async def test_brokers_on_one_storage_wake_each_other(storage: SqlStorage) -> None:
    """A publish by one broker wakes the listeners of another on the same storage, until they end it."""
    one, two = await started(storage, SqlBroker()), await started(storage, SqlBroker())
    woken = asyncio.Event()
    end = two.listen("g", "orders", woken.set)
    await one.publish([message("1")])
    async with asyncio.timeout(5):
        await woken.wait()
    woken.clear()
    end()
    end()
    await one.publish([message("2")])
    await asyncio.sleep(0)
    assert not woken.is_set()
