"""Steps that the tests share."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from headrace.drivers.sql import SqlStorage, SqlTransaction
from headrace.envelope import Envelope, Message
from headrace.storage import Lease, outbox_queue

OUTBOX = outbox_queue("app")


def message(id: str = "1", key: str | None = "k", topic: str = "orders") -> Message:
    envelope = Envelope(id=id, source="shop", type="order.v1", time="2024-05-06T07:08:09Z")
    return Message(topic, key, envelope, b'{"n":1}')


def session_of(storage: SqlStorage, transaction: SqlTransaction) -> AsyncSession:
    session = storage.provides[AsyncSession](transaction)
    assert isinstance(session, AsyncSession)
    return session


def connection_of(storage: SqlStorage, transaction: SqlTransaction) -> AsyncConnection:
    connection = storage.provides[AsyncConnection](transaction)
    assert isinstance(connection, AsyncConnection)
    return connection


async def names(storage: SqlStorage) -> list[str]:
    """The accounts that are committed."""
    transaction = storage.transaction(read_only=True)
    try:
        session = session_of(storage, transaction)
        return list(await session.scalars(text("SELECT name FROM account ORDER BY name")))
    finally:
        await transaction.rollback()


async def outbox_ids(storage: SqlStorage) -> list[str]:
    """The ids of the messages in the outbox."""
    rows = await storage.ready(OUTBOX, range(4), limit=100)
    return [row.message.envelope.id for row in rows]


async def one_lease(
    storage: SqlStorage, owner: str = "a", *, queue: str = "group:g/orders", seconds: float = 60.0
) -> Lease:
    """The lease of a queue of one partition."""
    grant = await storage.lease(queue, owner, partitions=1, seconds=seconds)
    return grant.held[0]
