"""The app's own tables, and the whole of what a run left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from headrace.broker import Broker, Received
from headrace.testing.history import Fact, History
from tests.faults.world import OBSERVER, World

PATIENCE_SECONDS = 5.0
"""How long the checker waits for a message that a topic should have."""

_number = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    pass


class Lane(Base):
    """How many facts a key has. Who counts locks the row, so that the facts of a key are committed in order."""

    __tablename__ = "lane"

    key: Mapped[str] = mapped_column(String(10), primary_key=True)
    number: Mapped[int]


class Row(Base):
    """A fact as a command committed it."""

    __tablename__ = "fact"
    __table_args__ = {"sqlite_autoincrement": True}

    position: Mapped[int] = mapped_column(_number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(50))
    key: Mapped[str] = mapped_column(String(10))
    number: Mapped[int]


Index("fact_key", Row.key, Row.number)

# Without a unique constraint: a double must be seen by the checker, not undone by the database.
effect = Table(
    "effect",
    Base.metadata,
    Column("position", _number, primary_key=True, autoincrement=True),
    Column("stage", String(20), nullable=False),
    Column("id", String(50), nullable=False),
    Column("key", String(10), nullable=False),
    Column("number", Integer, nullable=False),
    sqlite_autoincrement=True,
)


STAGES = {
    "announced": ("faults", "announced"),
    "mirrored": ("mirror", "announced"),
    "confirmed": ("faults", "confirmed"),
}
"""Where effects come from: group and topic."""

FOLLOWED = "followed"
"""The stage of after-commit handlers: no topic, no order."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a run left behind.

    Args:
        histories: of each stage.
        left: what should not be there at the end, a line each.
        repeats: messages that stand in a log more than once.
    """

    histories: dict[str, History]
    left: list[str]
    repeats: int

    @property
    def committed(self) -> int:
        """How many facts there are."""
        return len(self.histories["announced"].committed)


Logs = Mapping[str, Sequence[Received]]
"""What the topics hold, by topic."""


def read(folder: Path) -> Record:
    """The record of a run whose processes have all ended."""
    marks: dict[str, set[str]] = {"+": set(), "-": set(), "?": set()}
    answers = folder / "answers"
    for line in answers.read_text().splitlines() if answers.exists() else ():
        mark, *ids = line.split()
        marks[mark].update(ids)
    return asyncio.run(_read(World.of(folder), marks["+"], marks["-"]))


async def _read(world: World, acknowledged: set[str], refused: set[str]) -> Record:
    engine = world.engine()
    try:
        async with engine.connect() as db:
            rows = await _facts(db, select(Row.id, Row.key, Row.number).order_by(Row.position))
            done = {
                stage: await _facts(
                    db,
                    select(effect.c.id, effect.c.key, effect.c.number)
                    .where(effect.c.stage == stage)
                    .order_by(effect.c.position),
                )
                for stage in (*STAGES, FOLLOWED)
            }

            async def all_logs(broker: Broker) -> Logs:
                ids = {row.id for row in rows}
                return {topic: await _log(world, broker, topic, ids) for topic in world.topics}

            logs = await world.with_broker(all_logs)
            left = await _left(db, world, logs)
    finally:
        await engine.dispose()
    facts = {topic: [_fact(one) for one in found] for topic, found in logs.items()}
    histories = {
        stage: History(
            committed=rows,
            # What is stored with the commit needs no log: it is there in the order of the rows.
            published=rows if stage == FOLLOWED else facts[world.name(STAGES[stage][1])],
            effects=effects,
            acknowledged=acknowledged,
            refused=refused,
        )
        for stage, effects in done.items()
    }
    repeats = sum(len(log) - len(set(log)) for log in facts.values())
    return Record(histories, left, repeats)


async def _facts(db: AsyncConnection, query: object) -> list[Fact]:
    return [Fact(*row) for row in await db.execute(query)]  # type: ignore[call-overload]


def _fact(one: Received) -> Fact:
    return msgspec.json.decode(one.message.data, type=Fact)


async def _log(world: World, broker: Broker, topic: str, ids: set[str]) -> Sequence[Received]:
    """All that a topic holds, read until every committed fact is there and nothing more comes."""
    group = world.name(OBSERVER)
    behind: dict[int, str | None] = dict.fromkeys(range(await broker.partitions(topic)))
    found: list[Received] = []
    missing, clock = set(ids), asyncio.get_running_loop().time
    until = clock() + PATIENCE_SECONDS
    while (missing and clock() < until) or await broker.backlog(group, topic, behind):
        more = await broker.read(group, topic, behind, limit=1000)
        for one in more:
            behind[one.partition] = one.position
            missing.discard(_fact(one).id)
        found.extend(more)
        if more:
            await broker.settle(
                group, topic, {p: position for p, position in behind.items() if position}
            )
            until = clock() + PATIENCE_SECONDS
        else:
            await asyncio.sleep(0.02)
    return found


_STUCK = {
    "{} messages of state {} are in {}": "SELECT count(*), state, queue FROM headrace_queue GROUP BY queue, state",
    "the lease of {} {} is with {}": "SELECT queue, partition, owner FROM headrace_lease WHERE owner IS NOT NULL",
    "{} is registered in {}": "SELECT owner, queue FROM headrace_owner",
}


async def _left(db: AsyncConnection, world: World, logs: Logs) -> list[str]:
    """What is stuck: messages in queues, leases and owners that nobody gave back, an inbox that does not fit the logs."""
    quote = db.dialect.identifier_preparer.quote
    found: list[str] = []
    for line, query in _STUCK.items():
        sql = query.replace("partition", quote("partition")) if "partition" in query else query
        found += [line.format(*row) for row in await db.execute(text(sql))]
    for group in sorted({group for group, _ in STAGES.values()}):
        sent = {
            (topic, one.message.envelope.id)
            for _, (owner, topic) in STAGES.items()
            if owner == group
            for one in logs[world.name(topic)]
        }
        seen = await db.scalar(
            text("SELECT count(*) FROM headrace_inbox WHERE group_name = :group"),
            {"group": world.name(group)},
        )
        if seen != len(sent):
            found.append(f"the inbox of {group} has {seen} rows for {len(sent)} messages")
    return found
