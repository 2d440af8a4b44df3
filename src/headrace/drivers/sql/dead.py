"""The statements of what people look at and mend: dead letters, stored messages, the inbox, pulses and audit records."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    BigInteger,
    Executable,
    Integer,
    LargeBinary,
    Select,
    String,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from headrace.drivers.sql import schema
from headrace.drivers.sql.bytes_in import PlaceIn
from headrace.drivers.sql.dialect import now_ms
from headrace.drivers.sql.rows import STORED, by_index
from headrace.drivers.sql.schema import queue
from headrace.storage import State

if TYPE_CHECKING:
    from sqlalchemy import Insert

    from headrace.drivers.sql.dialect import Dialect

# Written out: an index of dead rows is only taken where the statement itself says that it wants no others.
_is_dead = queue.c.state == literal_column(str(int(State.DEAD)))
_position = bindparam("r_position", type_=BigInteger)
_most = bindparam("most", type_=Integer)
_after = bindparam("after", type_=BigInteger)
_queue = bindparam("queue", type_=String)


@cache
def dead_letters(*, queues: bool, topics: bool, errors: bool | None) -> Executable:
    """A page of dead letters, chosen within the index alone.

    Args:
        queues: of one queue.
        topics: of one topic.
        errors: True: of one error; False: of none; None: of whatever error.
    """
    chosen = by_index(
        select(queue.c.position).where(_is_dead, queue.c.position > _after),
        queue,
        "headrace_queue_dead",
    )
    if queues:
        chosen = chosen.where(queue.c.queue == _queue)
    if topics:
        chosen = chosen.where(queue.c.topic == bindparam("topic", type_=String))
    if errors is not None:
        error = queue.c.error
        chosen = chosen.where(
            error == bindparam("error", type_=String) if errors else error.is_(None)
        )
    page = chosen.order_by(queue.c.state, queue.c.position).limit(_most).subquery()
    return (
        select(*STORED)
        .join_from(page, queue, queue.c.position == page.c.position)
        .order_by(queue.c.position)
    )


@cache
def dead_errors(*, queues: bool) -> Executable:
    """Dead letters counted by queue, topic and error, with the message of the newest: of one queue, or of all."""
    names = (queue.c.queue, queue.c.topic, queue.c.error)
    counted = by_index(
        select(
            *names,
            func.count().label("number"),
            func.min(queue.c.position).label("first"),
            func.max(queue.c.position).label("last"),
        ).where(_is_dead),
        queue,
        "headrace_queue_dead",
    )
    if queues:
        counted = counted.where(queue.c.queue == _queue)
    each = counted.group_by(*names).subquery()
    newest = queue.alias("newest")
    return (
        select(
            each.c.queue,
            each.c.topic,
            each.c.error,
            each.c.number,
            each.c.first,
            each.c.last,
            newest.c.error_message,
        )
        .join_from(each, newest, newest.c.position == each.c.last)
        .order_by(each.c.number.desc(), each.c.first)
    )


place: Final = select(queue.c.queue, queue.c.partition, queue.c.topic, queue.c.key).where(
    queue.c.position == _position
)
"""Where one message stands."""

_of_its_key = (
    queue.c.queue == _queue,
    queue.c.topic == bindparam("topic", type_=String),
    queue.c.position > _position,
)

behind: Final = by_index(
    select(func.count()).where(*_of_its_key, queue.c.parked_key == bindparam("key", type_=String)),
    queue,
    "headrace_queue_parked",
)
"""How many parked messages of a key stand behind one."""

behind_in_outbox: Final = by_index(
    select(func.count()).where(
        *_of_its_key,
        queue.c.state.in_([int(state) for state in State]),
        queue.c.partition == bindparam("partition", type_=Integer),
        queue.c.key == bindparam("key", type_=String),
    ),
    queue,
    "headrace_queue_state",
)
"""As `behind`, where messages that nobody has looked at yet count too."""

_some = select(queue.c.position).where(queue.c.position > _after).order_by(queue.c.position)
_part = _some.limit(bindparam("part", type_=Integer)).subquery()

end_of_part: Final = select(func.max(_part.c.position))
"""The last position of the next part of the table; NULL behind its end."""


@cache
def found(*, ids: bool, topics: bool, keys: bool, queues: bool, correlations: bool) -> Executable:
    """The messages in a part of the table to which all that is given applies."""
    chosen: Select[*tuple[object, ...]] = (
        select(*STORED)
        .where(queue.c.position > _after, queue.c.position <= bindparam("upto", type_=BigInteger))
        .order_by(queue.c.position)
        .limit(_most)
    )
    if ids:
        start = func.substr(queue.c.envelope, 1, bindparam("start_bytes", type_=Integer))
        chosen = chosen.where(start == bindparam("start", type_=LargeBinary))
    if correlations:
        part = bindparam("part_of", type_=LargeBinary)
        chosen = chosen.where(PlaceIn(queue.c.envelope, part) > 0)
    if topics:
        chosen = chosen.where(queue.c.topic == bindparam("topic", type_=String))
    if keys:
        chosen = chosen.where(queue.c.key == bindparam("key", type_=String))
    # No index of queues is to be taken: it has another order, so that each part would be looked for in the whole queue.
    return chosen.where(queue.c.queue.concat("") == _queue) if queues else chosen


@cache
def handled(*, groups: bool, sources: bool) -> Executable:
    """What the inbox has of an id."""
    inbox = schema.inbox
    chosen = (
        select(inbox.c.group_name, inbox.c.source, inbox.c.id, inbox.c.handled_at_ms)
        .where(inbox.c.id == bindparam("id", type_=String))
        .order_by(inbox.c.group_name, inbox.c.source)
        .limit(_most)
    )
    if groups:
        chosen = chosen.where(inbox.c.group_name.in_(bindparam("groups", expanding=True)))
    if sources:
        chosen = chosen.where(inbox.c.source.in_(bindparam("sources", expanding=True)))
    return chosen


rewrite: Final = (
    update(queue)
    .where(queue.c.position == _position, queue.c.state == int(State.DEAD))
    .values(body=bindparam("v_body", type_=queue.c.body.type))
)
"""Replaces the body of a dead letter."""

_app = bindparam("a", type_=String)
_process = bindparam("p", type_=String)


def new_pulse(dialect: Dialect) -> Insert:
    """Makes room for what a process says; changes no row if it said something before."""
    return dialect.insert_new(schema.pulse).values(
        app=_app, process=_process, data=b"", said_at_ms=0, expires_at_ms=0
    )


_of_process = and_(schema.pulse.c.app == _app, schema.pulse.c.process == _process)
_expired = schema.pulse.c.expires_at_ms <= now_ms()

say: Final = (
    update(schema.pulse)
    .where(_of_process)
    .values(
        data=bindparam("v_data", type_=schema.pulse.c.data.type),
        said_at_ms=now_ms(),
        expires_at_ms=now_ms() + bindparam("ms", type_=BigInteger),
    )
)
"""Replaces what a process has said."""

pulses: Final = (
    select(schema.pulse.c.process, schema.pulse.c.data, now_ms() - schema.pulse.c.said_at_ms)
    .where(schema.pulse.c.app == _app, schema.pulse.c.expires_at_ms > now_ms())
    .order_by(schema.pulse.c.process)
)
"""What the processes of an app say, and how long ago they said it."""

expired: Final = select(schema.pulse.c.app, schema.pulse.c.process).where(_expired)
"""The processes that say nothing any more."""

bury: Final = delete(schema.pulse).where(_of_process, _expired)
"""Deletes what such a process has said; run for many."""

note: Final = insert(schema.audit).values(
    app=_app,
    at_ms=now_ms(),
    who=bindparam("v_who", type_=schema.audit.c.who.type),
    action=bindparam("v_action", type_=String),
    detail=bindparam("v_detail", type_=schema.audit.c.detail.type),
)
"""Records what somebody did."""


@cache
def audits(*, older: bool) -> Executable:
    """What people did, newest first: all, or before a number."""
    audit = schema.audit
    chosen = (
        select(audit.c.number, audit.c.at_ms, audit.c.who, audit.c.action, audit.c.detail)
        .where(audit.c.app == _app)
        .order_by(audit.c.number.desc())
        .limit(_most)
    )
    return chosen.where(audit.c.number < bindparam("before", type_=BigInteger)) if older else chosen
