"""The statements of the outbox, and what all queues share: enqueuing, reading the oldest, deleting, counting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Executable,
    Integer,
    Select,
    String,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    union_all,
    update,
)

from headrace.broker import partition_of
from headrace.drivers.sql.dialect import now_ms
from headrace.drivers.sql.rows import READY, STORED, by_index, message_values
from headrace.drivers.sql.schema import queue
from headrace.envelope import Message
from headrace.storage import State

_READY = int(State.READY)
_blocked = (int(State.WAITING), int(State.HELD), int(State.DEAD))
_other = queue.alias("other")

enqueue: Final = insert(queue).values(
    queue=bindparam("v_queue", type_=String),
    partition=bindparam("v_partition", type_=Integer),
    topic=bindparam("v_topic", type_=String),
    key=bindparam("v_key", type_=String),
    envelope=bindparam("v_envelope", type_=queue.c.envelope.type),
    body=bindparam("v_body", type_=queue.c.body.type),
    state=_READY,
    head=bindparam("v_head", type_=queue.c.head.type),
    attempts=0,
    created_at_ms=now_ms(),
)
"""Adds one message; run for many in their order."""


def enqueue_values(name: str, partitions: int, message: Message) -> Mapping[str, object]:
    """The parameters of `enqueue` for a message of the outbox, which the relay reads."""
    return {
        "v_queue": name,
        "v_partition": partition_of(message, partitions),
        "v_head": 0,
        **message_values(message),
    }


def defer_values(name: str, partition: int, message: Message) -> Mapping[str, object]:
    """The parameters of `enqueue` for a message that is found as parked ones are; without a key it is always the first."""
    return {"v_queue": name, "v_partition": partition, "v_head": 1, **message_values(message)}


blocked: Final = by_index(
    select(literal(1)).where(
        queue.c.queue == bindparam("queue", type_=String), queue.c.state.in_(_blocked)
    ),
    queue,
    "headrace_queue_state",
).limit(1)
"""One row if any message of a queue is not READY."""


def oldest_ready(partitions: int, *, pauses: bool, in_order: bool) -> Executable:
    """The oldest READY rows of so many partitions (`p_0`, `p_1`, ...), whatever is before them: `READY`, and `blocked`.

    Each partition's part reads the index from its beginning and stops at the limit, so a backlog of any size costs the
    same. The last column is not NULL if any message of the queue is not READY.

    Args:
        partitions: how many.
        pauses: leave out the topics of `paused`.
        in_order: see `Statements.reads_in_order`. Where it is False a part has only positions: all parts are read to their
            limit.
    """
    parts: list[Select[*tuple[object, ...]]] = []
    for number in range(partitions):
        partition = bindparam(f"p_{number}", type_=Integer)
        columns = READY if in_order else (queue.c.position,)
        part = _oldest(*columns, pauses=pauses).where(queue.c.partition == partition)
        parts.append(select(part.order_by(queue.c.position).subquery()))
    each = union_all(*parts).subquery()
    most = bindparam("most", type_=Integer)
    some_blocked = blocked.correlate(None).scalar_subquery().label("blocked")
    if in_order:
        return select(each, some_blocked).order_by(each.c.position).limit(most)
    first = select(each.c.position).order_by(each.c.position).limit(most).subquery()
    return (
        select(*READY, some_blocked)
        .join_from(first, queue, queue.c.position == first.c.position)
        .order_by(queue.c.position)
    )


def oldest_looked_at(partitions: int, *, pauses: bool) -> Executable:
    """The positions of the oldest READY rows of so many partitions, each with 1 if one before it of its key is not READY."""
    looked_at = case((_behind(), 1), else_=0).label("behind")
    parts: list[Select[int, int]] = []
    for number in range(partitions):
        # A range of one, and the order by it: only the index of states has that order. With an equality PostgreSQL, whose
        # statistics are older than what is parked, may walk the primary key, past all of that.
        partition = bindparam(f"p_{number}", type_=Integer)
        part = _oldest(queue.c.position, looked_at, pauses=pauses).where(
            queue.c.partition.between(partition, partition)
        )
        found = part.order_by(queue.c.partition, queue.c.position).subquery()
        parts.append(select(found.c.position, found.c.behind))
    each = union_all(*parts).subquery()
    return select(each.c.position, each.c.behind).order_by(each.c.position)


def _oldest(*what: ColumnElement[Any], pauses: bool) -> Select[*tuple[Any, ...]]:
    found = (
        select(*what)
        .where(queue.c.queue == bindparam("queue", type_=String), queue.c.state == _READY)
        .limit(bindparam("most", type_=Integer))
    )
    if pauses:
        found = found.where(queue.c.topic.not_in(bindparam("paused", expanding=True)))
    return by_index(found, queue, "headrace_queue_state")


def _behind() -> ColumnElement[bool]:
    return exists(
        by_index(
            select(literal(1)).where(
                _other.c.queue == queue.c.queue,
                _other.c.topic == queue.c.topic,
                _other.c.parked_key == queue.c.key,
                _other.c.position < queue.c.position,
                _other.c.state != _READY,
            ),
            _other,
            "headrace_queue_parked",
        )
    )


_positions: Final[BindParameter[int]] = bindparam("positions", expanding=True)

at_positions: Final = (
    select(*STORED)
    .where(queue.c.position.in_(_positions), queue.c.state == _READY)
    .order_by(queue.c.position)
)
"""Those of these messages that are READY, by position."""

behind_now: Final = select(queue.c.position).where(
    queue.c.position.in_(_positions), queue.c.state == _READY, _behind()
)
"""Those of these positions that wait behind a message that is not READY."""

hold: Final = (
    update(queue)
    .where(queue.c.position.in_(_positions), queue.c.state == _READY)
    .values(state=int(State.HELD), parked_key=queue.c.key)
)
"""Marks messages of the outbox that wait behind another."""

free: Final = (
    update(queue)
    .where(queue.c.position.in_(_positions), queue.c.state.in_((int(State.HELD), int(State.DEAD))))
    .values(state=_READY, parked_key=None, head=0, attempts=0, due_at_ms=None)
)
"""Makes parked messages of the outbox what they were before."""

released: Final = by_index(
    select(queue.c.partition, queue.c.position, queue.c.topic, queue.c.parked_key).where(
        queue.c.queue == bindparam("queue", type_=String),
        queue.c.head == 1,
        queue.c.state == int(State.HELD),
        queue.c.partition.in_(bindparam("partitions", expanding=True)),
    ),
    queue,
    "headrace_queue_head",
).limit(bindparam("most", type_=Integer))
"""The first HELD rows of keys whose earlier message has gone."""

lane: Final = (
    by_index(
        select(queue.c.position, queue.c.state).where(
            queue.c.queue == bindparam("h_queue", type_=String),
            queue.c.topic == bindparam("h_topic", type_=String),
            queue.c.parked_key == bindparam("h_key", type_=String),
            queue.c.position >= bindparam("from_position", type_=BigInteger),
        ),
        queue,
        "headrace_queue_parked",
    )
    .order_by(queue.c.position)
    .limit(bindparam("most", type_=Integer))
)
"""The first parked messages of a key from a position on, with their states."""


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
