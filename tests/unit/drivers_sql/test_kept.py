"""The statement that connections to PostgreSQL keep ready for the usual notification."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec import structs
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from headrace.drivers.sql import SqlStorage
from headrace.drivers.sql.postgresql.kept import PREPARE
from headrace.drivers.sql.postgresql.lines import AsyncpgLine, PsycopgLine
from headrace.envelope import Message
from tests.conformance import postgres
from tests.unit.drivers_sql.steps import OUTBOX, message, outbox_ids, session_of

KEPT = text("SELECT count(*) FROM pg_prepared_statements WHERE name = 'headrace_enqueue'")
AWKWARD = ["k", None, "it's", "\\", "\\'); DROP TABLE headrace_queue; --", "ключ ☃", "%s $1 :x"]


@pytest.fixture(params=["asyncpg", "psycopg"])
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    name = await postgres.create()
    yield postgres.url(request.param, name)
    await postgres.drop(name)


@pytest.fixture
async def storage(url: str) -> AsyncIterator[SqlStorage]:
    storage = SqlStorage(url)
    await storage.start("app", partitions=4)
    yield storage
    await storage.stop()


async def put(storage: SqlStorage, one: Message, *first: str) -> int:
    """Commit a message in a unit that has run other statements; answers how often its connection kept the statement."""
    unit = storage.transaction()
    try:
        session = session_of(storage, unit)
        kept = await session.scalar(KEPT)
        for statement in first:
            await session.execute(text(statement))
        unit.enqueue([one])
        await unit.commit()
        return int(kept or 0)
    finally:
        await unit.rollback()


async def test_the_first_notification_makes_the_next_ones_quick(storage: SqlStorage) -> None:
    """A connection keeps the statement from its second unit on, and all are stored in their order (G6)."""
    assert [await put(storage, message(str(n))) for n in range(4)] == [0, 1, 1, 1]
    assert await outbox_ids(storage) == ["0", "1", "2", "3"]


async def test_any_text_is_enqueued_as_it_is(storage: SqlStorage) -> None:
    """By the kept statement as by the written one, whatever letters and bytes a message has (G5)."""
    await put(storage, message("first"))
    sent = [
        Message(f"t{key}", key, message(str(n)).envelope, bytes(range(256)))
        for n, key in enumerate(AWKWARD)
    ]
    for one in sent:
        assert await put(storage, one) == 1
    rows = (await storage.ready(OUTBOX, range(4), limit=20))[1:]
    found = [
        structs.replace(r.message, envelope=structs.replace(r.message.envelope, sequence=None))
        for r in rows
    ]
    assert found == sent


async def test_behind_a_pooler_nothing_is_kept(
    storage: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another process than the one that greeted us may run the next transaction, each brings the whole statement."""
    for line in (AsyncpgLine, PsycopgLine):
        monkeypatch.setattr(line, "_told_pid", 0)
    assert [await put(storage, message(str(n))) for n in range(3)] == [0, 0, 0]
    assert await outbox_ids(storage) == ["0", "1", "2"]


async def test_a_statement_that_cannot_be_kept_is_in_nobodys_way(storage: SqlStorage) -> None:
    """It is tried outside the transaction, so that a name that is taken costs no send."""
    await put(storage, message("0"), PREPARE)
    assert await put(storage, message("1")) == 1
    assert await outbox_ids(storage) == ["0", "1"]


async def test_a_statement_that_was_taken_away_fails_one_send(storage: SqlStorage) -> None:
    """Who deallocates it has all of that unit undone, and the next is written out again (G4)."""
    await put(storage, message("0"))
    with pytest.raises(Exception, match="headrace_enqueue"):
        await put(storage, message("1"), "DEALLOCATE headrace_enqueue")
    for number in ("2", "3"):
        assert await put(storage, message(number)) == 0
    assert await outbox_ids(storage) == ["0", "2", "3"]


async def test_nothing_is_kept_on_connections_of_a_users_engine(url: str) -> None:
    """Their pool is the user's, who may clean them between two uses."""
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    storage = SqlStorage(engine)
    await storage.start("app", partitions=4)
    try:
        assert [await put(storage, message(str(n))) for n in range(3)] == [0, 0, 0]
        assert await outbox_ids(storage) == ["0", "1", "2"]
    finally:
        await storage.stop()
        await engine.dispose()
