"""What was tried by others and failed, and must not happen here: each test cites the remark."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import msgspec
import pytest
from pydantic import BaseModel
from sqlalchemy import String, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from headrace import Command, Events, Headrace, Module, NotificationEvent
from headrace.drivers.sql import SqlStorage
from headrace.errors import MessageDefinitionError
from headrace.storage import outbox_queue

PARTITIONS = range(8)


class Base(DeclarativeBase): ...


class Member(Base):
    __tablename__ = "members"
    name: Mapped[str] = mapped_column(String, primary_key=True)
    visits: Mapped[int] = mapped_column(default=0)


class Enrol(Command[None]):
    name: str


class Visit(Command[int]):
    name: str


class Enrolled(NotificationEvent, type="tried.enrolled.v1", topic="members", key="name"):
    name: str
    number: int = 0


module = Module("members")


@module.handler
async def enrol(request: Enrol, session: AsyncSession, events: Events) -> None:
    """Does what many handlers do: catches the error and goes on."""
    session.add(Member(name=request.name))
    try:
        await session.flush()
    except IntegrityError:
        pass
    events.extend(Enrolled(request.name, number) for number in range(5))


@module.handler
async def visit(request: Visit, db: AsyncConnection) -> int:
    values = {"name": request.name}
    found = await db.execute(text("SELECT visits FROM members WHERE name = :name"), values)
    visits = found.scalar_one() + 1
    await asyncio.sleep(0)
    await db.execute(
        text("UPDATE members SET visits = :visits WHERE name = :name"), {**values, "visits": visits}
    )
    return visits


def app_on(path: Path) -> Headrace:
    storage = SqlStorage(f"sqlite+aiosqlite:///{path}", metadata=Base.metadata)
    return Headrace("members", modules=[module], storage=storage, broker="sql://", roles={"send"})


async def outbox(app: Headrace) -> list[tuple[int, bytes]]:
    assert app.storage is not None
    rows = await app.storage.ready(outbox_queue("members"), PARTITIONS, limit=100)
    return [(row.position, row.message.data) for row in rows]


async def test_a_caught_integrity_error_cannot_be_followed_by_a_commit_of_nothing(
    tmp_path: Path,
) -> None:
    """G4, tried: after a caught IntegrityError `commit()` raised nothing and stored nothing. Here the send raises it."""
    async with app_on(tmp_path / "app.db") as app:
        await app.send(Enrol("ada"))
        before = await outbox(app)
        with pytest.raises(IntegrityError):
            await app.send(Enrol("ada"))
        assert await outbox(app) == before


async def test_reading_before_writing_does_not_fail_in_two_processes(tmp_path: Path) -> None:
    """SQLite, tried: read-then-write in a deferred transaction fails at once, whatever the busy time-out. Here both wait."""
    async with app_on(tmp_path / "app.db") as one, app_on(tmp_path / "app.db") as two:
        await one.send(Enrol("ada"))
        visits = [app.send(Visit("ada")) for _ in range(10) for app in (one, two)]
        assert sorted(await asyncio.gather(*visits)) == list(range(1, 21))


def test_the_remark_on_deferred_transactions_is_still_true(tmp_path: Path) -> None:
    """SQLite, tried: the premise of the test above, on the driver alone; if this changes, BEGIN IMMEDIATE may go."""
    path = tmp_path / "raw.db"
    with sqlite3.connect(path, isolation_level=None, timeout=5) as one:
        one.execute("PRAGMA journal_mode=WAL")
        one.execute("CREATE TABLE t (n)")
        two = sqlite3.connect(path, isolation_level=None, timeout=5)
        for connection in (one, two):
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM t").fetchall()
        one.execute("INSERT INTO t VALUES (1)")
        one.execute("COMMIT")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            two.execute("INSERT INTO t VALUES (2)")
        two.close()


async def test_outbox_rows_are_numbered_in_the_order_collected_and_never_again(
    tmp_path: Path,
) -> None:
    """G6, tried: a multi-row INSERT need not number in list order; SQLite without AUTOINCREMENT reuses ids."""
    async with app_on(tmp_path / "app.db") as app:
        await app.send(Enrol("ada"))
        first = await outbox(app)
        assert [msgspec.json.decode(data)["number"] for _, data in first] == list(range(5))
        assert app.storage is not None
        await app.storage.delete([position for position, _ in first])
        await app.send(Enrol("grace"))
        assert min(p for p, _ in await outbox(app)) > max(p for p, _ in first)


@pytest.mark.parametrize("base", [msgspec.Struct, BaseModel])
def test_a_class_made_in_two_ways_is_refused(base: type) -> None:
    """Messages, tried: a Struct under Command crashes the interpreter, a pydantic model passes in silence."""
    with pytest.raises(MessageDefinitionError, match="Request"):
        type(base)("Pay", (base, Command), {"__annotations__": {"amount": int}})
