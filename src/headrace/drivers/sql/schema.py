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

VERSION: Final = 1
"""The version of these tables; it is in `headrace_meta` and is compared when an app starts."""

headrace_metadata: Final = MetaData()
"""Every table of Headrace, for Alembic: `target_metadata = [Base.metadata, headrace_metadata]`."""

# A key of SQLite grows by itself and is never reused only as "INTEGER PRIMARY KEY AUTOINCREMENT".
_number = BigInteger().with_variant(Integer(), "sqlite")
_name = String(200)
_id = String(255)

meta: Final = Table(
    "headrace_meta",
    headrace_metadata,
    Column("app", _name),
    Column("name", _name),
    Column("value", Text, nullable=False),
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
    Column("envelope", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("state", SmallInteger, nullable=False),
    # The key of a row that was ever parked; NULL otherwise, which keeps the index on it small.
    Column("parked_key", _id),
    # 1 for a parked row with no earlier one of its key, kept by whoever adds or deletes one: what may run is found
    # without a look at the rows that are held, however many there are.
    Column("head", SmallInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at_ms", BigInteger),
    Column("error", Text),
    Column("error_message", Text),
    Column("traceback", Text),
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
Index(
    "headrace_queue_head",
    queue.c.queue,
    queue.c.head,
    queue.c.state,
    queue.c.partition,
    queue.c.position,
    sqlite_where=queue.c.head == 1,
    postgresql_where=queue.c.head == 1,
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
    Column("envelope", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("topic", "partition", "position"),
)
