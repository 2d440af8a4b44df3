"""What is known of one message or key, as plain data: for the terminal, for the dashboard, and for JSON."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from headrace.envelope import Envelope
from headrace.stored import Failure

Where = Literal[
    "ready",
    "waiting",
    "held",
    "dead",
    "published",
    "handled",
    "unpublished",
    "unread",
    "skipped",
    "passed",
    "unknown",
]
"""Where a message stands with whoever is to work it.

| word | in an outbox | in a group, or with an after-commit handler |
| --- | --- | --- |
| ready | waits for the relay | waits for its turn |
| waiting | - | waits for a time, until its next attempt |
| held | waits behind an earlier message of its key | the same |
| dead | a dead letter | a dead letter |
| published | the broker has confirmed it | - |
| handled | - | its effects are committed |
| unpublished | - | it is still in the outbox |
| unread | - | the group has not come so far |
| skipped | - | the group has no handler for its type |
| passed | - | the group is past it, and its inbox has no record, or no record any more |
| unknown | nothing tells | nothing tells; `why` says what is missing |
"""


class Standing(Struct, frozen=True, kw_only=True):
    """A message and one queue: the outbox, a group's work on a topic, or the work of after-commit handlers.

    Args:
        queue: `outbox:<app>`, `group:<group>/<topic>` or `after:<app>`.
        where: see `Where`.
        why: one sentence for people.
        id: of the message.
        type: of the message; empty if it is not known.
        group: the group, or None.
        handler: the after-commit handler, or None.
        partition: of the queue; None if it is not known.
        owner: the process that works this partition now; None if nobody does, or if it matters no more.
        position: its number in storage, which `dead_letters` takes; None if it is not stored here.
        attempts: how often it was tried and failed here.
        since: when it was stored here, or handled; UTC seconds since the epoch by the storage's clock, or None.
        due_at: when it is tried again, if it waits for a time; as `since`.
        failure: the last error, if any.
        blocked_by: the position of the first message of its key here, if it waits behind that one.
        behind: how many messages of its key wait behind it here.
    """

    queue: str
    where: Where
    why: str
    id: str
    type: str = ""
    group: str | None = None
    handler: str | None = None
    partition: int | None = None
    owner: str | None = None
    position: int | None = None
    attempts: int = 0
    since: float | None = None
    due_at: float | None = None
    failure: Failure | None = None
    blocked_by: int | None = None
    behind: int = 0


class Relative(Struct, frozen=True, kw_only=True):
    """A message that caused another one, or that was caused by it.

    Args:
        id: of it.
        type: of it; empty if nothing but the id is known.
        topic: of it; None if nothing but the id is known.
        time: as its envelope has it; empty if it is not known.
        where: in which queue or log it was found; empty if it was not.
        note: what is to be said of it, such as why nothing more is known; or empty.
    """

    id: str
    type: str = ""
    topic: str | None = None
    time: str = ""
    where: str = ""
    note: str = ""


class LogPlace(Struct, frozen=True, kw_only=True):
    """A message in a topic of a broker whose log can be searched.

    Args:
        topic: the topic.
        partition: of the topic.
        position: in the partition.
        id: of the message.
        type: of the message.
        time: as its envelope has it.
    """

    topic: str
    partition: int
    position: str
    id: str
    type: str
    time: str


class MessageLife(Struct, frozen=True, kw_only=True):
    """What is known of one message.

    Args:
        id: its id.
        source: the app that raised it, or empty if not even that is known.
        envelope: its attributes; None if it is stored nowhere any more.
        topic: where it went; None if it is not known.
        key: its key; None if it has no order, or if the key is not known.
        data: its body, byte for byte; None as for `envelope`.
        causes: what caused it, nearest first, as far as that is known.
        effects: the messages that it caused, as far as they are still somewhere.
        related: other messages that the same outside request caused: they have the same `correlationid`.
        sent: its way through the outbox; None if it never goes to a broker.
        log: where it is in the broker's topic; None if the broker cannot be searched, or has it no more.
        groups: what became of it in each group that reads its topic.
        handlers: what became of it with each after-commit handler.
    """

    id: str
    source: str = ""
    envelope: Envelope | None = None
    topic: str | None = None
    key: str | None = None
    data: bytes | None = None
    causes: tuple[Relative, ...] = ()
    effects: tuple[Relative, ...] = ()
    related: tuple[Relative, ...] = ()
    sent: Standing | None = None
    log: LogPlace | None = None
    groups: tuple[Standing, ...] = ()
    handlers: tuple[Standing, ...] = ()


class KeyQueue(Struct, frozen=True, kw_only=True):
    """One key in one queue.

    Args:
        queue: as in `Standing`.
        group: the group, or None for an outbox.
        partition: that the key belongs to; None if the broker could not be asked.
        owner: the process that works it now, or None.
        blocked_by: the position of the message that everything else of the key waits for; None if nothing waits.
        why: one sentence for people.
        unread: how many messages of the whole partition the group has still to read; None if it is not known.
        messages: every stored message of the key, in order.
    """

    queue: str
    group: str | None
    partition: int | None
    owner: str | None
    blocked_by: int | None
    why: str
    unread: int | None = None
    messages: tuple[Standing, ...] = ()


class KeyLife(Struct, frozen=True, kw_only=True):
    """What is known of one key of one topic.

    Args:
        topic: the topic.
        key: the key.
        queues: the outbox and each group that reads the topic.
        log: the messages of the key that the broker's topic still has, in order, the latest of them; empty also if the
            broker cannot be searched.
    """

    topic: str
    key: str
    queues: tuple[KeyQueue, ...]
    log: tuple[LogPlace, ...] = ()


class Explanation(Struct, frozen=True, kw_only=True):
    """The answer of `explain`.

    Args:
        asked: the id or key that was asked for.
        app: the app that was asked.
        at: when; UTC seconds since the epoch by this process's clock.
        messages: the messages of this id; more than one only if several apps gave the same id.
        keys: the key in each topic, if what was asked for is no id that is known.
        notes: what could not be looked at, and why; each a sentence.
    """

    asked: str
    app: str
    at: float
    messages: tuple[MessageLife, ...] = ()
    keys: tuple[KeyLife, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """True if anything is stored, logged or recorded of what was asked for."""
        return bool(self.messages) or any(
            key.log or any(queue.messages for queue in key.queues) for key in self.keys
        )
