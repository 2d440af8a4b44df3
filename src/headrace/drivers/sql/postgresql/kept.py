"""The statement that a connection to PostgreSQL keeps ready: the usual notification is not parsed and planned for each send.

To parse and plan an INSERT takes the server longer than to execute it. A statement that the driver prepares would cost a
round trip of its own; one that is kept under a name travels in the text that ends with COMMIT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_NAME: Final = "headrace_enqueue"
_NOW: Final = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)"
_INSERT: Final = (
    "INSERT INTO headrace_queue"
    " (queue, topic, key, envelope, body, partition, head, state, attempts, created_at_ms)"
)

PREPARE: Final = (
    f"PREPARE {_NAME} (text, text, text, bytea, bytea, integer, smallint) AS"
    f" {_INSERT} VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, {_NOW})"
)
"""Once on each connection, outside a transaction: an error would end it."""


def enqueue_text(values: str) -> str:
    """The statement as every connection understands it.

    Args:
        values: the literals, with commas between them.
    """
    return f"{_INSERT} VALUES ({values}, 0, 0, {_NOW})"


def enqueue_kept(values: str) -> str:
    """The same where it is kept ready."""
    return f"EXECUTE {_NAME} ({values})"


@dataclass(slots=True)
class Kept:
    """What is known of one connection.

    Args:
        wanted: it has enqueued something before, so that keeping the statement is worth the two round trips.
        ready: the statement is kept; None as long as nobody has tried.
    """

    wanted: bool = False
    ready: bool | None = None
