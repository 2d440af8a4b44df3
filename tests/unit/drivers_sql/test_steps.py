"""Statements of Headrace's own: compiled once, in as few hops as can be."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, bindparam, select
from sqlalchemy.dialects import sqlite

from headrace.broker import Topic
from headrace.drivers.sql import SqlBroker, SqlStorage
from headrace.drivers.sql.sqlite.connection import BufferedConnection
from headrace.drivers.sql.steps import Compiled, Step
from headrace.envelope import Envelope, Message, new_id, now

RIVERS = Table("rivers", MetaData(), Column("name", String), Column("length", Integer))
OF = select(RIVERS.c.name).where(
    RIVERS.c.length > bindparam("least"),
    RIVERS.c.name.in_(bindparam("names", expanding=True)),
    RIVERS.c.length.in_((1, 2)),
)


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ("c", "d"), [], ["e"]])
def test_a_list_takes_as_many_places_as_it_has_items(names: list[str]) -> None:
    """A statement with lists is compiled for their lengths, and each call brings its own values."""
    compiled = Compiled(sqlite.dialect())
    compiled.call(Step(OF, {"least": 7, "names": ["x", "y", "z"]}))
    for least in (5, 6):
        call = compiled.call(Step(OF, {"least": least, "names": names}))
        assert list(call.parameters) == [least, *names, 1, 2]
        assert call.text.count("?") == 3 + len(names)
        assert (call.many, call.expects, call.returns) == (False, None, True)


def test_a_text_is_compiled_once() -> None:
    """The text for the same lengths is the same object, whatever the values."""
    compiled = Compiled(sqlite.dialect())
    first = compiled.call(Step(OF, {"least": 1, "names": ["a", "b"]}))[0]
    second = compiled.call(Step(OF, {"least": 2, "names": ["c", "d"]}))[0]
    assert first is second


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many hops to threads of connections there have been since it was last asked."""
    count = 0
    hop = BufferedConnection._hop

    async def counted(self: BufferedConnection, function: Callable[[], object]) -> object:
        nonlocal count
        count += 1
        return await hop(self, function)

    def since() -> int:
        nonlocal count
        found, count = count, 0
        return found

    monkeypatch.setattr(BufferedConnection, "_hop", counted)
    return since


async def test_a_read_and_a_publish_take_one_hop_each(
    tmp_path: Path, hops: Callable[[], int]
) -> None:
    """What Headrace reads ends its transaction in the same hop; a publish reserves, appends and commits in one."""
    storage, broker = SqlStorage(f"sqlite+aiosqlite:///{tmp_path}/app.db"), SqlBroker()
    await storage.start("app", partitions=2)
    await broker.start(storage)
    await broker.declare([Topic("rivers", partitions=2)])
    await broker.partitions("rivers")
    message = Message("rivers", "k", Envelope(new_id(), "app", "t", now()), b"{}")
    hops()
    await broker.publish([message, message])
    assert hops() == 1
    found = await broker.read("g", "rivers", {0: None, 1: None}, limit=10)
    assert hops() == 1
    assert [one.position for one in found] == ["1", "2"]
    # The reader has left its transaction: the writer is not in its way, nor it in the writer's.
    await broker.publish([message])
    assert [
        one.position for one in await broker.read("g", "rivers", {0: None, 1: None}, limit=10)
    ] == [
        "1",
        "2",
        "3",
    ]
    await broker.stop()
    await storage.stop()
