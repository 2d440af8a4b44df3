"""Publishing to logs on PostgreSQL, where many do it at once (G6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from msgspec import structs
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from headrace.broker import Topic
from headrace.drivers.sql import SqlBroker, SqlStorage
from tests.conformance import postgres
from tests.unit.drivers_sql.steps import message

TOPICS = ("a", "b")


@pytest.fixture(scope="module")
def databases() -> Iterator[dict[str, str]]:
    """A database for each driver."""
    made = {driver: asyncio.run(postgres.create()) for driver in ("asyncpg", "psycopg")}
    yield made
    for name in made.values():
        asyncio.run(postgres.drop(name))


@pytest.fixture(params=["asyncpg", "psycopg"])
async def storage(
    request: pytest.FixtureRequest, databases: dict[str, str]
) -> AsyncIterator[SqlStorage]:
    name = databases[request.param]
    await postgres.empty(name)
    storage = SqlStorage(postgres.url(request.param, name))
    await storage.start("app", partitions=4)
    yield storage
    await storage.stop()


async def started(storage: SqlStorage) -> SqlBroker:
    broker = SqlBroker()
    await broker.start(storage)
    await broker.declare([Topic(name, partitions=3) for name in TOPICS])
    return broker


async def test_publishers_of_the_same_partitions_wait_without_a_deadlock(
    storage: SqlStorage,
) -> None:
    """Whatever order their messages have, the partitions are locked in one, and positions have no gaps."""
    broker = await started(storage)
    batch = [message(f"{n}", f"k{n}", TOPICS[n % 2]) for n in range(30)]

    async def publish(number: int) -> None:
        for n in range(10):
            mixed = [
                structs.replace(
                    one,
                    envelope=structs.replace(one.envelope, id=f"{one.envelope.id}-{number}-{n}"),
                )
                for one in batch
            ]
            await broker.publish(mixed[::-1] if number % 2 else mixed)

    async with asyncio.timeout(60):
        await asyncio.gather(*(publish(number) for number in range(4)))
    ids: set[str] = set()
    for topic in TOPICS:
        found = await broker.read("g", topic, dict.fromkeys(range(3)), limit=10_000)
        ids |= {one.message.envelope.id for one in found}
        for partition in range(3):
            own = [int(one.position) for one in found if one.partition == partition]
            assert own == list(range(1, len(own) + 1))
    assert len(ids) == 30 * 4 * 10


async def test_a_partition_that_has_vanished_is_an_error(storage: SqlStorage) -> None:
    """A message is stored or refused, never left out in silence (G5, G13)."""
    broker = await started(storage)
    await broker.publish([message("1", topic="a")])
    async with storage.database.engine.begin() as connection:
        await connection.execute(text("DELETE FROM headrace_topic_partition"))
    with pytest.raises(IntegrityError):
        await broker.publish([message("2", topic="a")])
