"""A connection that the server has ended is never used again, also before the driver has closed it (G9)."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, cast

import asyncpg
import pytest
from sqlalchemy import String, column, text

from headrace.drivers.sql import SqlStorage
from headrace.drivers.sql.postgresql.lines import AsyncpgLine, PsycopgLine
from headrace.drivers.sql.steps import Call, CommitFailed, InDoubt, Step
from headrace.errors import StorageUnavailable
from tests.conformance import postgres
from tests.unit.drivers_sql.steps import message, session_of

DIE = text("SELECT CAST(pg_terminate_backend(pg_backend_pid()) AS text) AS died").columns(
    column("died", String)
)


class Ending:
    """asyncpg's connection at the moment at which the server has said that it ends it: not yet closed."""

    def __init__(self) -> None:
        self.ended = False
        self.asked: list[str] = []

    def is_closed(self) -> bool:
        return False

    async def execute(self, query: str, *args: object) -> str:
        self.asked.append(query)
        if self.ended:
            raise asyncpg.InternalClientError(
                "cannot switch to state 12; another operation (2) is in progress"
            )
        if "pg_sleep" in query or query == "COMMIT":
            self.ended = True
            raise asyncpg.AdminShutdownError("terminating connection due to administrator command")
        return "OK"

    async def fetch(self, query: str, *args: object) -> Sequence[tuple[object, ...]]:
        await self.execute(query, *args)
        return ()

    async def executemany(self, command: str, args: object) -> None:
        await self.execute(command)

    def get_server_pid(self) -> int:
        return 1

    def add_termination_listener(self, callback: object) -> None:
        """Nobody asks for it here."""

    async def add_listener(self, channel: str, callback: object) -> None:
        """Nobody asks for it here."""


CALL = Call("SELECT pg_sleep(1)", (), returns=True)


@pytest.mark.parametrize("alone", [True, False])
async def test_a_line_that_the_server_ends_is_not_whole(alone: bool) -> None:
    """After an error that ends the connection it is given up at once, with no further statement on it."""
    raw = Ending()
    line = AsyncpgLine(raw, alone=alone)
    line.open_with(["BEGIN"])
    with pytest.raises(asyncpg.AdminShutdownError):
        await line.perform([CALL], commit=False, then=("ROLLBACK",))
    assert not line.whole
    asked = len(raw.asked)
    with pytest.raises(InDoubt):
        await line.end()
    assert len(raw.asked) == asked


async def test_a_line_that_ends_at_commit_is_not_whole() -> None:
    """The same when it is COMMIT that gets no answer."""
    line = AsyncpgLine(Ending(), alone=False)
    line.open_with(["BEGIN"])
    with pytest.raises(CommitFailed):
        await line.perform([Call("INSERT", ())], commit=True)
    assert not line.whole


async def test_a_line_survives_the_errors_of_statements() -> None:
    """An error that is the statement's own costs no connection."""

    class Unique(Ending):
        async def execute(self, query: str, *args: object) -> str:
            if query == "INSERT":
                raise asyncpg.UniqueViolationError("duplicate key")
            return await super().execute(query, *args)

    line = AsyncpgLine(Unique(), alone=False)
    line.open_with(["BEGIN"])
    with pytest.raises(asyncpg.UniqueViolationError):
        await line.perform([Call("INSERT", ())], commit=False)
    await line.end()
    assert line.whole


class Socket:
    """psycopg's connection as far as it is a socket."""

    closed = False

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def fileno(self) -> int:
        return self.descriptor


@pytest.fixture
def many_files() -> Iterator[None]:
    """A limit of open files at which descriptors have four digits; the usual one is 1024."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2048), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("least", [3, 1024], ids=["few-files", "many-files"])
def test_an_idle_line_is_whole_until_there_is_something_to_read(least: int) -> None:
    """Also in a process with so many open files that `select` takes no more: each unit would open a connection anew."""
    ours, servers = socket.socketpair()
    with ours, servers:
        descriptor = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD, least)
        try:
            line = PsycopgLine(cast("Any", Socket(descriptor)), alone=False)
            assert line.whole
            servers.close()
            assert not line.whole
        finally:
            os.close(descriptor)


def test_an_idle_line_is_looked_at_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has `select` only."""
    monkeypatch.delattr(select, "poll")
    ours, servers = socket.socketpair()
    with ours, servers:
        line = PsycopgLine(cast("Any", Socket(ours.fileno())), alone=False)
        assert line.whole
        servers.close()
        assert not line.whole


@pytest.fixture(params=["asyncpg", "psycopg"])
async def storage(request: pytest.FixtureRequest) -> AsyncIterator[SqlStorage]:
    name = await postgres.create()
    storage = SqlStorage(postgres.url(request.param, name))
    await storage.start("app", partitions=4)
    yield storage
    await storage.stop()
    await postgres.drop(name)


async def test_after_the_server_ended_connections_the_next_statement_succeeds(
    storage: SqlStorage,
) -> None:
    """One statement fails for each connection that is ended, never the next one on a fresh connection."""
    for _ in range(20):
        with pytest.raises(StorageUnavailable):
            await storage.database.read(Step(DIE, {}))
        assert await storage.ready("outbox:app", range(4), limit=1) == []
        with pytest.raises(StorageUnavailable):
            await storage.database.write(Step(DIE, {}))
        await storage.delete([1])


async def test_a_unit_whose_session_lost_its_connection_leaves_nothing(storage: SqlStorage) -> None:
    """A session that hears that the server ends the connection dooms its unit, and the next unit has another connection."""
    for number in range(10):
        unit = storage.transaction()
        with pytest.raises(StorageUnavailable):
            await session_of(storage, unit).execute(DIE)
        assert isinstance(unit.doomed, StorageUnavailable)
        await unit.rollback()
        fresh = storage.transaction()
        await session_of(storage, fresh).execute(text("SELECT 1"))
        fresh.enqueue([message(f"{number}", "k")])
        await fresh.commit()
    found = await storage.ready("outbox:app", range(4), limit=100)
    assert len(found) == 10
