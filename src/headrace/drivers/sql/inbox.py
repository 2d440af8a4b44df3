"""The statements of the inbox: what a group has handled, and which event types it ever knew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Integer, String, bindparam, delete, select

from headrace.drivers.sql.dialect import now_ms
from headrace.drivers.sql.schema import group_type, inbox

if TYPE_CHECKING:
    from sqlalchemy import Insert

    from headrace.drivers.sql.dialect import Dialect


def see(dialect: Dialect) -> Insert:
    """Records a message as handled; changes no row if it was before."""
    return dialect.insert_new(inbox).values(
        group_name=bindparam("i_group", type_=String),
        source=bindparam("i_source", type_=String),
        id=bindparam("i_id", type_=String),
        handled_at_ms=now_ms(),
    )


def learn(dialect: Dialect) -> Insert:
    """Records an event type of a group."""
    return dialect.insert_new(group_type).values(
        group_name=bindparam("i_group", type_=String), type=bindparam("i_type", type_=String)
    )


known: Final = select(group_type.c.type).where(
    group_type.c.group_name == bindparam("i_group", type_=String)
)
"""The event types of a group."""

_oldest = (
    select(inbox.c.number, inbox.c.handled_at_ms)
    .order_by(inbox.c.number)
    .limit(bindparam("most", type_=Integer))
    .subquery()
)

forget: Final = delete(inbox).where(
    inbox.c.number.in_(
        select(_oldest.c.number).where(
            _oldest.c.handled_at_ms < now_ms() - bindparam("age_ms", type_=BigInteger)
        )
    )
)
"""Deletes what is old among the first rows; rows stand in the order handled, so none is searched for."""

old: Final = select(_oldest.c.number).where(
    _oldest.c.handled_at_ms < now_ms() - bindparam("age_ms", type_=BigInteger)
)
"""The numbers of what `forget` would delete."""

delete_one: Final = delete(inbox).where(inbox.c.number == bindparam("r_number", type_=BigInteger))
"""Deletes one row; run for many."""
