"""The statements of parked messages: adding one, running one, putting one back, letting the next one to the head.

A parked row is the *head* of its key if no earlier row of its (queue, topic, key) is parked; a keyless row always is. Only
heads may run. Whoever adds or deletes a parked row keeps the marks, in the same transaction and under the same lease.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Executable,
    Integer,
    Select,
    String,
    Text,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.sql.elements import BindParameter, ColumnElement

from headrace.drivers.sql.dialect import now_ms
from headrace.drivers.sql.rows import STORED, by_index
from headrace.drivers.sql.schema import lease, queue
from headrace.storage import State

_other = queue.alias("other")


def _value(name: str) -> BindParameter[object]:
    return bindparam(f"v_{name}", type_=queue.c[name].type)


def _earlier(*extra: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists(
        select(literal(1)).where(
            _other.c.queue == queue.c.queue,
            _other.c.topic == queue.c.topic,
            _other.c.parked_key == queue.c.key,
            _other.c.position < queue.c.position,
            *extra,
        )
    )


due: Final = or_(
    queue.c.state.in_((int(State.READY), int(State.HELD))),
    and_(queue.c.state == int(State.WAITING), queue.c.due_at_ms <= now_ms()),
)
"""A row whose own state lets it run now."""

_may_run: Final = and_(
    queue.c.position == bindparam("r_position", type_=BigInteger), due, ~_earlier()
)

own: Final = (
    select(lease.c.token)
    .where(
        lease.c.queue == bindparam("l_queue", type_=String),
        lease.c.partition == bindparam("l_partition", type_=Integer),
        lease.c.token == bindparam("l_token", type_=BigInteger),
    )
    .with_for_update()
)
"""One row if the lease is still its owner's; keeps it so until the end of the transaction."""

own_partition: Final = (
    select(lease.c.token)
    .where(
        lease.c.queue == bindparam("h_queue", type_=String),
        lease.c.partition == bindparam("h_partition", type_=Integer),
    )
    .with_for_update()
)
"""As `own_all`, for one partition."""

own_all: Final = (
    select(lease.c.partition)
    .where(
        exists(
            select(literal(1)).where(
                queue.c.position.in_(bindparam("positions", expanding=True)),
                queue.c.queue == lease.c.queue,
                queue.c.partition == lease.c.partition,
            )
        )
    )
    .order_by(lease.c.queue, lease.c.partition)
    .with_for_update(of=lease)
)
"""Lets no owner of these messages' partitions add, run or delete a parked row until the end of the transaction."""

advance: Final = (
    update(lease)
    .where(
        lease.c.queue == bindparam("l_queue", type_=String),
        lease.c.partition == bindparam("l_partition", type_=Integer),
        lease.c.token == bindparam("l_token", type_=BigInteger),
    )
    .values(position=bindparam("l_position", type_=String))
)
"""As `own`, and moves the position."""

held: Final = (
    select(literal(1))
    .where(
        queue.c.queue == bindparam("l_queue", type_=String),
        queue.c.topic == bindparam("m_topic", type_=String),
        queue.c.parked_key == bindparam("m_key", type_=String),
    )
    .limit(1)
)
"""One row if a message of this key is parked."""

_names = (
    *("queue", "partition", "topic", "key", "envelope", "body", "state", "attempts"),
    *("error", "error_message", "traceback"),
)

park: Final = insert(queue).from_select(
    [*_names, "parked_key", "due_at_ms", "created_at_ms", "head"],
    select(
        *(_value(name) for name in _names),
        bindparam("p_key", type_=String),
        case(
            (
                bindparam("p_delay_ms", type_=BigInteger).is_not(None),
                now_ms() + bindparam("p_delay_ms", type_=BigInteger),
            ),
            else_=None,
        ),
        now_ms(),
        case(
            (
                exists(
                    select(literal(1)).where(
                        _other.c.queue == bindparam("p_queue", type_=String),
                        _other.c.topic == bindparam("p_topic", type_=String),
                        _other.c.parked_key == bindparam("p_key", type_=String),
                    )
                ),
                0,
            ),
            else_=1,
        ),
    ),
)
"""Adds a parked row behind those of its key."""

may_run: Final = select(queue.c.position).where(_may_run).with_for_update(of=queue)
"""One row if this message is there and may run now."""

remove: Final = delete(queue).where(queue.c.position == bindparam("r_position", type_=BigInteger))
"""Deletes a message that was handled."""

_first = (
    select(func.min(_other.c.position).label("position"))
    .where(
        _other.c.queue == bindparam("h_queue", type_=String),
        _other.c.topic == bindparam("h_topic", type_=String),
        _other.c.parked_key == bindparam("h_key", type_=String),
    )
    .subquery()
)

promote: Final = update(queue).where(queue.c.position.in_(select(_first.c.position))).values(head=1)
"""Lets the first of what is left of a key run."""

_attempts = bindparam("v_attempts", type_=Integer)
attempt: Final = (
    update(queue).where(_may_run, queue.c.attempts < _attempts).values(attempts=_attempts)
)
"""Counts an attempt of a message that may run: by its number, for the answer may be lost and the statement repeated."""

repark: Final = (
    update(queue)
    .where(queue.c.position == bindparam("r_position", type_=BigInteger))
    .values(
        state=bindparam("v_state", type_=Integer),
        parked_key=queue.c.key,
        head=case((_earlier(), 0), else_=1),
        attempts=func.coalesce(bindparam("v_attempts", type_=Integer), queue.c.attempts),
        due_at_ms=now_ms() + bindparam("p_delay_ms", type_=BigInteger),
        error=func.coalesce(bindparam("v_error", type_=Text), queue.c.error),
        error_message=func.coalesce(
            bindparam("v_error_message", type_=Text), queue.c.error_message
        ),
        traceback=func.coalesce(bindparam("v_traceback", type_=Text), queue.c.traceback),
    )
)
"""Puts a message back at its own place; NULL leaves attempts and failure as they are, and means no due time."""

redrive: Final = (
    update(queue)
    .where(
        queue.c.position.in_(bindparam("positions", expanding=True)),
        queue.c.state == int(State.DEAD),
    )
    .values(state=int(State.READY), attempts=0, due_at_ms=None)
)
"""Dead letters become READY."""

dead_ones: Final = select(queue.c.position, queue.c.queue, queue.c.topic, queue.c.parked_key).where(
    queue.c.position.in_(bindparam("positions", expanding=True)),
    queue.c.state == int(State.DEAD),
)
"""Those of these messages that are dead letters: position, and queue, topic and key."""

drop: Final = delete(queue).where(
    queue.c.position.in_(bindparam("positions", expanding=True)),
    queue.c.state == int(State.DEAD),
)
"""Deletes dead letters."""


def runnable(partitions: int) -> Executable:
    """The oldest messages of so many partitions (`p_0`, `p_1`, ...) that may run now.

    Each part reads an index from its beginning and stops at the limit, so a backlog of any size costs the same, also one of
    messages that wait for a time that has not come.
    """
    most = bindparam("most", type_=Integer)
    parts: list[Select[int]] = []
    for number in range(partitions):
        waiting = _at(State.WAITING, number, queue.c.position).where(queue.c.due_at_ms <= now_ms())
        each_state = (
            _at(State.READY, number, queue.c.position).order_by(queue.c.position),
            _at(State.HELD, number, queue.c.position).order_by(queue.c.position),
            waiting.order_by(queue.c.due_at_ms),
        )
        parts += [select(found.limit(most).subquery().c.position) for found in each_state]
    each = union_all(*parts).subquery()
    first = select(each.c.position).order_by(each.c.position).limit(most).subquery()
    return (
        select(*STORED)
        .join_from(first, queue, queue.c.position == first.c.position)
        .order_by(queue.c.position)
    )


def due_in(partitions: int) -> Executable:
    """When the next message of so many partitions may run (0: now), and the time. Costs the same at any backlog."""
    parts: list[Select[int]] = []
    for number in range(partitions):
        for state in (State.READY, State.HELD):
            # With the order of the index, so that it is taken and its first entry is enough.
            found = _at(state, number, literal(0).label("due_at_ms")).order_by(queue.c.position)
            parts.append(select(found.limit(1).subquery().c.due_at_ms))
        later = _at(State.WAITING, number, func.min(queue.c.due_at_ms).label("due_at_ms"))
        parts.append(later.where(queue.c.due_at_ms.is_not(None)))
    each = union_all(*parts).subquery()
    return select(func.min(each.c.due_at_ms), now_ms())


def _at(state: State, number: int, what: ColumnElement[int]) -> Select[int]:
    found = select(what).where(
        queue.c.queue == bindparam("queue", type_=String),
        queue.c.head == 1,
        queue.c.state == int(state),
        queue.c.partition == bindparam(f"p_{number}", type_=Integer),
    )
    index = "headrace_queue_due" if state is State.WAITING else "headrace_queue_head"
    return by_index(found, queue, index)
