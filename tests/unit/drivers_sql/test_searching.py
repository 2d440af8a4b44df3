"""Messages are found in topics that are kept in a database, and in memory: by id, by key, by what belongs together."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec import structs

from headrace.broker import SearchableLog, Topic
from headrace.drivers.memory import MemoryBroker
from headrace.drivers.sql import SqlBroker, SqlStorage, searching
from headrace.envelope import Message
from headrace.errors import TopicNotFound
from tests.servers import engine
from tests.unit.drivers_sql.steps import message

Searched = MemoryBroker | SqlBroker


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb"])
async def broker(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Searched]:
    """A broker with one topic of four partitions."""
    if request.param == "memory":
        memory = MemoryBroker()
        await memory.start(None)
        await memory.declare([Topic("orders", 4)])
        yield memory
        return
    drop = None
    if request.param != "sqlite":
        url, drop = engine(request.param).fresh_database()
    storage = SqlStorage(url)
    await storage.start("app", partitions=4)
    sql = SqlBroker()
    await sql.start(storage)
    await sql.declare([Topic("orders", 4)])
    yield sql
    await sql.stop()
    await storage.stop()
    if drop is not None:
        drop()


def of(number: int, key: str | None, correlation: str) -> Message:
    made = message(topic="orders", key=key)
    envelope = structs.replace(made.envelope, id=f"id-{number}", correlationid=correlation)
    return structs.replace(made, envelope=envelope)


async def test_messages_are_found_by_id_by_key_and_by_request(broker: Searched) -> None:
    """All that is given has to apply; each partition is in order."""
    assert isinstance(broker, SearchableLog)
    await broker.publish([of(n, f"k{n % 3}", f"r{n % 2}") for n in range(12)])
    (one,) = await broker.search("orders", id="id-7")
    assert (one.message.envelope.id, one.message.key) == ("id-7", "k1")
    assert await broker.search("orders", id="id-77") == []
    found = await broker.search("orders", key="k2")
    assert [one.message.envelope.id for one in found] == ["id-2", "id-5", "id-8", "id-11"]
    found = await broker.search("orders", correlation="r1")
    assert sorted(int(one.message.envelope.id[3:]) for one in found) == [1, 3, 5, 7, 9, 11]
    found = await broker.search("orders", key="k2", correlation="r1")
    assert [one.message.envelope.id for one in found] == ["id-5", "id-11"]


async def test_the_limit_takes_the_latest(broker: Searched) -> None:
    """In order all the same."""
    await broker.publish([of(n, "k", "r") for n in range(5)])
    found = await broker.search("orders", key="k", limit=2)
    assert [one.message.envelope.id for one in found] == ["id-3", "id-4"]


async def test_a_topic_that_is_not_there_is_an_error(broker: Searched) -> None:
    """As it is for readers."""
    with pytest.raises(TopicNotFound):
        await broker.search("parcels", key="k")


async def test_what_is_looked_for_is_no_pattern(broker: Searched) -> None:
    """A key or a correlation id with signs of patterns finds itself at most, and nothing else (G14)."""
    await broker.publish([of(1, "a%", "r%"), of(2, "ab", "rb"), of(3, "a_", "r_")])
    assert [one.message.key for one in await broker.search("orders", key="a%")] == ["a%"]
    found = await broker.search("orders", correlation="r_")
    assert {one.message.envelope.id for one in found} <= {"id-3"}


async def test_long_partitions_are_read_in_parts(
    storage: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is one short statement; what was deleted before the first row is not looked for."""
    monkeypatch.setattr(searching, "PART", 3)
    sql = SqlBroker()
    await sql.start(storage)
    await sql.declare([Topic("orders", 1)])
    await sql.publish([of(n, f"k{n % 4}", "r") for n in range(20)])
    found = await sql.search("orders", key="k1")
    assert [one.message.envelope.id for one in found] == [f"id-{n}" for n in (1, 5, 9, 13, 17)]
    assert len(await sql.search("orders", correlation="r", limit=7)) == 7
    await sql.stop()
