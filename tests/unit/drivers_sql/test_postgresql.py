"""What only a server with many writers can do wrong: locks, races, killed connections, isolation (G4 to G7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from msgspec import structs
from sqlalchemy import Connection, String, column, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from headrace.drivers.sql import SqlStorage, outbox, setup
from headrace.drivers.sql.schema import headrace_metadata
from headrace.drivers.sql.steps import Step
from headrace.envelope import Message
from headrace.errors import (
    CommitOutcomeUnknown,
    LeaseLost,
    SchemaVersionError,
    StorageUnavailable,
    UnitOfWorkError,
)
from headrace.storage import State, Verdict
from tests.conformance import postgres
from tests.unit.drivers_sql.conftest import Account, Base
from tests.unit.drivers_sql.steps import (
    OUTBOX,
    message,
    names,
    one_lease,
    outbox_ids,
    session_of,
)

INSERT = text("INSERT INTO account (name, balance) VALUES (:name, 0)")
LINE = "group:g/orders"


@pytest.fixture(scope="module")
def databases() -> Iterator[dict[str, str]]:
    """A database for each driver."""
    made = {driver: asyncio.run(postgres.create()) for driver in ("asyncpg", "psycopg")}
    yield made
    for name in made.values():
        asyncio.run(postgres.drop(name))


@pytest.fixture(params=["asyncpg", "psycopg"])
async def url(request: pytest.FixtureRequest, databases: dict[str, str]) -> str:
    name = databases[request.param]
    await postgres.empty(name)
    connection = await asyncpg.connect(f"{postgres.server()}/{name}")
    await connection.execute("DROP TABLE IF EXISTS account")
    await connection.close()
    return postgres.url(request.param, name)


@pytest.fixture
async def storage(url: str) -> AsyncIterator[SqlStorage]:
    storage = SqlStorage(url, metadata=Base.metadata)
    await storage.start("app", partitions=4)
    yield storage
    await storage.stop()


@pytest.fixture
async def direct(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside Headrace's."""
    connection = await asyncpg.connect(
        url.replace("+asyncpg", "").replace("+psycopg", ""),
    )
    yield connection
    await connection.close()


async def soon(holds: Callable[[], Awaitable[object]], *, seconds: float = 10.0) -> None:
    """Wait until the server says so."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0.005)


async def waits(direct: asyncpg.Connection) -> bool:
    """True if a statement waits for a lock in this database."""
    found = await direct.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(found)


async def kill(direct: asyncpg.Connection) -> None:
    """End every connection but this one, and wait until they are gone."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await direct.execute(f"SELECT pg_terminate_backend(pid) {others}")

    async def gone() -> bool:
        return not await direct.fetchval(f"SELECT count(*) {others}")

    await soon(gone)


async def test_a_late_commit_is_not_passed_over(storage: SqlStorage) -> None:
    """A row that was numbered early and commits after others were drained is found by the next read (G6)."""
    late, early = storage.transaction(), storage.transaction()
    link = await late._connect()
    rows = [outbox.enqueue_values(OUTBOX, 4, message("late", "a"))]
    await link.run([storage.database.statements.enqueue(rows)])
    early.enqueue([message("early", "b")])
    await early.commit()
    found = await storage.ready(OUTBOX, range(4), limit=10)
    assert [row.message.envelope.id for row in found] == ["early"]
    await storage.delete([row.position for row in found])
    await late.commit()
    assert await outbox_ids(storage) == ["late"]


async def test_many_rows_are_numbered_in_their_order(storage: SqlStorage) -> None:
    """The rows of one unit have rising numbers in the order collected, however many (G6)."""
    wanted = [str(n) for n in range(1000)]
    transaction = storage.transaction()
    transaction.enqueue([message(id, f"k{int(id) % 7}") for id in wanted])
    await transaction.commit()
    rows = await storage.ready(OUTBOX, range(4), limit=2000)
    assert [row.message.envelope.id for row in rows] == wanted


async def test_two_owners_cannot_both_pass(storage: SqlStorage, direct: asyncpg.Connection) -> None:
    """While a unit works under a lease nobody takes it; once taken, the old owner admits nothing (G7)."""
    lease = await one_lease(storage)
    unit = storage.transaction()
    assert await unit.admit(lease, "g", [message("1")]) == [Verdict.NEW]
    await direct.execute("UPDATE headrace_owner SET expires_at_ms = 0")
    grant = await storage.lease(LINE, "b", partitions=1, seconds=60.0)
    assert grant.held == (), "taken from beneath a unit that works"
    unit.advance(lease, "1")
    await unit.commit()
    taken = (await storage.lease(LINE, "b", partitions=1, seconds=60.0)).held[0]
    assert (taken.token, taken.position, taken.unclean) == (lease.token + 1, "1", True)
    late = storage.transaction()
    with pytest.raises(LeaseLost):
        await late.admit(lease, "g", [message("2")])
    await late.rollback()


async def test_a_renewal_waits_for_no_unit(storage: SqlStorage) -> None:
    """A sign of life is given while a handler takes its time under the lease (G6)."""
    lease = await one_lease(storage)
    unit = storage.transaction()
    await unit.admit(lease, "g", [message("1")])
    async with asyncio.timeout(2):
        grant = await storage.lease(LINE, "a", partitions=1, seconds=60.0)
    assert [one.token for one in grant.held] == [lease.token]
    await unit.commit()


async def test_a_hung_owner_is_ended_by_the_server(storage: SqlStorage) -> None:
    """A unit that is idle for longer than its lease loses its connection, and its partition goes on (G7)."""
    lease = await one_lease(storage, seconds=1.0)
    unit = storage.transaction()
    await unit.admit(lease, "g", [message("1")])

    async def taken() -> bool:
        return bool((await storage.lease(LINE, "b", partitions=1, seconds=60.0)).held)

    await soon(taken, seconds=5.0)
    with pytest.raises(StorageUnavailable) as caught:
        await unit.commit()
    assert storage.transient(caught.value)
    next_ = (await storage.lease(LINE, "b", partitions=1, seconds=60.0)).held[0]
    again = storage.transaction()
    assert await again.admit(next_, "g", [message("1")]) == [Verdict.NEW]
    await again.rollback()


async def test_the_holds_are_those_after_the_wait(
    storage: SqlStorage, direct: asyncpg.Connection
) -> None:
    """Who waited for another unit of its partition sees what that one parked (G8)."""
    lease = await one_lease(storage)
    first, second = storage.transaction(), storage.transaction()
    await first.admit(lease, "g", [message("1", "k")])
    waiting = asyncio.create_task(second.admit(lease, "g", [message("2", "k")]))
    await soon(lambda: waits(direct))
    first.park(lease, message("1", "k"), state=State.DEAD)
    await first.commit()
    assert await waiting == [Verdict.HELD]
    second.park(lease, message("2", "k"), state=State.HELD)
    await second.commit()
    assert [row.message.envelope.id for row in await storage.runnable(LINE, [0], limit=9)] == []


async def test_batches_that_share_ids_wait_without_a_deadlock(
    storage: SqlStorage, direct: asyncpg.Connection
) -> None:
    """Two batches with the same ids in opposite orders: one waits, and finds them all to be duplicates (G7)."""
    leases = (await storage.lease(LINE, "a", partitions=2, seconds=60.0)).held
    batch = [message(str(n), f"k{n}") for n in range(50)]
    first, second = storage.transaction(), storage.transaction()
    assert set(await first.admit(leases[0], "g", batch)) == {Verdict.NEW}
    waiting = asyncio.create_task(second.admit(leases[1], "g", batch[::-1]))
    await soon(lambda: waits(direct))
    await first.commit()
    assert set(await waiting) == {Verdict.DUPLICATE}
    await second.rollback()


async def test_dropping_promotes_what_is_parked_meanwhile(
    storage: SqlStorage, direct: asyncpg.Connection
) -> None:
    """A row that is parked while the one before it is dropped becomes the first of its key (G9)."""
    lease = await one_lease(storage)
    unit = storage.transaction()
    await unit.admit(lease, "g", [message("1", "k")])
    unit.park(lease, message("1", "k"), state=State.DEAD)
    await unit.commit()
    (dead,) = await storage.dead_letters()
    unit = storage.transaction()
    await unit.admit(lease, "g", [message("2", "k")])
    dropping = asyncio.create_task(storage.drop([dead.position]))
    await soon(lambda: waits(direct))
    unit.park(lease, message("2", "k"), state=State.HELD)
    await unit.commit()
    assert await dropping == 1
    assert [r.message.envelope.id for r in await storage.runnable(LINE, [0], limit=9)] == ["2"]


async def test_forgetting_waits_for_nobody(storage: SqlStorage) -> None:
    """Old inbox rows are deleted while others insert, and neither waits (G11)."""
    lease = await one_lease(storage)
    old = storage.transaction()
    await old.admit(lease, "g", [message(str(n)) for n in range(20)])
    await old.commit()
    writer = storage.transaction()
    await writer.admit(lease, "g", [message("new")])
    async with asyncio.timeout(2):
        assert await storage.forget(inbox_older_than_seconds=-1.0) == 20
    await writer.commit()
    again = storage.transaction()
    assert await again.admit(lease, "g", [message("new")]) == [Verdict.DUPLICATE]
    await again.rollback()


async def test_a_killed_connection_before_the_commit_is_no_doubt(
    storage: SqlStorage, direct: asyncpg.Connection
) -> None:
    """Killed between statements, a unit fails at its next one as unavailable, and nothing is stored (G4, G9)."""
    unit = storage.transaction()
    session = session_of(storage, unit)
    await session.execute(INSERT, {"name": "a"})
    await kill(direct)
    with pytest.raises(StorageUnavailable) as caught:
        await session.execute(INSERT, {"name": "b"})
    assert storage.transient(caught.value)
    await unit.rollback()
    assert await names(storage) == []


async def test_a_connection_lost_at_the_commit_leaves_doubt(
    storage: SqlStorage, direct: asyncpg.Connection
) -> None:
    """A connection that is lost during COMMIT raises `CommitOutcomeUnknown` (G4)."""
    await direct.execute(
        "CREATE OR REPLACE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;"
        " CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON account DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slowly()"
    )
    unit = storage.transaction()
    await session_of(storage, unit).execute(INSERT, {"name": "a"})
    committing = asyncio.create_task(unit.commit())

    async def sleeping() -> object:
        return await direct.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        )

    await soon(sleeping)
    await kill(direct)
    with pytest.raises(CommitOutcomeUnknown):
        await committing


async def test_after_a_restart_of_the_server_it_goes_on(
    storage: SqlStorage, direct: asyncpg.Connection
) -> None:
    """Connections that the server closed are not lent again, once the driver has heard of it (G9)."""
    for id in "123":
        unit = storage.transaction()
        unit.enqueue([message(id, id)])
        await unit.commit()
    await kill(direct)

    async def heard() -> bool:
        try:
            await outbox_ids(storage)
        except StorageUnavailable:
            return False
        return True

    await soon(heard)
    assert sorted(await outbox_ids(storage)) == ["1", "2", "3"]


async def test_an_error_dooms_the_unit_even_if_it_is_caught(storage: SqlStorage) -> None:
    """After a caught IntegrityError the commit raises it, and nothing is stored (G4)."""
    unit = storage.transaction()
    session = session_of(storage, unit)
    await session.execute(INSERT, {"name": "a"})
    with pytest.raises(Exception, match="duplicate key"):
        await session.execute(INSERT, {"name": "a"})
    with pytest.raises(Exception, match="duplicate key"):
        await unit.commit()
    assert await names(storage) == []


async def test_a_constraint_that_only_commit_finds_broken_is_an_integrity_error(
    storage: SqlStorage,
) -> None:
    """A deferred constraint refuses COMMIT itself: an IntegrityError with any driver, and nothing is stored (G4)."""
    unit = storage.transaction()
    session = session_of(storage, unit)
    await session.execute(text("CREATE TABLE one (x int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    await session.execute(text("INSERT INTO one VALUES (1), (1)"))
    await session.execute(INSERT, {"name": "a"})
    unit.enqueue([message("1")])
    with pytest.raises(IntegrityError, match="duplicate key"):
        await unit.commit()
    assert await names(storage) == []
    assert await outbox_ids(storage) == []


async def test_an_error_in_a_savepoint_is_undone_with_it(storage: SqlStorage) -> None:
    """In `begin_nested` an IntegrityError undoes that part only (G4)."""
    unit = storage.transaction()
    session = session_of(storage, unit)
    await session.execute(INSERT, {"name": "a"})
    with pytest.raises(Exception, match="duplicate key"):
        async with session.begin_nested():
            await session.execute(INSERT, {"name": "a"})
    await session.execute(INSERT, {"name": "b"})
    await unit.commit()
    assert await names(storage) == ["a", "b"]


async def test_an_admission_in_a_savepoint_is_undone_with_it(storage: SqlStorage) -> None:
    """What was admitted since a savepoint is NEW again after its rollback (G7)."""
    lease = await one_lease(storage)
    unit = storage.transaction()
    await unit.admit(lease, "g", [message("1")])
    savepoint = await unit.savepoint()
    assert await unit.admit(lease, "g", [message("2")]) == [Verdict.NEW]
    await savepoint.rollback()
    assert await unit.admit(lease, "g", [message("2"), message("1")]) == [
        Verdict.NEW,
        Verdict.DUPLICATE,
    ]
    await unit.commit()


async def test_a_cancelled_statement_frees_its_locks(
    storage: SqlStorage, direct: asyncpg.Connection
) -> None:
    """A unit that is cancelled while it waits gives its locks and its connection back (G3)."""
    await direct.execute("INSERT INTO account VALUES ('a', 0), ('b', 0)")
    blocker = direct.transaction()
    await blocker.start()
    await direct.execute("UPDATE account SET balance = 1 WHERE name = 'b'")
    unit = storage.transaction()
    session = session_of(storage, unit)
    await session.execute(text("UPDATE account SET balance = 2 WHERE name = 'a'"))
    waiting = asyncio.create_task(
        session.execute(text("UPDATE account SET balance = 2 WHERE name = 'b'"))
    )
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await unit.rollback()
    await blocker.rollback()
    async with asyncio.timeout(5):
        await direct.execute("UPDATE account SET balance = 3")


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_units_have_the_level_asked_for(url: str, level: str) -> None:
    """`isolation=` is the level of users' units, also of those that consume; Headrace's own are READ COMMITTED (G7)."""
    storage = SqlStorage(url, metadata=Base.metadata, isolation=level)
    await storage.start("app", partitions=4)
    try:
        show = text("SHOW transaction_isolation")
        unit = storage.transaction()
        await unit.admit(await one_lease(storage), "g", [message("1")])
        assert (await session_of(storage, unit).scalar(show)).upper() == level
        await unit.commit()
        async with storage.database.writing() as link:
            await link.open()
            (own,) = await link.run([Step(show.columns(column("level", String)), {})])
        assert own.rows == [("read committed",)]
    finally:
        await storage.stop()


async def test_an_engine_keeps_its_level(url: str) -> None:
    """Units on an engine of the user's have the engine's isolation, and its connections are given back as they were."""
    engine = create_async_engine(url, isolation_level="REPEATABLE READ")
    storage = SqlStorage(engine, metadata=Base.metadata)
    await storage.start("app", partitions=4)
    try:
        unit = storage.transaction()
        session = session_of(storage, unit)
        assert await session.scalar(text("SHOW transaction_isolation")) == "repeatable read"
        await session.execute(INSERT, {"name": "a"})
        unit.enqueue([message("1")])
        await unit.commit()
        async with async_sessionmaker(engine)() as own:
            assert await own.scalar(text("SHOW transaction_isolation")) == "repeatable read"
            await own.execute(INSERT, {"name": "b"})
            await own.rollback()
        assert await names(storage) == ["a"]
    finally:
        await storage.stop()
        await engine.dispose()


async def test_serialization_failures_are_transient(url: str) -> None:
    """A unit that fails with 40001 is doomed, and the failure is the database's, not the message's (G7)."""
    storage = SqlStorage(url, metadata=Base.metadata, isolation="SERIALIZABLE")
    await storage.start("app", partitions=4)
    add = text("INSERT INTO account SELECT :name, count(*) FROM account")
    try:
        units = [storage.transaction(), storage.transaction()]
        for unit, name in zip(units, "ab", strict=True):
            await session_of(storage, unit).execute(add, {"name": name})
        await units[0].commit()
        with pytest.raises(Exception, match="could not serialize") as caught:
            await units[1].commit()
        assert storage.transient(caught.value)
        assert await names(storage) == ["a"]
    finally:
        await storage.stop()


async def test_above_read_committed_a_unit_that_waited_is_run_again(
    url: str, direct: asyncpg.Connection
) -> None:
    """Under REPEATABLE READ, who waited for a unit of its partition fails as transient: its snapshot is too old (G8)."""
    storage = SqlStorage(url, metadata=Base.metadata, isolation="REPEATABLE READ")
    await storage.start("app", partitions=4)
    try:
        lease = await one_lease(storage)
        first, second = storage.transaction(), storage.transaction()
        await first.admit(lease, "g", [message("1", "k")])
        waiting = asyncio.create_task(second.admit(lease, "g", [message("2", "k")]))
        await soon(lambda: waits(direct))
        first.park(lease, message("1", "k"), state=State.DEAD)
        await first.commit()
        with pytest.raises(Exception, match="could not serialize") as caught:
            await waiting
        assert storage.transient(caught.value)
        await second.rollback()
    finally:
        await storage.stop()


async def test_a_query_cannot_write(storage: SqlStorage) -> None:
    """A read-only unit that writes gets the error that says so (G4)."""
    unit = storage.transaction(read_only=True)
    with pytest.raises(UnitOfWorkError, match="read-only"):
        await session_of(storage, unit).execute(INSERT, {"name": "a"})
    await unit.rollback()


async def test_a_stream_reads_inside_the_unit(storage: SqlStorage) -> None:
    """`session.stream` takes a cursor of the server in the unit's transaction."""
    unit = storage.transaction()
    session = session_of(storage, unit)
    for name in "abc":
        await session.execute(INSERT, {"name": name})
    found = await session.stream(text("SELECT name FROM account ORDER BY name"))
    assert [row.name async for row in found] == ["a", "b", "c"]
    await unit.rollback()
    assert await names(storage) == []


async def test_many_start_at_once(url: str, direct: asyncpg.Connection) -> None:
    """Processes that start together on an empty database make the tables once."""
    names = [f'"{table.name}"' for table in headrace_metadata.sorted_tables]
    await direct.execute(f"DROP TABLE IF EXISTS {', '.join(names)} CASCADE")
    storages = [SqlStorage(url, connections=2) for _ in range(6)]
    await asyncio.gather(*(one.start("app", partitions=4) for one in storages))
    await asyncio.gather(*(one.stop() for one in storages))
    assert await direct.fetchval("SELECT count(*) FROM headrace_meta WHERE name = 'schema'") == 1


async def test_without_create_the_tables_are_only_checked(
    url: str, direct: asyncpg.Connection
) -> None:
    """`create=False` makes nothing: without tables, or with other ones, the start says what to do."""
    names = [f'"{table.name}"' for table in headrace_metadata.sorted_tables]
    await direct.execute(f"DROP TABLE IF EXISTS {', '.join(names)} CASCADE")
    storage = SqlStorage(url, create=False)
    with pytest.raises(SchemaVersionError, match="create_schema"):
        await storage.start("app", partitions=4)
    assert await direct.fetchval("SELECT to_regclass('headrace_meta')") is None
    await storage.create_schema()
    await storage.start("app", partitions=4)
    await storage.stop()
    await direct.execute("UPDATE headrace_meta SET value = '99' WHERE name = 'schema'")
    for other in (storage, SqlStorage(url)):
        with pytest.raises(SchemaVersionError, match="version 99"):
            await other.start("app", partitions=4)
    await direct.execute(
        f"UPDATE headrace_meta SET value = '{setup.VERSION}' WHERE name = 'schema'"
    )


async def test_a_session_factory_is_used(url: str) -> None:
    """Sessions of units have the class and options of the factory given, and stay usable after the commit."""

    class Own(AsyncSession):
        pass

    engine = create_async_engine(url)
    factory = async_sessionmaker(
        engine, class_=Own, autoflush=False, info={"tenant": "t"}, expire_on_commit=True
    )
    storage = SqlStorage(factory, metadata=Base.metadata)
    await storage.start("app", partitions=4)
    try:
        unit = storage.transaction()
        session = session_of(storage, unit)
        assert isinstance(session, Own)
        assert (session.sync_session.autoflush, session.info) == (False, {"tenant": "t"})
        account = Account(name="a", balance=1)
        session.add(account)
        await unit.commit()
        assert account.balance == 1
        assert await names(storage) == ["a"]
    finally:
        await storage.stop()
        await engine.dispose()


async def test_connections_say_whose_they_are(
    storage: SqlStorage, direct: asyncpg.Connection
) -> None:
    """Connections that Headrace opens carry the app's name, for people who look at the server."""
    await names(storage)
    found = await direct.fetch(
        "SELECT DISTINCT application_name FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    assert [row["application_name"] for row in found] == ["headrace/app"]


async def test_alembic_sees_no_difference(storage: SqlStorage) -> None:
    """Alembic's autogenerate, given `headrace_metadata`, has nothing to do on the tables that Headrace made."""

    def differences(connection: Connection) -> list[object]:
        def ours(name: str | None, kind: str, _: object) -> bool:
            return kind != "table" or (name or "").startswith("headrace_")

        context = MigrationContext.configure(connection, opts={"include_name": ours})
        return list(compare_metadata(context, headrace_metadata))

    async with storage.database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_an_older_schema_is_upgraded(
    url: str, direct: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of an older version are brought to this one, step by step, and without `create` the start says so."""
    await SqlStorage(url).create_schema()
    now = setup.VERSION
    steps = {
        now: ["ALTER TABLE headrace_owner ADD COLUMN extra text"],
        now + 1: ["ALTER TABLE headrace_owner DROP COLUMN extra"],
    }
    monkeypatch.setattr(setup, "UPGRADES", steps)
    monkeypatch.setattr(setup, "VERSION", now + 2)
    with pytest.raises(SchemaVersionError, match=rf"have version {now}.*create_schema"):
        await SqlStorage(url, create=False).start("app", partitions=4)
    version = "SELECT value FROM headrace_meta WHERE name = 'schema'"
    await SqlStorage(url).create_schema()
    assert await direct.fetchval(version) == str(now + 2)
    await direct.execute(f"UPDATE headrace_meta SET value = '{now}' WHERE name = 'schema'")


@pytest.mark.parametrize(
    "key", ["k", None, "it's", "\\", "\\'; DROP TABLE account; --", "ключ ☃", "%s $1 :x"]
)
@pytest.mark.parametrize("kind", ["alone", "with a write"])
async def test_any_text_is_enqueued_as_it_is(
    storage: SqlStorage, key: str | None, kind: str
) -> None:
    """A message that travels with COMMIT is stored as it was, whatever its letters and bytes are (G5)."""
    one = message("1", key, topic=f"t{key}")
    sent = Message(one.topic, one.key, one.envelope, bytes(range(256)))
    unit = storage.transaction()
    if kind == "with a write":
        await session_of(storage, unit).execute(INSERT, {"name": "a"})
    unit.enqueue([sent])
    await unit.commit()
    rows = await storage.ready(OUTBOX, range(4), limit=9)
    (row,) = rows
    # What is read carries its place in the outbox besides.
    numbered = structs.replace(sent.envelope, sequence=row.message.envelope.sequence)
    assert row.message == structs.replace(sent, envelope=numbered)
    assert await names(storage) == (["a"] if kind == "with a write" else [])


async def test_a_message_that_cannot_be_stored_undoes_the_unit(storage: SqlStorage) -> None:
    """A key with a NUL is refused by the server, and nothing of the unit is stored (G4)."""
    unit = storage.transaction()
    await session_of(storage, unit).execute(INSERT, {"name": "a"})
    unit.enqueue([message("1", "a\0b")])
    with pytest.raises(Exception, match=r"(?i)nul|0x00|invalid byte"):
        await unit.commit()
    assert await names(storage) == []
    assert await outbox_ids(storage) == []


async def test_a_position_that_travels_with_the_commit_is_moved(storage: SqlStorage) -> None:
    """Position, effect and notification of a consumed unit are committed together (G7, G8)."""
    lease = await one_lease(storage)
    unit = storage.transaction()
    await unit.admit(lease, "g", [message("1")])
    await session_of(storage, unit).execute(INSERT, {"name": "a"})
    unit.advance(lease, "it's 7")
    unit.enqueue([message("2")])
    await unit.commit()
    assert await storage.positions(LINE) == {0: "it's 7"}
    assert await names(storage) == ["a"]
    assert await outbox_ids(storage) == ["2"]
