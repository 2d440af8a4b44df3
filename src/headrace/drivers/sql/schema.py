"""The tables of Headrace in a database: one MetaData, for `create_schema` and for Alembic.

All names start with `headrace_`, and every row carries the app or queue that it belongs to, so that several apps may share
a database. There is no table of holds: a (queue, topic, key) is held while a parked row of it exists.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import LONGBLOB, MEDIUMTEXT

from headrace.storage import State

VERSION: Final = 3
"""The version of these tables; it is in `headrace_meta` and is compared when an app starts."""

headrace_metadata: Final = MetaData()
"""Every table of Headrace, for Alembic: `target_metadata = [Base.metadata, headrace_metadata]`."""

# A key of SQLite grows by itself and is never reused only as "INTEGER PRIMARY KEY AUTOINCREMENT".
_number = BigInteger().with_variant(Integer(), "sqlite")


class Name(String):
    """A name, key or id: compared letter by letter, at any length and case. Each dialect's file may compile it."""

    cache_ok = True


NAME_LENGTH: Final = 255
"""How many letters a key or id may have."""

_name = Name(200)
_id = Name(NAME_LENGTH)
_bytes = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")
_text = Text().with_variant(MEDIUMTEXT(charset="utf8mb4"), "mysql", "mariadb")

meta: Final = Table(
    "headrace_meta",
    headrace_metadata,
    Column("app", _name),
    Column("name", _name),
    Column("value", _text, nullable=False),
    PrimaryKeyConstraint("app", "name"),
)

queue: Final = Table(
    "headrace_queue",
    headrace_metadata,
    Column("position", _number, primary_key=True, autoincrement=True),
    Column("queue", _id, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("topic", _id, nullable=False),
    Column("key", _id),
    Column("envelope", _bytes, nullable=False),
    Column("body", _bytes, nullable=False),
    Column("state", SmallInteger, nullable=False),
    # The key of a row that was ever parked; NULL otherwise, which keeps the index on it small.
    Column("parked_key", _id),
    # 1 for a parked row with no earlier one of its key, kept by whoever adds or deletes one: what may run is found
    # without a look at the rows that are held, however many there are.
    Column("head", SmallInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at_ms", BigInteger),
    Column("error", _text),
    Column("error_message", _text),
    Column("traceback", _text),
    Column("created_at_ms", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
Index(
    "headrace_queue_state",
    queue.c.queue,
    queue.c.state,
    queue.c.partition,
    queue.c.position,
)
Index(
    "headrace_queue_parked",
    queue.c.queue,
    queue.c.topic,
    queue.c.parked_key,
    queue.c.position,
    sqlite_where=queue.c.parked_key.is_not(None),
    postgresql_where=queue.c.parked_key.is_not(None),
)
# `head` stands behind what is searched for: PostgreSQL leaves it out of the search, because the index has no other value.
Index(
    "headrace_queue_head",
    queue.c.queue,
    queue.c.state,
    queue.c.partition,
    queue.c.head,
    queue.c.position,
    sqlite_where=queue.c.head == 1,
    postgresql_where=queue.c.head == 1,
)

# Only rows that wait for a time have one: what is due is found without a look at those that are not.
Index(
    "headrace_queue_due",
    queue.c.queue,
    queue.c.partition,
    queue.c.due_at_ms,
    sqlite_where=queue.c.due_at_ms.is_not(None),
    postgresql_where=queue.c.due_at_ms.is_not(None),
)

# Dead letters in order, with what they are chosen and counted by, so that neither looks at the rows themselves. MariaDB and
# MySQL have no index of some rows only, and of a text they index the beginning.
Index(
    "headrace_queue_dead",
    queue.c.state,
    queue.c.position,
    queue.c.queue,
    queue.c.topic,
    queue.c.error,
    sqlite_where=queue.c.state == int(State.DEAD),
    postgresql_where=queue.c.state == int(State.DEAD),
    mysql_length={"error": 191},
    mariadb_length={"error": 191},
)

lease: Final = Table(
    "headrace_lease",
    headrace_metadata,
    Column("queue", _id),
    Column("partition", Integer),
    Column("token", BigInteger, nullable=False),
    Column("owner", _id),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("position", _id),
    PrimaryKeyConstraint("queue", "partition"),
)

owner: Final = Table(
    "headrace_owner",
    headrace_metadata,
    Column("queue", _id),
    Column("owner", _id),
    Column("expires_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("queue", "owner"),
)

# Numbered in the order handled, so that what is old is found at its beginning and needs no index on the time.
inbox: Final = Table(
    "headrace_inbox",
    headrace_metadata,
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("group_name", _name, nullable=False),
    Column("source", _id, nullable=False),
    Column("id", _id, nullable=False),
    Column("handled_at_ms", BigInteger, nullable=False),
    UniqueConstraint("group_name", "source", "id", name="headrace_inbox_seen"),
)

group_type: Final = Table(
    "headrace_group_type",
    headrace_metadata,
    Column("group_name", _name),
    Column("type", _id),
    PrimaryKeyConstraint("group_name", "type"),
)

topic: Final = Table(
    "headrace_topic",
    headrace_metadata,
    Column("name", _id, primary_key=True),
    Column("partitions", Integer, nullable=False),
)

topic_partition: Final = Table(
    "headrace_topic_partition",
    headrace_metadata,
    Column("topic", _id),
    Column("partition", Integer),
    Column("next_position", BigInteger, nullable=False),
    PrimaryKeyConstraint("topic", "partition"),
    ForeignKeyConstraint(["topic"], ["headrace_topic.name"]),
)

log: Final = Table(
    "headrace_log",
    headrace_metadata,
    Column("topic", _id),
    Column("partition", Integer, autoincrement=False),
    Column("position", BigInteger, autoincrement=False),
    Column("key", _id),
    Column("envelope", _bytes, nullable=False),
    Column("body", _bytes, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("topic", "partition", "position"),
)

# What each process says of itself; a row is overwritten every few seconds.
pulse: Final = Table(
    "headrace_pulse",
    headrace_metadata,
    Column("app", _name),
    Column("process", _id),
    Column("data", _bytes, nullable=False),
    Column("said_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("app", "process"),
)

# What people did. Nothing deletes from it.
audit: Final = Table(
    "headrace_audit",
    headrace_metadata,
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("app", _name, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", _text, nullable=False),
    Column("action", _name, nullable=False),
    Column("detail", _text, nullable=False),
    sqlite_autoincrement=True,
)
Index("headrace_audit_app", audit.c.app, audit.c.number)

for _table in headrace_metadata.tables.values():
    # Only InnoDB has transactions, and its rows are to take keys of this length whatever the server's defaults are.
    for _product in ("mysql", "mariadb"):
        _table.dialect_options[_product]["engine"] = "InnoDB"
        _table.dialect_options[_product]["row_format"] = "DYNAMIC"
