"""Headrace's own statements on PostgreSQL: many rows in one, and those that travel together with BEGIN or COMMIT."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, cast

from sqlalchemy import BigInteger, SmallInteger, String, column, text

from headrace.drivers.sql import outbox
from headrace.drivers.sql.postgresql.kept import enqueue_kept, enqueue_text
from headrace.drivers.sql.statements import Id, Key, Statements, lease_values, pairs
from headrace.drivers.sql.steps import Outcome, Step, Values
from headrace.storage import Lease

_NOW: Final = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)"

_LEASE: Final = (
    "queue = CAST(:l_queue AS text) AND partition = CAST(:l_partition AS integer)"
    " AND token = CAST(:l_token AS bigint)"
)

# The idle limit is set by the subquery that is computed before the row is looked for, and ends with the transaction.
_own: Final = text(
    "SELECT token, set_config('idle_in_transaction_session_timeout', CAST(:idle_ms AS text), true)"
    f" FROM headrace_lease WHERE {_LEASE} FOR UPDATE"
).columns(column("token", BigInteger), column("idle", String))

# Above READ COMMITTED a transaction that waited for the row goes on with its old snapshot, unless the row was changed:
# then it fails and is run again.
_touch: Final = text(
    f"UPDATE headrace_lease SET token = token WHERE {_LEASE} RETURNING token,"
    " set_config('idle_in_transaction_session_timeout', CAST(:idle_ms AS text), true)"
).columns(column("token", BigInteger), column("idle", String))

_advance: Final = text(
    f"UPDATE headrace_lease SET position = CAST(:l_position AS text) WHERE {_LEASE}"
)

_HELD: Final = (
    "SELECT CAST(2 AS smallint) AS kind, CAST(k.topic AS text) AS a, CAST(k.key AS text) AS b"
    " FROM unnest(CAST(:topics AS text[]), CAST(:keys AS text[])) AS k(topic, key)"
    " WHERE EXISTS (SELECT 1 FROM headrace_queue q WHERE q.queue = CAST(:l_queue AS text)"
    " AND q.topic = k.topic AND q.parked_key = k.key)"
)
_found: Final = (column("kind", SmallInteger), column("a", String), column("b", String))

_admit: Final = text(
    "WITH seen AS (INSERT INTO headrace_inbox (group_name, source, id, handled_at_ms)"
    f" SELECT CAST(:i_group AS text), u.source, u.id, {_NOW}"
    " FROM unnest(CAST(:sources AS text[]), CAST(:ids AS text[])) WITH ORDINALITY AS u(source, id, n)"
    " ORDER BY u.n ON CONFLICT (group_name, source, id) DO NOTHING RETURNING source, id)"
    f" SELECT CAST(1 AS smallint) AS kind, CAST(source AS text) AS a, CAST(id AS text) AS b FROM seen UNION ALL {_HELD}"
).columns(*_found)

_holds: Final = text(_HELD).columns(*_found)

_ENQUEUED: Final = (
    *("v_queue", "v_partition", "v_topic", "v_key", "v_envelope", "v_body", "v_head"),
)

_enqueue: Final = text(
    "INSERT INTO headrace_queue"
    " (queue, partition, topic, key, envelope, body, head, state, attempts, created_at_ms)"
    f" SELECT u.queue, u.partition, u.topic, u.key, u.envelope, u.body, u.head, 0, 0, {_NOW}"
    " FROM unnest(CAST(:v_queue AS text[]), CAST(:v_partition AS integer[]), CAST(:v_topic AS text[]),"
    " CAST(:v_key AS text[]), CAST(:v_envelope AS bytea[]), CAST(:v_body AS bytea[]), CAST(:v_head AS smallint[]))"
    " WITH ORDINALITY AS u(queue, partition, topic, key, envelope, body, head, n) ORDER BY u.n"
)

_RESERVED: Final = ("t", "p", "n")
_APPENDED: Final = ("back", "v_key", "v_envelope", "v_body")

# One round trip, and one transaction by itself. The rows are locked in the order given before any is changed, because an
# UPDATE takes them in whatever order its plan has; with a partition that is not there the INSERT fails.
_append: Final = text(
    "WITH wanted AS (SELECT * FROM unnest(CAST(:t AS text[]), CAST(:p AS integer[]), CAST(:n AS bigint[]))"
    " WITH ORDINALITY AS w(topic, partition, n, place)),"
    " locked AS MATERIALIZED (SELECT w.place, w.n, t.topic, t.partition FROM wanted w"
    " JOIN headrace_topic_partition t ON t.topic = w.topic AND t.partition = w.partition"
    " ORDER BY w.place FOR NO KEY UPDATE OF t),"
    " taken AS (UPDATE headrace_topic_partition t SET next_position = t.next_position + l.n FROM locked l"
    " WHERE t.topic = l.topic AND t.partition = l.partition"
    " RETURNING l.place, t.topic, t.partition, t.next_position)"
    " INSERT INTO headrace_log (topic, partition, position, key, envelope, body, created_at_ms)"
    f" SELECT t.topic, t.partition, t.next_position - u.back, u.key, u.envelope, u.body, {_NOW}"
    " FROM unnest(CAST(:place AS integer[]), CAST(:back AS bigint[]), CAST(:v_key AS text[]),"
    " CAST(:v_envelope AS bytea[]), CAST(:v_body AS bytea[])) AS u(place, back, key, envelope, body)"
    " LEFT JOIN taken t ON t.place = u.place"
)

SMALL_BYTES: Final = 8_192
"""Up to this size the text of a message is parsed in less time than a round trip takes."""

_delete: Final = text(
    "DELETE FROM headrace_queue WHERE position = ANY(CAST(:positions AS bigint[]))"
)


class PostgresStatements(Statements):
    """Statements that take many rows as arrays, so that each is prepared once whatever their number."""

    chunk = 5_000
    # One statement has one snapshot, from before it waited.
    stale_after_waiting = True
    reads_in_order = True

    def own(self, lease: Lease, *, isolation: str | None = None) -> Step:
        """See `Statements.own`. Travels with BEGIN."""
        # Zero would mean no limit.
        idle_ms = max(1, round(lease.seconds * 1000))
        idle = f"set_config('idle_in_transaction_session_timeout', '{idle_ms}', true)"
        values = {**lease_values(lease), "idle_ms": str(idle_ms)}
        if isolation in {None, "READ COMMITTED"}:
            script = f"SELECT token, {idle} FROM headrace_lease WHERE {_lease(lease)} FOR UPDATE"
            return Step(_own, values, expects=1, script=script)
        script = (
            f"UPDATE headrace_lease SET token = token WHERE {_lease(lease)} RETURNING token, {idle}"
        )
        return Step(_touch, values, expects=1, script=script)

    def advance(self, lease: Lease, position: str, *, owned: bool = False) -> Step:
        """See `Statements.advance`. Where the row is locked it travels with COMMIT."""
        values = {**lease_values(lease), "l_position": position}
        if not owned:
            return Step(_advance, values, expects=1)
        script = f"UPDATE headrace_lease SET position = {quoted(position)} WHERE {_lease(lease)}"
        return Step(_advance, values, script=script)

    def admit(
        self, lease: Lease, group: str, ids: Sequence[Id], keys: Sequence[Key]
    ) -> Sequence[Step]:
        """See `Statements.admit`."""
        values = {
            "i_group": group,
            "sources": [source for source, _ in ids],
            "ids": [id_ for _, id_ in ids],
            **_keys(lease, keys),
        }
        return [Step(_admit, values)]

    def holds(self, lease: Lease, keys: Sequence[Key]) -> Sequence[Step]:
        """See `Statements.holds`."""
        return [Step(_holds, _keys(lease, keys))]

    def admitted(
        self, ids: Sequence[Id], keys: Sequence[Key], found: Sequence[Outcome]
    ) -> tuple[Collection[Id], Collection[Key]]:
        """See `Statements.admitted`."""
        return pairs(found[0], 1), pairs(found[0], 2)

    def held(self, keys: Sequence[Key], found: Sequence[Outcome]) -> Collection[Key]:
        """See `Statements.held`."""
        return pairs(found[0], 2)

    def enqueue(self, rows: Sequence[Values]) -> Step:
        """See `Statements.enqueue`."""
        if len(rows) == 1:
            (row,) = rows
            script, kept = _enqueue_scripts(row)
            return Step(outbox.enqueue, row, script=script, kept=kept)
        return Step(_enqueue, {name: [row[name] for row in rows] for name in _ENQUEUED})

    def append(self, reserve: Sequence[Values], rows: Sequence[Values]) -> Sequence[Step]:
        """See `Statements.append`."""
        places = {(one["t"], one["p"]): place for place, one in enumerate(reserve, 1)}
        values: dict[str, object] = {name: [one[name] for one in reserve] for name in _RESERVED}
        values["place"] = [places[row["v_topic"], row["p"]] for row in rows]
        values.update({name: [row[name] for row in rows] for name in _APPENDED})
        return (Step(_append, values),)

    def delete(self, positions: Sequence[int]) -> Step:
        """See `Statements.delete`."""
        return Step(_delete, {"positions": list(positions)})


def _keys(lease: Lease, keys: Sequence[Key]) -> dict[str, object]:
    return {
        "l_queue": lease.queue,
        "topics": [topic for topic, _ in keys],
        "keys": [key for _, key in keys],
    }


def _lease(lease: Lease) -> str:
    return f"queue = {quoted(lease.queue)} AND partition = {lease.partition:d} AND token = {lease.token:d}"


def _enqueue_scripts(row: Values) -> tuple[str | None, str | None]:
    """One small message as a text that travels with COMMIT: the usual notification costs no round trip of its own."""
    envelope, body = cast("bytes", row["v_envelope"]), cast("bytes", row["v_body"])
    queue, topic = cast("str", row["v_queue"]), cast("str", row["v_topic"])
    key = cast("str | None", row["v_key"])
    # PostgreSQL takes no NUL in a text; as a parameter it is refused with an error that says so.
    if len(envelope) + len(body) > SMALL_BYTES or "\0" in f"{queue}{topic}{key}":
        return None, None
    values = (
        f"{quoted(queue)}, {quoted(topic)}, {'NULL' if key is None else quoted(key)},"
        f" E'\\\\x{envelope.hex()}', E'\\\\x{body.hex()}', {row['v_partition']:d}, {row['v_head']:d}"
    )
    return enqueue_text(values), enqueue_kept(values)


def quoted(value: str) -> str:
    """A text as a literal that is safe whatever `standard_conforming_strings` is."""
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"
