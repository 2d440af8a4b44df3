"""Messages as rows, and rows as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeVarTuple, cast

from sqlalchemy import ColumnElement, FromClause, Select

from headrace.drivers.sql.schema import queue
from headrace.envelope import Message, pack, sequence_of, unpack
from headrace.storage import Failure, State, Stored

STORED: Final[Sequence[ColumnElement[object]]] = (
    queue.c.position,
    queue.c.queue,
    queue.c.partition,
    queue.c.topic,
    queue.c.key,
    queue.c.envelope,
    queue.c.body,
    queue.c.state,
    queue.c.attempts,
    queue.c.due_at_ms,
    queue.c.error,
    queue.c.error_message,
    queue.c.traceback,
    queue.c.created_at_ms,
)
"""The columns that `stored` reads, in its order."""

READY: Final[Sequence[ColumnElement[object]]] = (
    queue.c.position,
    queue.c.partition,
    queue.c.topic,
    queue.c.key,
    queue.c.envelope,
    queue.c.body,
    queue.c.attempts,
    queue.c.created_at_ms,
)
"""The columns that `stored_ready` reads, in its order: the others are known, or say of what a redriven message had failed."""

Columns = TypeVarTuple("Columns")


def by_index(statement: Select[*Columns], table: FromClause, index: str) -> Select[*Columns]:
    """Say by which index MariaDB and MySQL read a table: for a few rows in order they tend to walk the whole of it."""
    for product in ("mysql", "mariadb"):
        statement = statement.with_hint(table, f"FORCE INDEX ({index})", product)
    return statement


_STATES: Final = {int(state): state for state in State}

_Fields = tuple[
    int,
    str,
    int,
    str,
    str | None,
    bytes,
    bytes,
    int,
    int,
    int | None,
    str | None,
    str | None,
    str | None,
    int,
]


def stored(row: Sequence[object], *, to_publish: bool = False) -> Stored:
    """A row of `STORED` columns.

    Args:
        row: the values.
        to_publish: give the envelope the row's place as its `sequence`.
    """
    (
        position,
        name,
        partition,
        topic,
        key,
        envelope,
        body,
        state,
        attempts,
        due_at_ms,
        error,
        message,
        traceback,
        created_at_ms,
    ) = cast("_Fields", row)
    return Stored(
        position,
        name,
        partition,
        Message(
            topic,
            key,
            unpack(envelope, sequence=sequence_of(position) if to_publish else None),
            body,
        ),
        _STATES[state],
        attempts,
        due_at_ms / 1000 if due_at_ms is not None and state == State.WAITING else None,
        Failure(error, message or "", traceback or "") if error is not None else None,
        created_at_ms / 1000,
    )


_ReadyFields = tuple[int, int, str, str | None, bytes, bytes, int, int, object]


def stored_ready(row: Sequence[object], name: str) -> Stored:
    """A row of `READY` columns and another of the queue `name`; the envelope gets the row's place as its `sequence`."""
    position, partition, topic, key, envelope, body, attempts, created_at_ms, _ = cast(
        "_ReadyFields", row
    )
    message = Message(topic, key, unpack(envelope, sequence=sequence_of(position)), body)
    created_at = created_at_ms / 1000
    return Stored(position, name, partition, message, State.READY, attempts, None, None, created_at)


def message_values(message: Message) -> dict[str, object]:
    """The parameters of a message, in any table that keeps messages."""
    return {
        "v_topic": message.topic,
        "v_key": message.key,
        "v_envelope": pack(message.envelope),
        "v_body": message.data,
    }


def failure_values(failure: Failure | None) -> Mapping[str, object]:
    """The parameters of a failure, cut to the lengths that `Failure` promises."""
    return {
        "v_error": failure.error[:200] if failure else None,
        "v_error_message": failure.message[:2_000] if failure else None,
        "v_traceback": failure.traceback[:20_000] if failure else None,
    }
