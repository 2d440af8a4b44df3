"""The statements of topics kept as logs in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    BigInteger,
    Integer,
    String,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from headrace.drivers.sql.dialect import Dialect, now_ms
from headrace.drivers.sql.schema import lease, log, topic, topic_partition

if TYPE_CHECKING:
    from sqlalchemy import Insert

_topic = bindparam("t", type_=String)
_partition = bindparam("p", type_=Integer)
_v_topic = bindparam("v_topic", type_=String)
_most = bindparam("most", type_=Integer)


def new_topic(dialect: Dialect) -> Insert:
    """Makes a topic; changes no row if it exists."""
    return dialect.insert_new(topic).values(name=_topic, partitions=bindparam("n", type_=Integer))


def new_partition(dialect: Dialect) -> Insert:
    """Makes a partition, whose first position will be 1; changes no row if it exists."""
    return dialect.insert_new(topic_partition).values(
        topic=_topic, partition=_partition, next_position=1
    )


partitions: Final = select(topic.c.partitions).where(topic.c.name == _topic)
"""The partition count of a topic."""

topics: Final = select(topic.c.name)
"""The names of all topics."""

# The row stays locked until the commit, so that the order of positions is the order of commits and there are no gaps.
reserve: Final = (
    update(topic_partition)
    .where(topic_partition.c.topic == _topic, topic_partition.c.partition == _partition)
    .values(next_position=topic_partition.c.next_position + bindparam("n", type_=BigInteger))
)
"""Takes the next n positions of a partition."""

next_positions: Final = select(topic_partition.c.partition, topic_partition.c.next_position).where(
    topic_partition.c.topic == _topic
)
"""The next position of each partition."""

_next = (
    select(topic_partition.c.next_position)
    .where(topic_partition.c.topic == _v_topic, topic_partition.c.partition == _partition)
    .scalar_subquery()
)

append: Final = insert(log).values(
    topic=_v_topic,
    partition=_partition,
    position=_next - bindparam("back", type_=BigInteger),
    key=bindparam("v_key", type_=String),
    envelope=bindparam("v_envelope", type_=log.c.envelope.type),
    body=bindparam("v_body", type_=log.c.body.type),
    created_at_ms=now_ms(),
)
"""Adds a message at a reserved position, so many before the next one that is free."""

read: Final = (
    select(log.c.partition, log.c.position, log.c.topic, log.c.key, log.c.envelope, log.c.body)
    .where(
        log.c.topic == _topic,
        log.c.partition == _partition,
        log.c.position > bindparam("after", type_=BigInteger),
    )
    .order_by(log.c.position)
    .limit(_most)
)
"""The messages of one partition behind a position."""

first: Final = select(func.min(log.c.position)).where(
    log.c.topic == _topic, log.c.partition == _partition
)
"""The earliest retained position of a partition."""

finished: Final = select(lease.c.queue, lease.c.partition, lease.c.position).where(
    lease.c.queue.like("group:%")
)
"""How far each group is in each topic."""

_oldest = (
    select(log.c.position, log.c.created_at_ms)
    .where(
        log.c.topic == _topic,
        log.c.partition == _partition,
        log.c.position <= bindparam("upto", type_=BigInteger),
    )
    .order_by(log.c.position)
    .limit(_most)
    .subquery()
)

_old = _oldest.c.created_at_ms <= now_ms() - bindparam("age_ms", type_=BigInteger)

# Up to one position, which is looked for once: a list of positions PostgreSQL looks for again for each row, because the
# clock goes on (measured on eight partitions of 1 500 messages: 12 s, and 0.02 s in this form).
forget: Final = delete(log).where(
    log.c.topic == _topic,
    log.c.partition == _partition,
    log.c.position <= select(func.max(_oldest.c.position)).where(_old).scalar_subquery(),
    log.c.created_at_ms <= now_ms() - bindparam("age_ms", type_=BigInteger),
)
"""Deletes what is old among the first messages of a partition."""

old: Final = select(_oldest.c.position).where(_old)
"""The positions of what `forget` would delete."""

delete_one: Final = delete(log).where(
    log.c.topic == _topic,
    log.c.partition == _partition,
    log.c.position == bindparam("r_position", type_=BigInteger),
)
"""Deletes one message; run for many."""
