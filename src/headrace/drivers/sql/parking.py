"""The statements of parked messages: adding one, running one, putting one back, letting the next one to the head.

A parked row is the *head* of its key if no earlier row of its (queue, topic, key) is parked; a keyless row always is. Only
heads may run. Whoever adds or deletes a parked row keeps the marks, in the same transaction and under the same lease.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Integer,
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
    update,
)
from sqlalchemy.sql.elements import BindParameter, ColumnElement

from headrace.drivers.sql.dialects.base import now_ms
from headrace.drivers.sql.rows import STORED
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

# As a list, so that the index skips dead letters however many there are.
_living: Final = queue.c.state.in_((int(State.READY), int(State.WAITING), int(State.HELD)))

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

attempt: Final = update(queue).where(_may_run).values(attempts=queue.c.attempts + 1)
"""Counts an attempt of a message that may run."""

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

dead_lanes: Final = (
    select(queue.c.queue, queue.c.topic, queue.c.parked_key)
    .where(
        queue.c.position.in_(bindparam("positions", expanding=True)),
        queue.c.state == int(State.DEAD),
        queue.c.parked_key.is_not(None),
    )
    .distinct()
)
"""The keys of dead letters that are to be dropped."""

drop: Final = delete(queue).where(
    queue.c.position.in_(bindparam("positions", expanding=True)),
    queue.c.state == int(State.DEAD),
)
"""Deletes dead letters."""

runnable: Final = (
    select(*STORED)
    .where(
        queue.c.queue == bindparam("queue", type_=String),
        queue.c.head == 1,
        _living,
        queue.c.partition.in_(bindparam("partitions", expanding=True)),
        due,
    )
    .order_by(queue.c.position)
    .limit(bindparam("most", type_=Integer))
)
"""The oldest parked messages that may run now."""

due_in: Final = select(
    func.min(case((queue.c.state == int(State.WAITING), queue.c.due_at_ms), else_=0)),
    now_ms(),
).where(
    queue.c.queue == bindparam("queue", type_=String),
    queue.c.head == 1,
    _living,
    queue.c.partition.in_(bindparam("partitions", expanding=True)),
)
"""When the next of these messages may run (0: now), and the time."""
