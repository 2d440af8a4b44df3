"""The statements of the outbox, and what all queues share: enqueuing, reading the oldest, deleting, counting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import (
    BigInteger,
    Executable,
    Integer,
    Select,
    String,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    union_all,
)

from headrace.broker import partition_of
from headrace.drivers.sql.dialects.base import now_ms
from headrace.drivers.sql.rows import STORED, message_values
from headrace.drivers.sql.schema import queue
from headrace.envelope import Message
from headrace.storage import State

_READY = int(State.READY)
_blocked = (int(State.WAITING), int(State.HELD), int(State.DEAD))
_other = queue.alias("other")
_any = queue.alias("any")

enqueue: Final = insert(queue).values(
    queue=bindparam("v_queue", type_=String),
    partition=bindparam("v_partition", type_=Integer),
    topic=bindparam("v_topic", type_=String),
    key=bindparam("v_key", type_=String),
    envelope=bindparam("v_envelope", type_=queue.c.envelope.type),
    body=bindparam("v_body", type_=queue.c.body.type),
    state=_READY,
    head=0,
    attempts=0,
    created_at_ms=now_ms(),
)
"""Adds one message; run for many in their order."""


def enqueue_values(name: str, partitions: int, message: Message) -> Mapping[str, object]:
    """The parameters of `enqueue`."""
    return {
        "v_queue": name,
        "v_partition": partition_of(message, partitions),
        **message_values(message),
    }


def oldest_ready(partitions: int, *, pauses: bool) -> Executable:
    """The oldest READY rows of so many partitions (`p_0`, `p_1`, ...), without those behind an earlier one that is not.

    Each partition's part reads the index from its beginning and stops at the limit, so a backlog of any size costs the
    same. Rows are looked at one by one only while something is paused or blocked at all.
    """
    name = bindparam("queue", type_=String)
    most = bindparam("most", type_=Integer)
    free = or_(
        ~exists(select(literal(1)).where(_any.c.queue == name, _any.c.state.in_(_blocked))),
        ~exists(
            select(literal(1)).where(
                _other.c.queue == name,
                _other.c.topic == queue.c.topic,
                _other.c.parked_key == queue.c.key,
                _other.c.position < queue.c.position,
                _other.c.state != _READY,
            )
        ),
    )
    parts: list[Select[int]] = []
    for number in range(partitions):
        part = (
            select(queue.c.position)
            .where(
                queue.c.queue == name,
                queue.c.state == _READY,
                queue.c.partition == bindparam(f"p_{number}", type_=Integer),
                free,
            )
            .order_by(queue.c.position)
            .limit(most)
        )
        if pauses:
            part = part.where(queue.c.topic.not_in(bindparam("paused", expanding=True)))
        parts.append(select(part.subquery().c.position))
    each = union_all(*parts).subquery()
    first = select(each.c.position).order_by(each.c.position).limit(most).subquery()
    return (
        select(*STORED)
        .join_from(first, queue, queue.c.position == first.c.position)
        .order_by(queue.c.position)
    )


delete_published: Final = delete(queue).where(
    queue.c.position == bindparam("r_position", type_=BigInteger)
)
"""Deletes one message; run for many."""

sizes: Final = (
    select(queue.c.state, func.count(), func.min(queue.c.position))
    .where(queue.c.queue == bindparam("queue", type_=String))
    .group_by(queue.c.state)
)
"""State, number and first position of what a queue holds."""

age: Final = select(now_ms() - queue.c.created_at_ms).where(
    queue.c.position == bindparam("r_position", type_=BigInteger)
)
"""The age of one message in milliseconds."""


def dead_letters(*, one_queue: bool) -> Executable:
    """Dead letters by position, of one queue or of all."""
    found = (
        select(*STORED)
        .where(
            queue.c.state == int(State.DEAD),
            queue.c.position > bindparam("after", type_=BigInteger),
        )
        .order_by(queue.c.position)
        .limit(bindparam("most", type_=Integer))
    )
    return found.where(queue.c.queue == bindparam("queue", type_=String)) if one_queue else found
