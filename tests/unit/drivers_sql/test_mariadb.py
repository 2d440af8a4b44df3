"""What MariaDB does otherwise than the others: packets, gap locks, statements that commit, collations (G4 to G9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from asyncmy.errors import InternalError, OperationalError
from sqlalchemy import Column, Integer, MetaData, String, Table, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

import engines
from engines import answers
from headrace.drivers.sql import SqlStorage, outbox
from headrace.drivers.sql.mysql.dialect import MysqlDialect
from headrace.drivers.sql.steps import Step
from headrace.envelope import Message
from headrace.errors import (
    CommitOutcomeUnknown,
    ConfigurationError,
    LeaseLost,
    StorageBusy,
    StorageUnavailable,
    UnitOfWorkError,
)
from headrace.storage import State, Verdict
from tests.servers import engine
from tests.unit.drivers_sql.steps import (
    OUTBOX,
    message,
    names,
    one_lease,
    outbox_ids,
    session_of,
)

metadata = MetaData()
Table(
    "account",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("balance", Integer),
    mysql_engine="InnoDB",
)
INSERT = text("INSERT INTO account (name, balance) VALUES (:name, 0)")
TWO = text("INSERT INTO account (name, balance) VALUES (:one, 0), (:two, 0)")
LINE = "group:g/orders"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    url, drop = engine("mariadb").fresh_database()
    yield url
    drop()


@pytest.fixture
async def url(database: str) -> str:
    tables = await asked(database, "SHOW TABLES")
    order = sorted((str(row[0]) for row in tables), key=lambda name: name == "headrace_topic")
    await asked(database, *(f"DELETE FROM {name}" for name in order if name != "headrace_meta"))
    return database


@pytest.fixture
async def storage(url: str) -> AsyncIterator[SqlStorage]:
    storage = SqlStorage(url, metadata=metadata)
    await storage.start("app", partitions=4)
    yield storage
    await storage.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[engines.Server]:
    """A server of one's own, for what would disturb others on a shared one."""
    try:
        server = engines.private("mariadb", tmp_path / "mariadb")
    except engines.EngineMissing as missing:
        pytest.skip(f"mariadb: {missing}")
    with server:
        yield server


async def asked(url: str, *statements: str) -> list[tuple[object, ...]]:
    return await answers.mysql_rows(url, *statements)


async def soon(holds: Callable[[], Awaitable[object]], *, seconds: float = 10.0) -> None:
    """Wait until the server says so."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - the server has no event
            # What it tells of transactions is made anew only when nobody has asked for a tenth of a second.
            await asyncio.sleep(0.15)


async def waits(url: str) -> bool:
    """True if a statement waits for a lock in this database."""
    name = url.rpartition("/")[2]
    found = await asked(
        url,
        "SELECT 1 FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
        f" ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = '{name}'",
    )
    return bool(found)


async def kill(url: str) -> None:
    """End every connection to this database, and wait until they are gone."""
    name = url.rpartition("/")[2]
    server = url.rpartition("/")[0]
    others = f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
    for (connection,) in await asked(server, others):
        await asked(server, f"KILL {connection}")

    async def gone() -> bool:
        return not await asked(server, others)

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
    async with asyncio.timeout(2):
        # Nor does the deletion wait for the row that is not committed.
        await storage.delete([row.position for row in found])
    await late.commit()
    assert await outbox_ids(storage) == ["late"]


async def test_senders_do_not_wait_for_a_deletion(storage: SqlStorage) -> None:
    """While published rows are deleted, also ones that are gone, others send (G7)."""
    for id in "123":
        unit = storage.transaction()
        unit.enqueue([message(id, id)])
        await unit.commit()
    positions = [row.position for row in await storage.ready(OUTBOX, range(4), limit=10)]
    async with storage.database.writing() as link:
        await link.run([storage.database.statements.delete([*positions, positions[-1] + 1])])
        async with asyncio.timeout(2):
            unit = storage.transaction()
            unit.enqueue([message("4", "4")])
            await unit.commit()
        await link.run([], commit=True)
    assert await outbox_ids(storage) == ["4"]


async def test_forgetting_waits_for_nobody(storage: SqlStorage) -> None:
    """Old inbox rows are deleted while others insert, and neither waits (G7, G11)."""
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


async def test_many_rows_are_numbered_in_their_order(storage: SqlStorage) -> None:
    """The rows of one unit have rising numbers in the order collected, also if they fill several packets (G6)."""
    wanted = [str(n) for n in range(1500)]
    transaction = storage.transaction()
    transaction.enqueue(
        [
            Message("orders", f"k{int(id) % 7}", message(id).envelope, b"'%s\\" * 250)
            for id in wanted
        ]
    )
    await transaction.commit()
    rows = await storage.ready(OUTBOX, range(4), limit=2000)
    assert [row.message.envelope.id for row in rows] == wanted
    assert {row.message.data for row in rows} == {b"'%s\\" * 250}


async def test_large_bodies_come_back_as_they_were(storage: SqlStorage) -> None:
    """A body of five million bytes, each value among them, is stored whole (G5)."""
    body = bytes(range(256)) * 20_000
    unit = storage.transaction()
    unit.enqueue([Message("orders", "k", message("big").envelope, body)])
    await unit.commit()
    (row,) = await storage.ready(OUTBOX, range(4), limit=10)
    assert row.message.data == body


async def test_names_are_compared_letter_by_letter(storage: SqlStorage) -> None:
    """Ids and keys that differ in case, accents or blanks at the end are different (G7, G9)."""
    lease = await one_lease(storage)
    ids = ["a", "A", "á", "a ", "a  "]
    unit = storage.transaction()
    assert await unit.admit(lease, "g", [message(id, id) for id in ids]) == [Verdict.NEW] * 5
    unit.park(lease, message("a", "a"), state=State.DEAD)
    await unit.commit()
    later = storage.transaction()
    found = await later.admit(lease, "g", [message(f"later {id}", id) for id in ids])
    assert found == [Verdict.HELD, *[Verdict.NEW] * 4]
    await later.rollback()


async def test_two_owners_cannot_both_pass(storage: SqlStorage, url: str) -> None:
    """While a unit works under a lease nobody takes it; once taken, the old owner admits nothing (G7)."""
    lease = await one_lease(storage)
    unit = storage.transaction()
    assert await unit.admit(lease, "g", [message("1")]) == [Verdict.NEW]
    await asked(url, "UPDATE headrace_owner SET expires_at_ms = 0")
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


async def test_a_hung_owner_is_ended_by_the_server(storage: SqlStorage) -> None:
    """A unit that is idle for longer than its lease loses its connection, and its partition goes on (G7)."""
    lease = await one_lease(storage, seconds=1.0)
    unit = storage.transaction()
    await unit.admit(lease, "g", [message("1")])

    async def taken() -> bool:
        return bool((await storage.lease(LINE, "b", partitions=1, seconds=60.0)).held)

    await soon(taken, seconds=5.0)
    with pytest.raises((StorageUnavailable, CommitOutcomeUnknown)) as caught:
        await unit.commit()
    assert storage.transient(caught.value)
    next_ = (await storage.lease(LINE, "b", partitions=1, seconds=60.0)).held[0]
    again = storage.transaction()
    assert await again.admit(next_, "g", [message("1")]) == [Verdict.NEW]
    await again.rollback()


async def test_the_idle_limit_ends_with_the_transaction(storage: SqlStorage) -> None:
    """A user's unit on a connection that Headrace used before may be idle for as long as the server allows (G4)."""
    lease = await one_lease(storage, seconds=7.0)
    consumed = storage.transaction()
    await consumed.admit(lease, "g", [message("1")])
    await consumed.commit()
    limit = text("SELECT @@SESSION.idle_transaction_timeout = @@GLOBAL.idle_transaction_timeout")
    unit = storage.transaction()
    assert await session_of(storage, unit).scalar(limit) == 1
    await unit.rollback()


async def test_batches_that_share_ids_wait_for_each_other(storage: SqlStorage, url: str) -> None:
    """Two batches with the same ids in opposite orders: one waits, and finds them all to be duplicates (G7)."""
    leases = (await storage.lease(LINE, "a", partitions=2, seconds=60.0)).held
    batch = [message(str(n), f"k{n}") for n in range(50)]
    first, second = storage.transaction(), storage.transaction()
    assert set(await first.admit(leases[0], "g", batch)) == {Verdict.NEW}
    waiting = asyncio.create_task(second.admit(leases[1], "g", batch[::-1]))
    await soon(lambda: waits(url))
    await first.commit()
    assert set(await waiting) == {Verdict.DUPLICATE}
    await second.rollback()


async def test_a_deadlock_dooms_the_unit_even_if_it_is_caught(storage: SqlStorage) -> None:
    """The server has rolled all back, so later statements and the commit raise the deadlock (G4)."""
    seeded = storage.transaction()
    for name in "ab":
        await session_of(storage, seeded).execute(INSERT, {"name": name})
    await seeded.commit()
    update = text("UPDATE account SET balance = balance + 1 WHERE name = :name")
    one, two = storage.transaction(), storage.transaction()
    await session_of(storage, one).execute(update, {"name": "a"})
    await session_of(storage, two).execute(update, {"name": "b"})

    async def cross(unit: object, session: object, name: str) -> BaseException | None:
        try:
            await session.execute(update, {"name": name})  # type: ignore[attr-defined]
        except Exception as error:
            return error
        await unit.commit()  # type: ignore[attr-defined]
        return None

    found = await asyncio.gather(
        cross(one, session_of(storage, one), "b"), cross(two, session_of(storage, two), "a")
    )
    loser = one if found[0] is not None else two
    (error,) = [one for one in found if one is not None]
    assert storage.transient(error)
    with pytest.raises(Exception, match="Deadlock"):
        await session_of(storage, loser).execute(INSERT, {"name": "alone"})
    with pytest.raises(Exception, match="Deadlock"):
        await loser.commit()
    assert await names(storage) == ["a", "b"]


async def test_a_caught_constraint_undoes_its_statement_only(storage: SqlStorage) -> None:
    """MariaDB goes on after an IntegrityError, in a savepoint and without one (G4)."""
    unit = storage.transaction()
    session = session_of(storage, unit)
    await session.execute(INSERT, {"name": "a"})
    with pytest.raises(Exception, match="Duplicate entry"):
        await session.execute(INSERT, {"name": "a"})
    with pytest.raises(Exception, match="Duplicate entry"):
        async with session.begin_nested():
            await session.execute(TWO, {"one": "undone", "two": "a"})
    await session.execute(INSERT, {"name": "b"})
    unit.enqueue([message("1")])
    await unit.commit()
    assert await names(storage) == ["a", "b"]
    assert await outbox_ids(storage) == ["1"]


async def test_a_statement_that_commits_by_itself_is_told(storage: SqlStorage) -> None:
    """After CREATE TABLE inside a unit its commit raises, and announces nothing (G4)."""
    unit = storage.transaction()
    session = session_of(storage, unit)
    await session.execute(INSERT, {"name": "a"})
    await session.execute(text("CREATE TABLE IF NOT EXISTS made_inside (id INTEGER)"))
    unit.enqueue([message("1")])
    with pytest.raises(Exception, match="a statement that commits by itself"):
        await unit.commit()
    assert await outbox_ids(storage) == []


async def test_a_killed_connection_before_the_commit_is_no_doubt(
    storage: SqlStorage, url: str
) -> None:
    """Killed between statements, a unit fails at its next one as unavailable, and nothing is stored (G4, G9)."""
    unit = storage.transaction()
    session = session_of(storage, unit)
    await session.execute(INSERT, {"name": "a"})
    await kill(url)
    with pytest.raises(StorageUnavailable) as caught:
        await session.execute(INSERT, {"name": "b"})
    assert storage.transient(caught.value)
    await unit.rollback()
    assert await names(storage) == []


async def test_a_cancelled_statement_frees_its_locks(storage: SqlStorage, url: str) -> None:
    """A unit that is cancelled while it waits gives its locks and its connection back (G3)."""
    await asked(url, "INSERT INTO account VALUES ('a', 0), ('b', 0)")
    blocker, unit = storage.transaction(), storage.transaction()
    change = text("UPDATE account SET balance = 2 WHERE name = :name")
    await session_of(storage, blocker).execute(change, {"name": "b"})
    await session_of(storage, unit).execute(change, {"name": "a"})
    waiting = asyncio.create_task(session_of(storage, unit).execute(change, {"name": "b"}))
    await soon(lambda: waits(url))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await unit.rollback()
    await blocker.rollback()
    async with asyncio.timeout(5):
        await asked(url, "UPDATE account SET balance = 3")


@pytest.mark.parametrize("level", [None, "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_units_have_the_level_asked_for(url: str, level: str | None) -> None:
    """`isolation=` is the level of users' units, READ COMMITTED unless it is given; not the server's default (G7)."""
    storage = SqlStorage(url, metadata=metadata, isolation=level)
    await storage.start("app", partitions=4)
    unit = storage.transaction()
    try:
        await unit.admit(await one_lease(storage), "g", [message("1")])
        session = session_of(storage, unit)
        show = text(
            "SELECT trx_isolation_level FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = CONNECTION_ID()"
        )

        async def told() -> bool:
            found.append(await session.scalar(show))
            return found[-1] is not None

        found: list[str | None] = []
        await soon(told)
        assert found[-1] == (level or "READ COMMITTED")
    finally:
        await unit.rollback()
        await storage.stop()


async def test_an_engine_keeps_its_level(url: str) -> None:
    """Units on an engine of the user's have the engine's isolation, and its connections are given back as they were."""
    engine = create_async_engine(url, isolation_level="SERIALIZABLE")
    storage = SqlStorage(engine, metadata=metadata)
    await storage.start("app", partitions=4)
    try:
        assert storage.database.dialect.isolation == "SERIALIZABLE"
        unit = storage.transaction()
        await session_of(storage, unit).execute(INSERT, {"name": "a"})
        unit.enqueue([message("1")])
        await unit.commit()
        async with async_sessionmaker(engine)() as own:
            level = text("SELECT @@SESSION.tx_isolation, @@SESSION.autocommit")
            assert tuple((await own.execute(level)).one()) == ("SERIALIZABLE", 0)
        assert await outbox_ids(storage) == ["1"]
    finally:
        await storage.stop()
        await engine.dispose()


async def test_many_that_start_at_once_make_the_tables_once() -> None:
    """Processes that start together on an empty database wait for each other (G12)."""
    url, drop = engine("mariadb").fresh_database()
    storages = [SqlStorage(url) for _ in range(4)]
    try:
        await asyncio.gather(*(each.start("app", partitions=4) for each in storages))
        for each in storages:
            await each.stop()
    finally:
        drop()


async def test_an_own_transaction_is_run_again_after_a_deadlock(
    storage: SqlStorage, url: str
) -> None:
    """Two of Headrace's own that cross both end: the one that the server rolls back begins again (G9)."""
    for id in "12":
        unit = storage.transaction()
        unit.enqueue([message(id, id)])
        await unit.commit()
    first, last = [row.position for row in await storage.ready(OUTBOX, range(4), limit=10)]
    touch = text("UPDATE headrace_queue SET attempts = attempts + 1 WHERE position = :at")
    hold = text("SELECT SLEEP(0.3)")

    async def cross(one: int, two: int) -> None:
        await storage.database.write(
            Step(touch, {"at": one}), Step(hold, {}), Step(touch, {"at": two})
        )

    await asyncio.gather(cross(first, last), cross(last, first))
    rows = await storage.ready(OUTBOX, range(4), limit=10)
    assert [row.attempts for row in rows] == [2, 2]


async def test_a_unit_that_committed_rolls_nothing_back(url: str) -> None:
    """A committed unit costs no ROLLBACK: not for its session, and not to give the connection back."""
    storage = SqlStorage(url, metadata=metadata, connections=2)
    await storage.start("app", partitions=4)
    counts: list[object] = []
    for name in "abc":
        unit = storage.transaction()
        session = session_of(storage, unit)
        await session.execute(INSERT, {"name": name})
        found = await session.execute(text("SHOW SESSION STATUS LIKE 'Com_rollback'"))
        counts += [row[1] for row in found]
        await unit.commit()
    assert counts[1:] == [counts[0]] * 2
    await storage.stop()


async def test_a_connection_lost_at_the_commit_leaves_doubt(server: engines.Server) -> None:
    """A connection that is lost during COMMIT raises `CommitOutcomeUnknown` (G4)."""
    storage = SqlStorage(server.url, metadata=metadata)
    await storage.start("app", partitions=4)
    unit = storage.transaction()
    await session_of(storage, unit).execute(INSERT, {"name": "a"})
    # It stops every COMMIT of the server until its own connection ends.
    locking = asyncio.create_task(
        asked(server.url, "FLUSH TABLES WITH READ LOCK", "SELECT SLEEP(20)")
    )

    async def says(words: str) -> bool:
        state = (
            "SELECT 1 FROM information_schema.processlist WHERE state LIKE '%{}%' OR info = '{}'"
        )
        return bool(await asked(server.url, state.format(words, words)))

    await soon(lambda: says("SELECT SLEEP(20)"))
    committing = asyncio.create_task(unit.commit())
    await soon(lambda: says("backup lock"))
    await asyncio.to_thread(server.kill)
    with pytest.raises(CommitOutcomeUnknown):
        await committing
    with pytest.raises(Exception, match="Lost connection"):
        await locking
    await storage.stop()


async def test_after_a_crash_of_the_server_it_goes_on(server: engines.Server) -> None:
    """What was committed is there after a kill, what was not is not, and connections are made anew (G5, G9)."""
    storage = SqlStorage(server.url, metadata=metadata)
    await storage.start("app", partitions=4)
    unit, lost = storage.transaction(), storage.transaction()
    unit.enqueue([message("kept")])
    await unit.commit()
    await session_of(storage, lost).execute(INSERT, {"name": "lost"})
    await asyncio.to_thread(server.kill)
    with pytest.raises((StorageUnavailable, CommitOutcomeUnknown)):
        await lost.commit()
    with pytest.raises(StorageUnavailable):
        await storage.ready(OUTBOX, range(4), limit=10)
    await asyncio.to_thread(server.start)

    async def answers_again() -> bool:
        try:
            return await outbox_ids(storage) == ["kept"]
        except StorageUnavailable:
            return False

    await soon(answers_again)
    assert await names(storage) == []
    await storage.stop()


async def test_settings_that_may_lose_commits_are_told(server: engines.Server) -> None:
    """A server that does not wait for its disk, and an engine that cuts long values, are warned of at start (G5)."""
    await asked(
        server.url, "SET GLOBAL innodb_flush_log_at_trx_commit = 2", "SET GLOBAL sql_mode = ''"
    )
    owned = SqlStorage(server.url)
    (only,) = await owned.start("app", partitions=4)
    assert "innodb_flush_log_at_trx_commit=2" in only
    await owned.stop()
    engine = create_async_engine(server.url)
    given = SqlStorage(engine)
    found = await given.start("app", partitions=4)
    assert [words for words in ("=2", "strict") if any(words in one for one in found)] == [
        "=2",
        "strict",
    ]
    await given.stop()
    await engine.dispose()


@pytest.mark.parametrize(
    ("number", "words", "wanted"),
    [
        (2013, "Lost connection to MySQL server during query", StorageUnavailable),
        (2003, "Can't connect to MySQL server", StorageUnavailable),
        (1927, "Connection was killed", StorageUnavailable),
        (1040, "Too many connections", StorageBusy),
        (1205, "Lock wait timeout exceeded", StorageBusy),
        (1290, "The server is running with the --read-only option", UnitOfWorkError),
        (1792, "Cannot execute statement in a READ ONLY transaction", UnitOfWorkError),
        (1213, "Deadlock found", None),
        (1062, "Duplicate entry", None),
        (1290, "The server is running with the --secure-file-priv option", None),
    ],
)
def test_errors_say_what_they_mean(number: int, words: str, wanted: type[Exception] | None) -> None:
    """A driver's error becomes Headrace's where that says more; the server's words and number stay in it (G9)."""
    dialect = MysqlDialect("mysql", busy_seconds=1.0, isolation=None)
    found = dialect.translate(OperationalError(number, words))
    if wanted is None:
        assert found is None
    else:
        assert type(found) is wanted
        assert f"{words} ({number})" in str(found)


@pytest.mark.parametrize(
    ("number", "transient", "dooms"),
    [
        (1213, True, True),
        (1205, True, True),
        (1020, True, True),
        (2013, True, True),
        (1021, True, True),
        (1062, False, False),
        (1406, False, False),
        (1792, False, False),
    ],
)
def test_what_is_the_databases_fault_counts_no_attempt(
    number: int, transient: bool, dooms: bool
) -> None:
    """Deadlocks, changed snapshots, lock time-outs, lost connections and full disks are transient, and end the unit (G4, G9)."""
    dialect = MysqlDialect("mysql", busy_seconds=1.0, isolation=None)
    error = InternalError(number, "words")
    assert dialect.transient(error) is transient
    assert dialect.dooms(error, in_savepoint=True) is dooms
    assert dialect.recoverable(error) is not dooms


def test_settings_that_cannot_be_are_refused() -> None:
    """An isolation level that there is not, and a URL without a database, say what to write."""
    with pytest.raises(ConfigurationError, match="use one of READ COMMITTED"):
        SqlStorage("mysql+asyncmy://root@127.0.0.1/app", isolation="READ UNCOMMITTED")
    with pytest.raises(ConfigurationError, match="names no database"):
        SqlStorage("mariadb+asyncmy://root@127.0.0.1")
