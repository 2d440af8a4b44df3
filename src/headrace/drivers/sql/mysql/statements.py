"""Headrace's own statements on MariaDB and MySQL: by primary key, and never waiting for a row that is not theirs.

There, also under READ COMMITTED, a DELETE waits for every row that it looks at, and locks what its subqueries read. So
rows are found by a SELECT, which locks nothing, and deleted by number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import BigInteger, BindParameter, SmallInteger, String, bindparam, text
from sqlalchemy.dialects.mysql import insert

from headrace.drivers.sql import outbox, parking, schema
from headrace.drivers.sql.dialect import now_ms
from headrace.drivers.sql.statements import Id, Key, Statements, lease_values
from headrace.drivers.sql.steps import Outcome, Step

if TYPE_CHECKING:
    from sqlalchemy import Executable

    from headrace.drivers.sql.dialect import Dialect
    from headrace.drivers.sql.mysql.dialect import MysqlDialect
    from headrace.storage import Lease

_NOW: Final = "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"
_DUE: Final = f"(state IN (0, 2) OR (state = 1 AND due_at_ms <= {_NOW}))"

# Who adds or deletes a parked row keeps `head`, under the same lease: so no look at the other rows is needed, which a
# statement that changes the same table may not take.
_attempt: Final = text(
    "UPDATE headrace_queue SET attempts = :v_attempts WHERE position = :r_position"
    f" AND attempts < :v_attempts AND head = 1 AND {_DUE}"
)

_promote: Final = text(
    "UPDATE headrace_queue FORCE INDEX (headrace_queue_parked) SET head = 1"
    " WHERE queue = :h_queue AND topic = :h_topic AND parked_key = :h_key ORDER BY position LIMIT 1"
)

_repark: Final = text(
    "UPDATE headrace_queue AS q LEFT JOIN"
    " (SELECT DISTINCT 1 AS found FROM headrace_queue AS me JOIN headrace_queue AS other"
    " ON other.queue = me.queue AND other.topic = me.topic AND other.parked_key = me.`key`"
    " AND other.position < me.position WHERE me.position = :r_position) AS earlier ON TRUE"
    " SET q.state = :v_state, q.parked_key = q.`key`, q.head = IF(earlier.found IS NULL, 1, 0),"
    " q.attempts = COALESCE(:v_attempts, q.attempts),"
    f" q.due_at_ms = {_NOW} + :p_delay_ms, q.error = COALESCE(:v_error, q.error),"
    " q.error_message = COALESCE(:v_error_message, q.error_message),"
    " q.traceback = COALESCE(:v_traceback, q.traceback)"
    " WHERE q.position = :r_position"
).bindparams(
    bindparam("v_attempts", type_=SmallInteger),
    bindparam("p_delay_ms", type_=BigInteger),
    bindparam("v_error", type_=String),
)

_BY_NUMBER: Final = "FORCE INDEX (PRIMARY) WHERE q.position IN :positions"
_positions: Final[BindParameter[int]] = bindparam("positions", expanding=True)

_delete: Final = text(f"DELETE q FROM headrace_queue AS q {_BY_NUMBER}").bindparams(_positions)
_drop: Final = text(f"DELETE q FROM headrace_queue AS q {_BY_NUMBER} AND q.state = 3").bindparams(
    _positions
)
_redrive: Final = text(
    "UPDATE headrace_queue AS q FORCE INDEX (PRIMARY)"
    " SET q.state = 0, q.attempts = 0, q.due_at_ms = NULL WHERE q.position IN :positions AND q.state = 3"
).bindparams(_positions)

_hold: Final = text(
    "UPDATE headrace_queue AS q FORCE INDEX (PRIMARY) SET q.state = 2, q.parked_key = q.`key`"
    " WHERE q.position IN :positions AND q.state = 0"
).bindparams(_positions)
_free: Final = text(
    "UPDATE headrace_queue AS q FORCE INDEX (PRIMARY)"
    " SET q.state = 0, q.parked_key = NULL, q.head = 0, q.attempts = 0, q.due_at_ms = NULL"
    " WHERE q.position IN :positions AND q.state IN (2, 3)"
).bindparams(_positions)

# The number of rows tells a new row from one that was there only if that one is changed, for rows found are counted as
# well. A millisecond more of retention harms nobody.
_see: Final = (
    insert(schema.inbox)
    .values(
        group_name=bindparam("i_group", type_=String),
        source=bindparam("i_source", type_=String),
        id=bindparam("i_id", type_=String),
        handled_at_ms=now_ms(),
    )
    .on_duplicate_key_update(handled_at_ms=schema.inbox.c.handled_at_ms + 1)
)


class MysqlStatements(Statements):
    """Statements of one packet, whatever their number.

    Args:
        dialect: of the database.
    """

    reads_before_deleting = True
    replaced: Mapping[Executable, Executable] = {
        parking.attempt: _attempt,
        parking.promote: _promote,
        parking.repark: _repark,
        parking.drop: _drop,
        parking.redrive: _redrive,
        outbox.hold: _hold,
        outbox.free: _free,
    }

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(dialect)
        # The variable's name is known when the storage has asked the server what it is.
        self._dialect = cast("MysqlDialect", dialect)
        self._see = _see

    def own(self, lease: Lease, *, isolation: str | None = None) -> Step:
        """See `Statements.own`. A locking read sees what is committed now, at any level."""
        limit = f"SET SESSION {self._dialect.idle_limit} = {max(1, int(lease.seconds))}"
        return Step(parking.own, lease_values(lease), expects=1, before=limit)

    def admitted(
        self, ids: Sequence[Id], keys: Sequence[Key], found: Sequence[Outcome]
    ) -> tuple[Collection[Id], Collection[Key]]:
        """See `Statements.admitted`. An inserted row counts 1, a changed one 2."""
        new = {one for one, outcome in zip(ids, found, strict=False) if outcome.count == 1}
        return new, self.held(keys, found[len(ids) :])

    def delete(self, positions: Sequence[int]) -> Step:
        """See `Statements.delete`."""
        return Step(_delete, {"positions": list(positions)})
