"""What storage keeps, as data: messages of queues and their states, leases, backlogs."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from headrace.envelope import Message


class State(enum.IntEnum):
    """Where a stored message stands in its queue."""

    READY = 0
    """May run as soon as no earlier message of its key is in the way."""
    WAITING = 1
    """May run once `due_at` has passed; later messages of its key wait behind it."""
    HELD = 2
    """Waits behind an earlier message of its key; runs when it has become the first of its key."""
    DEAD = 3
    """A dead letter: runs only after a redrive; later messages of its key wait behind it."""


class Verdict(enum.Enum):
    """What a consumer is to do with a message that it wants to handle."""

    NEW = "new"
    DUPLICATE = "duplicate"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work one partition of a queue until `deadline`.

    Args:
        queue: the queue's name, see `outbox_queue`, `group_queue` and `after_queue`.
        partition: from 0.
        token: grows at every acquisition by whomever; never reused. Guards every write (`Transaction.admit`).
        owner: the process that holds it.
        deadline: on this process's `leases.clock()` in seconds; taken before the storage was asked, so it never lies late.
        position: the last position of a log that this group finished in this partition; None at the start of the log.
        unclean: True if the previous owner did not release it (it died or hung), so its last message may be half tried.
        taken_from: who that was; None unless `unclean`.
        seconds: how long it lasts without a sign of life; on a server a transaction under it may be idle for no longer.
            Default 15, that of `Limits.lease_seconds`.
    """

    queue: str
    partition: int
    token: int
    owner: str
    deadline: float
    position: str | None = None
    unclean: bool = False
    taken_from: str | None = None
    seconds: float = 15.0


class LeaseGrant(Struct, frozen=True):
    """What `Storage.lease` answers: what the owner holds now, and which of these it should give back for fairness."""

    held: tuple[Lease, ...]
    surplus: tuple[Lease, ...] = ()


class Owner(Struct, frozen=True):
    """Who was last given a partition and has not given it back.

    Args:
        name: the process.
        expires_seconds: until its lease ends, by the storage's clock. Zero or less: it gave no sign of life for so long
            that anybody may take the partition, and nobody has.
    """

    name: str
    expires_seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message was parked: kept in storage for people, never unpickled.

    Args:
        error: the qualified name of the exception type, for grouping, cut at 200 characters.
        message: `str(exception)`, cut at 2 000 characters.
        traceback: as printed, cut at 20 000 characters.
    """

    error: str
    message: str
    traceback: str = ""


class Stored(Struct, frozen=True):
    """One message of a queue as storage keeps it.

    Args:
        position: its number in storage; grows in commit order per key, is never reused, identifies the row.
        queue: the queue that it is in.
        partition: the partition of that queue.
        message: topic, key, envelope and body, byte for byte as they were enqueued.
        state: see `State`.
        attempts: how often handling was begun (parked messages) or refused (outbox).
        due_at: UTC seconds since the epoch by the storage's clock; None unless WAITING.
        failure: the last error, if any.
        stored_at: when the row was first stored, in UTC seconds since the epoch by the storage's clock; None if it was not yet.
    """

    position: int
    queue: str
    partition: int
    message: Message
    state: State = State.READY
    attempts: int = 0
    due_at: float | None = None
    failure: Failure | None = None
    stored_at: float | None = None


class Backlog(Struct, frozen=True):
    """The size of one queue. `oldest_seconds` is the age of the oldest message that is not dead; 0.0 if there is none."""

    ready: int = 0
    waiting: int = 0
    held: int = 0
    dead: int = 0
    oldest_seconds: float = 0.0


class DeadErrors(Struct, frozen=True):
    """Dead letters that failed alike: of one queue, one topic and one type of error.

    Args:
        queue: where they stand.
        topic: of all of them.
        error: the qualified name of the exception type; empty if none was recorded.
        count: how many there are.
        first_position: of the oldest.
        last_position: of the newest.
        sample: the message of the newest one's error; empty if none was recorded.
    """

    queue: str
    topic: str
    error: str
    count: int
    first_position: int
    last_position: int
    sample: str


class Handled(Struct, frozen=True):
    """What the inbox remembers: a group has handled, or parked, a message.

    Args:
        group: who.
        source: of the message.
        id: of the message.
        at: when, in UTC seconds since the epoch by the storage's clock.
    """

    group: str
    source: str
    id: str
    at: float


class Pulse(Struct, frozen=True):
    """What a process has last said of itself.

    Args:
        process: its name, unique in the app.
        data: what it said, byte for byte.
        age_seconds: since it said so, by the storage's clock.
    """

    process: str
    data: bytes
    age_seconds: float


class AuditNote(Struct, frozen=True):
    """What is to be recorded of a change that a person makes, in the transaction that makes it.

    Args:
        app: in whose records.
        who: the person, as the caller knows them. May be empty where nobody has logged in.
        action: what was done, a word such as "redrive"; at most 200 characters.
        detail: to what and why, in words for people.
    """

    app: str
    who: str
    action: str
    detail: str


class Audit(Struct, frozen=True):
    """A change that a person made, as it was recorded.

    Args:
        number: grows with each record and is never reused.
        at: when, in UTC seconds since the epoch by the storage's clock.
        who: see `AuditNote`.
        action: see `AuditNote`.
        detail: see `AuditNote`.
    """

    number: int
    at: float
    who: str
    action: str
    detail: str


def outbox_queue(app: str) -> str:
    """The name of an app's outbox."""
    return f"outbox:{app}"


AFTER_COMMIT = "after-commit"
"""What stands for the topic of durable after-commit deliveries, in telemetry: theirs are the names of handlers."""


def after_queue(app: str) -> str:
    """The name of the queue of an app's durable after-commit deliveries."""
    return f"after:{app}"


def group_queue(group: str, topic: str) -> str:
    """The name of the queue (and of the leases) of one group's work on one topic."""
    return f"group:{group}/{topic}"
