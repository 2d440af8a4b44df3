"""What people look at in a database: by an index where there must be one, in parts where there is none."""

from __future__ import annotations

from typing import cast

import pytest
from sqlalchemy import ClauseElement, Executable, text
from sqlalchemy.dialects import sqlite

from headrace.drivers.sql import SqlStorage, dead, inspection
from headrace.storage import Failure, State
from tests.unit.drivers_sql.steps import message


@pytest.mark.parametrize(
    "statement",
    [
        dead.dead_letters(queues=False, topics=False, errors=None),
        dead.dead_letters(queues=True, topics=True, errors=True),
        dead.dead_letters(queues=False, topics=False, errors=False),
        dead.dead_errors(queues=False),
        dead.dead_errors(queues=True),
    ],
    ids=["all", "of all three", "without an error", "errors", "errors of a queue"],
)
async def test_dead_letters_are_chosen_within_their_index(
    storage: SqlStorage, statement: Executable
) -> None:
    """No row of the queue is read to find out whether it is wanted: the index has all that a filter asks."""
    compiled = cast("ClauseElement", statement).compile(dialect=sqlite.dialect())
    values = dict.fromkeys(compiled.params, "x") | {"after": 0, "most": 1}
    async with storage.database.engine.connect() as connection:
        plan = await connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {compiled}",
            tuple(values[name] for name in compiled.positiontup or ()),
        )
        steps = [str(row[3]) for row in plan]
    assert any("COVERING INDEX headrace_queue_dead" in step for step in steps), steps
    assert not any(step == "SCAN headrace_queue" for step in steps), steps


async def test_a_search_goes_on_from_part_to_part(
    storage: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found stands in any part of the table, also behind gaps, and the search ends at the limit (G11)."""
    monkeypatch.setattr(inspection, "PART", 3)
    for number in range(20):
        transaction = storage.transaction()
        transaction.enqueue([message(f"id-{number}", key="ab"[number % 2])])
        await transaction.commit()
    rows = await storage.find(key="a")
    await storage.delete([row.position for row in rows[1:-1]])
    assert [row.message.envelope.id for row in await storage.find(key="a")] == ["id-0", "id-18"]
    assert [row.message.envelope.id for row in await storage.find(id="id-19")] == ["id-19"]
    found = await storage.find(key="b", limit=4)
    assert [row.message.envelope.id for row in found] == ["id-1", "id-3", "id-5", "id-7"]


async def test_what_processes_said_is_deleted_when_it_has_expired(storage: SqlStorage) -> None:
    """`forget`, and each process that is new, keep the table as small as there are processes (G11)."""

    async def rows() -> list[str]:
        async with storage.database.engine.connect() as connection:
            found = await connection.execute(text("SELECT process FROM headrace_pulse"))
            return sorted(row[0] for row in found)

    await storage.pulse("app", "a", b"1", seconds=60.0)
    await storage.pulse("app", "b", b"1", seconds=60.0)
    await storage.pulse("app", "a", b"2", seconds=-1.0)
    assert await rows() == ["a", "b"]
    await storage.pulse("app", "c", b"1", seconds=60.0)
    assert await rows() == ["b", "c"]
    await storage.pulse("app", "b", b"2", seconds=-1.0)
    assert await storage.forget(inbox_older_than_seconds=1.0) == 0
    assert await rows() == ["c"]


async def test_a_long_error_type_is_cut(storage: SqlStorage) -> None:
    """A type with a name of any length is stored, because an index takes no more than its beginning."""
    (lease,) = (await storage.lease("group:g/t", "o", partitions=1, seconds=60)).held
    transaction = storage.transaction()
    transaction.park(lease, message("1"), state=State.DEAD, failure=Failure("E" * 10_000, "no"))
    await transaction.commit()
    (found,) = await storage.dead_errors()
    assert found.error == "E" * 200
    assert len(await storage.dead_letters(error=found.error)) == 1
