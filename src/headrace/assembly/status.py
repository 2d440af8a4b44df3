"""What an app tells of itself: what its process does, and what waits in storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from headrace.assembly.deliveries import AfterCommitStatus
from headrace.assembly.ownership import Ownership
from headrace.storage import Backlog

if TYPE_CHECKING:
    from headrace.consumer import ConsumerStatus
    from headrace.relay import RelayStatus


class GroupStatus(Struct, frozen=True):
    """How far a group is in one topic, whichever process works it.

    Args:
        group: the group.
        topic: the topic.
        behind: how many messages of the topic it has still to read, as well as the broker can tell; None if the broker cannot be
            asked from this process.
        backlog: what is stored for it: messages that wait for a retry, that are held behind another, or dead.
    """

    group: str
    topic: str
    behind: int | None
    backlog: Backlog


class AppStatus(Struct, frozen=True):
    """What an app's process does now, and what waits to be published.

    Args:
        relay: None in a process that does not relay.
        consumers: one for each subscription that this process consumes.
        outbox: the size of the outbox and the age of its oldest message; None without a storage.
        ownership: who works the partitions of the outbox, of each group and of after-commit handlers, in all processes;
            empty without a storage.
        ownerless: those that nobody has worked for longer than a takeover takes, by queue: something is wrong.
        after_commit: what waits for after-commit handlers; None in an app without such handlers, or without a storage.
        groups: how far each group is in each of its topics, in all processes. Empty without a broker; without a storage only
            a process that consumes can tell.
        broker_error: why the broker could not be asked how far groups are; None if it could. A process that only sends has not
            connected it.
    """

    relay: RelayStatus | None
    consumers: tuple[ConsumerStatus, ...]
    outbox: Backlog | None
    after_commit: AfterCommitStatus | None = None
    ownership: tuple[Ownership, ...] = ()
    ownerless: Mapping[str, tuple[int, ...]] = {}
    groups: tuple[GroupStatus, ...] = ()
    broker_error: str | None = None
