"""The session and connection of a unit work in its transaction, and cannot end it (G4)."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from headrace.drivers.sql import SqlStorage
from headrace.errors import UnitOfWorkClosed, UnitOfWorkError
from tests.unit.drivers_sql.conftest import Account
from tests.unit.drivers_sql.steps import (
    connection_of,
    message,
    names,
    outbox_ids,
    session_of,
)


async def test_the_users_rows_and_the_outbox_commit_together(storage: SqlStorage) -> None:
    """What was added to the session and what was enqueued are there after the commit, unflushed or not (G4)."""
    transaction = storage.transaction()
    session_of(storage, transaction).add(Account(name="ann"))
    transaction.enqueue([message("1"), message("2")])
    await transaction.commit()
    assert await names(storage) == ["ann"]
    assert await outbox_ids(storage) == ["1", "2"]


async def test_a_rollback_undoes_both(storage: SqlStorage) -> None:
    """After a rollback neither the user's rows nor the outbox's are there (G4)."""
    transaction = storage.transaction()
    await session_of(storage, transaction).execute(text("INSERT INTO account VALUES ('ann', 0)"))
    transaction.enqueue([message()])
    await transaction.rollback()
    assert await names(storage) == []
    assert await outbox_ids(storage) == []


async def test_session_and_connection_share_the_transaction(storage: SqlStorage) -> None:
    """A row written through the connection is seen by the session before the commit (G4)."""
    transaction = storage.transaction()
    await connection_of(storage, transaction).execute(text("INSERT INTO account VALUES ('ann', 5)"))
    account = await session_of(storage, transaction).get(Account, "ann")
    assert account is not None
    assert account.balance == 5
    await transaction.commit()
    assert await names(storage) == ["ann"]


async def test_nothing_is_touched_before_the_first_statement(storage: SqlStorage) -> None:
    """Asking for session and connection takes no database connection (G4)."""
    transaction = storage.transaction()
    session_of(storage, transaction)
    connection = connection_of(storage, transaction)
    assert not connection.in_transaction()
    assert not connection.closed
    assert not transaction.touched
    await transaction.commit()


async def test_objects_stay_loaded_after_the_commit(storage: SqlStorage) -> None:
    """What a handler returns can be read after the commit, without the session (G4)."""
    transaction = storage.transaction()
    account = Account(name="ann", balance=3)
    session_of(storage, transaction).add(account)
    await transaction.commit()
    assert (account.name, account.balance) == ("ann", 3)


@pytest.mark.parametrize("call", ["commit", "rollback", "close", "reset", "invalidate"])
async def test_a_session_cannot_end_the_unit(storage: SqlStorage, call: str) -> None:
    """A session's commit, rollback or close is refused with what to write, and the unit goes on (G4)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    with pytest.raises(UnitOfWorkError, match="begin_nested"):
        await getattr(session, call)()
    await transaction.commit()
    assert await names(storage) == ["ann"]


async def test_session_begin_is_refused(storage: SqlStorage) -> None:
    """`async with session.begin():` is refused with what to write (G4)."""
    transaction = storage.transaction()
    with pytest.raises(UnitOfWorkError, match="begin_nested"):
        async with session_of(storage, transaction).begin():
            pass
    await transaction.rollback()


async def test_the_synchronous_session_is_guarded_too(storage: SqlStorage) -> None:
    """A commit inside `run_sync` is refused (G4)."""

    def work(session: Session) -> None:
        session.commit()

    transaction = storage.transaction()
    with pytest.raises(UnitOfWorkError, match="begin_nested"):
        await session_of(storage, transaction).run_sync(work)
    await transaction.rollback()


@pytest.mark.parametrize("call", ["commit", "rollback", "close", "invalidate", "begin"])
async def test_a_connection_cannot_end_the_unit(storage: SqlStorage, call: str) -> None:
    """A connection's commit, rollback, close or begin is refused with what to write (G4)."""
    transaction = storage.transaction()
    connection = connection_of(storage, transaction)
    await connection.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    with pytest.raises(UnitOfWorkError, match="begin_nested"):
        await getattr(connection, call)()
    await transaction.commit()
    assert await names(storage) == ["ann"]


async def test_a_commit_from_beneath_is_refused(storage: SqlStorage) -> None:
    """The connection that a session hands out cannot commit either (G4)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    beneath = await session.connection()
    with pytest.raises(UnitOfWorkError, match="begin_nested"):
        await beneath.commit()
    await transaction.rollback()
    assert await names(storage) == []


async def test_a_rollback_from_beneath_dooms(storage: SqlStorage) -> None:
    """After a rollback from beneath nothing more is executed or committed (G4)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    await (await session.connection()).rollback()
    with pytest.raises(UnitOfWorkError, match="rolled back"):
        await session.execute(text("INSERT INTO account VALUES ('bob', 0)"))
    with pytest.raises(UnitOfWorkError, match="rolled back"):
        await transaction.commit()
    assert await names(storage) == []


async def test_commit_as_a_statement_is_found(storage: SqlStorage) -> None:
    """A COMMIT sent as text ends the transaction; no later statement is committed alone (G4)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    await session.execute(text("COMMIT"))
    with pytest.raises(OperationalError, match="ended"):
        await session.execute(text("INSERT INTO account VALUES ('bob', 0)"))
    await transaction.rollback()
    assert await names(storage) == ["ann"]


async def test_a_constraint_that_only_commit_finds_broken_is_an_integrity_error(
    storage: SqlStorage,
) -> None:
    """A deferred foreign key refuses COMMIT itself: SQLAlchemy's IntegrityError, and nothing is stored (G4)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(
        text(
            "CREATE TABLE pet (owner TEXT REFERENCES account (name) DEFERRABLE INITIALLY DEFERRED)"
        )
    )
    await session.execute(text("INSERT INTO pet VALUES ('nobody')"))
    session.add(Account(name="ann"))
    transaction.enqueue([message("1")])
    with pytest.raises(IntegrityError, match="FOREIGN KEY constraint failed"):
        await transaction.commit()
    assert await names(storage) == []
    assert await outbox_ids(storage) == []


async def test_a_failed_savepoint_is_recoverable(storage: SqlStorage) -> None:
    """An IntegrityError inside `begin_nested` undoes that part only (G4)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    session.add(Account(name="ann"))
    await session.flush()

    async def fail_alone() -> None:
        async with session.begin_nested():
            session.add(Account(name="bob"))
            await session.flush()
            await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))

    with pytest.raises(IntegrityError):
        await fail_alone()
    assert transaction.doomed is None
    session.add(Account(name="eve"))
    await transaction.commit()
    assert await names(storage) == ["ann", "eve"]


async def test_a_savepoint_of_the_connection_works(storage: SqlStorage) -> None:
    """`connection.begin_nested()` undoes its own part (G4)."""
    transaction = storage.transaction()
    connection = connection_of(storage, transaction)
    async with connection.begin_nested():
        await connection.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    with pytest.raises(IntegrityError):
        async with connection.begin_nested():
            await connection.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    await transaction.commit()
    assert await names(storage) == ["ann"]


async def test_a_caught_constraint_of_a_statement_does_not_doom(storage: SqlStorage) -> None:
    """SQLite undoes the one statement that broke a constraint; the unit may go on (G4)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    with pytest.raises(IntegrityError):
        await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    await session.execute(text("INSERT INTO account VALUES ('bob', 0)"))
    await transaction.commit()
    assert await names(storage) == ["ann", "bob"]


async def test_a_caught_failed_flush_dooms(storage: SqlStorage) -> None:
    """A flush that fails outside a savepoint has rolled all back: its error comes again, also from the commit (G4)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    session.add(Account(name="ann"))
    with pytest.raises(IntegrityError) as caught:
        await session.flush()
    assert transaction.doomed is caught.value
    with pytest.raises(IntegrityError):
        await connection_of(storage, transaction).execute(
            text("INSERT INTO account VALUES ('x',0)")
        )
    with pytest.raises(IntegrityError) as again:
        await transaction.commit()
    assert again.value is caught.value
    assert await names(storage) == []


async def test_a_flush_that_fails_at_the_commit_stores_nothing(storage: SqlStorage) -> None:
    """The commit raises the error of its flush, and the outbox stays empty (G4)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    session.add(Account(name="ann"))
    transaction.enqueue([message()])
    with pytest.raises(IntegrityError):
        await transaction.commit()
    assert await names(storage) == []
    assert await outbox_ids(storage) == []


async def test_a_savepoint_of_the_unit_undoes_the_session(storage: SqlStorage) -> None:
    """Rolling a unit's savepoint back undoes what session and connection did since, and what was enqueued (G4)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    session.add(Account(name="ann"))
    transaction.enqueue([message("1")])
    savepoint = await transaction.savepoint()
    session.add(Account(name="bob"))
    await connection_of(storage, transaction).execute(text("INSERT INTO account VALUES ('eve', 0)"))
    transaction.enqueue([message("2")])
    await savepoint.rollback()
    await transaction.commit()
    assert await names(storage) == ["ann"]
    assert await outbox_ids(storage) == ["1"]


async def test_use_after_the_end_is_refused(storage: SqlStorage) -> None:
    """A kept session or connection gets `UnitOfWorkClosed`, never a transaction of somebody else's (G4)."""
    transaction = storage.transaction()
    session, connection = session_of(storage, transaction), connection_of(storage, transaction)
    await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    await transaction.commit()
    for late in (
        lambda: session.execute(select(Account)),
        lambda: session.connection(),
        lambda: connection.execute(text("SELECT 1")),
        transaction.commit,
    ):
        with pytest.raises(UnitOfWorkClosed):
            await late()
    with pytest.raises(UnitOfWorkClosed):
        session.add(Account(name="bob"))


async def test_a_query_cannot_write(storage: SqlStorage) -> None:
    """A read-only unit refuses writes, also as text, and what follows on the connection may write again (G4)."""
    transaction = storage.transaction(read_only=True)
    session = session_of(storage, transaction)
    assert (await session.scalars(select(Account))).all() == []
    with pytest.raises(UnitOfWorkError, match="read-only"):
        await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    await transaction.rollback()
    writing = storage.transaction()
    await session_of(storage, writing).execute(text("INSERT INTO account VALUES ('ann', 0)"))
    await writing.commit()
    assert await names(storage) == ["ann"]


async def test_a_query_does_not_wait_for_a_writer(storage: SqlStorage) -> None:
    """A read-only unit reads what is committed while another unit is writing."""
    writing = storage.transaction()
    await session_of(storage, writing).execute(text("INSERT INTO account VALUES ('ann', 0)"))
    assert await names(storage) == []
    await writing.commit()
    assert await names(storage) == ["ann"]


async def test_a_cancelled_statement_dooms(storage: SqlStorage) -> None:
    """A time limit that cuts a statement undoes the unit, even if the handler goes on (G4)."""
    slow = text(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 3000000)"
        " SELECT count(*) FROM n"
    )
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(text("INSERT INTO account VALUES ('ann', 0)"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await session.execute(slow)
    with pytest.raises(UnitOfWorkError, match="cut"):
        await session.execute(text("INSERT INTO account VALUES ('bob', 0)"))
    with pytest.raises(UnitOfWorkError, match="cut"):
        await transaction.commit()
    assert await names(storage) == []


async def test_units_take_their_turn(storage: SqlStorage) -> None:
    """Units that read and then write never fail for each other: they come one after another (G4)."""
    first = storage.transaction()
    await session_of(storage, first).execute(text("INSERT INTO account VALUES ('ann', 0)"))
    await first.commit()

    async def add() -> None:
        transaction = storage.transaction()
        session = session_of(storage, transaction)
        account = await session.get_one(Account, "ann")
        await asyncio.sleep(0)
        account.balance += 1
        await transaction.commit()

    await asyncio.gather(*(add() for _ in range(20)))
    reading = storage.transaction(read_only=True)
    assert (await session_of(storage, reading).get_one(Account, "ann")).balance == 20
    await reading.rollback()


async def test_a_stream_reads_in_chunks(storage: SqlStorage) -> None:
    """A result of more rows than one chunk comes whole, buffered or streamed (G11)."""
    many = text(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 2500) SELECT x FROM n"
    )
    transaction = storage.transaction(read_only=True)
    connection = connection_of(storage, transaction)
    assert len((await connection.execute(many)).all()) == 2500
    streamed = [row[0] async for row in await connection.stream(many)]
    assert streamed == list(range(1, 2501))
    await transaction.rollback()


async def test_a_session_vanishes_with_its_part_without_a_garbage_collection(
    storage: SqlStorage,
) -> None:
    """A part that has ended is in no circle of objects, so that a million messages leave no garbage behind (G11)."""
    transaction = storage.transaction()
    session = session_of(storage, transaction)
    await session.execute(text("SELECT 1"))
    left = weakref.ref(session.sync_session)
    gc.disable()
    try:
        await transaction.end_part()
        del session
        assert left() is None
    finally:
        gc.enable()
    await transaction.rollback()
