"""The app's own tables, and the whole of what a run left behind."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy import Column, Index, Integer, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from headrace.testing.history import Fact, History


class Base(DeclarativeBase):
    pass


class Row(Base):
    """A fact as a command committed it. One writer at a time, so positions are in the order of commits."""

    __tablename__ = "fact"
    __table_args__ = {"sqlite_autoincrement": True}

    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(50))
    key: Mapped[str] = mapped_column(String(10))
    number: Mapped[int]


Index("fact_key", Row.key, Row.number)

# Without a unique constraint: a double must be seen by the checker, not undone by the database.
effect = Table(
    "effect",
    Base.metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
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


@dataclass(frozen=True, slots=True)
class Record:
    """What a run left behind.

    Args:
        histories: of each stage: group and topic.
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


def read(folder: Path) -> Record:
    """The record of a run whose processes have all ended."""
    marks: dict[str, set[str]] = {"+": set(), "-": set(), "?": set()}
    answers = folder / "answers"
    for line in answers.read_text().splitlines() if answers.exists() else ():
        mark, *ids = line.split()
        marks[mark].update(ids)
    with closing(sqlite3.connect(folder / "app.db")) as db:
        rows = [
            Fact(*row) for row in db.execute("SELECT id, key, number FROM fact ORDER BY position")
        ]
        logs = {topic: _log(db, topic) for _, topic in STAGES.values()}
        effects = {
            stage: [
                Fact(*row)
                for row in db.execute(
                    "SELECT id, key, number FROM effect WHERE stage = ? ORDER BY position", (stage,)
                )
            ]
            for stage in STAGES
        }
        left = _left(db)
    histories = {
        stage: History(
            committed=rows,
            published=logs[STAGES[stage][1]],
            effects=done,
            acknowledged=marks["+"],
            refused=marks["-"],
        )
        for stage, done in effects.items()
    }
    repeats = sum(len(log) - len(set(log)) for log in logs.values())
    return Record(histories, left, repeats)


def _log(db: sqlite3.Connection, topic: str) -> list[Fact]:
    found = db.execute(
        "SELECT body FROM headrace_log WHERE topic = ? ORDER BY partition, position", (topic,)
    )
    return [msgspec.json.decode(body, type=Fact) for (body,) in found]


def _left(db: sqlite3.Connection) -> list[str]:
    """What is stuck: messages in queues, leases and owners that nobody gave back, logs that were not read to their end."""
    stuck = {
        "{} messages of state {} are in {}": "SELECT count(*), state, queue FROM headrace_queue"
        " GROUP BY queue, state",
        "the lease of {} {} is with {}": "SELECT queue, partition, owner FROM headrace_lease"
        " WHERE owner IS NOT NULL",
        "{} is registered in {}": "SELECT owner, queue FROM headrace_owner",
    }
    found = [text.format(*row) for text, query in stuck.items() for row in db.execute(query)]
    for stage, (group, topic) in STAGES.items():
        for partition, end in db.execute(
            "SELECT partition, max(position) FROM headrace_log WHERE topic = ? GROUP BY partition",
            (topic,),
        ).fetchall():
            (position,) = db.execute(
                "SELECT position FROM headrace_lease WHERE queue = ? AND partition = ?",
                (f"group:{group}/{topic}", partition),
            ).fetchone()
            if position != str(end):
                found.append(f"{stage}: partition {partition} is read up to {position} of {end}")
    for group in sorted({group for group, _ in STAGES.values()}):
        sent = {
            (topic, msgspec.json.decode(envelope)["id"])
            for _, (one, topic) in STAGES.items()
            if one == group
            for (envelope,) in db.execute(
                "SELECT envelope FROM headrace_log WHERE topic = ?", (topic,)
            )
        }
        (seen,) = db.execute(
            "SELECT count(*) FROM headrace_inbox WHERE group_name = ?", (group,)
        ).fetchone()
        if seen != len(sent):
            found.append(f"the inbox of {group} has {seen} rows for {len(sent)} messages")
    return found
