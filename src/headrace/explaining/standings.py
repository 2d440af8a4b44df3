"""Where a message stands in one queue, and the sentence that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.broker import stable_hash
from headrace.explaining.life import LogPlace, Standing, Where
from headrace.storage import State, Stored, group_queue

if TYPE_CHECKING:
    from headrace.explaining.facts import Facts
    from headrace.storage import Handled

_STATES: dict[State, Where] = {
    State.READY: "ready",
    State.WAITING: "waiting",
    State.HELD: "held",
    State.DEAD: "dead",
}


async def stored_standing(facts: Facts, stored: Stored, head: Stored | None = None) -> Standing:
    """Of a message that is in storage; `head`: the first of its key there, if that is known."""
    kind, _, name = stored.queue.partition(":")
    head = head or await facts.head(stored)
    blocked = head if head.position < stored.position else None
    where = _STATES[stored.state]
    if where == "ready" and blocked is not None and (kind != "outbox" or _is_dead(blocked)):
        where = "held"
    owner = await facts.owner(stored.queue, stored.partition)
    return Standing(
        queue=stored.queue,
        where=where,
        why=_why(kind, where, stored, blocked, owner),
        id=stored.message.envelope.id,
        type=stored.message.envelope.type,
        group=name.removesuffix(f"/{stored.message.topic}") if kind == "group" else None,
        handler=stored.message.topic if kind == "after" else None,
        partition=stored.partition,
        owner=owner,
        position=stored.position,
        attempts=stored.attempts,
        since=stored.stored_at,
        due_at=stored.due_at,
        failure=stored.failure,
        blocked_by=blocked.position if blocked is not None and where == "held" else None,
        behind=await facts.storage.behind(stored.position),
    )


def _why(kind: str, where: Where, stored: Stored, blocked: Stored | None, owner: str | None) -> str:
    tried = f"it was tried {times(stored.attempts)}"
    if where == "dead":
        if kind == "outbox":
            return "a dead letter: the broker does not take it. Redrive it, edit it, or drop it"
        return (
            f"a dead letter: {tried}, and nobody tries it any more. Redrive it, edit it, or drop it"
        )
    if where == "held" and blocked is not None:
        what = "the dead letter" if _is_dead(blocked) else "the message"
        return f"waits behind {what} at position {blocked.position}, which is the first of its key"
    worker = "the relay" if kind == "outbox" else "its turn"
    role = "relay" if kind == "outbox" else "consume"
    if owner is None:
        return f"waits, and nobody works partition {stored.partition}: start a process with the role {role!r}"
    if where == "waiting":
        return f"{tried}, and is tried again when it is due"
    if kind == "outbox" and blocked is not None:
        return f"waits for the relay, behind the message at position {blocked.position} of its key"
    return f"waits for {worker}" if not stored.attempts else f"waits for {worker}; {tried}"


def handled_standing(handled: Handled, topic: str, type: str) -> Standing:  # noqa: A002
    """Of a message that a group's inbox has, and that is not parked."""
    return Standing(
        queue=group_queue(handled.group, topic),
        where="handled",
        why="its effects are committed",
        id=handled.id,
        type=type,
        group=handled.group,
        since=handled.at,
    )


async def absent_standing(
    facts: Facts,
    group: str,
    topic: str,
    *,
    id: str,  # noqa: A002
    type: str,  # noqa: A002
    key: str | None,
    in_outbox: bool,
    log: LogPlace | None,
) -> Standing:
    """Of a message of which a group has neither a parked row nor a record in its inbox."""
    queue = group_queue(group, topic)
    partition = log.partition if log is not None else await _partition(facts, topic, key, id)
    owner = await facts.owner(queue, partition) if partition is not None else None

    def made(where: Where, why: str) -> Standing:
        is_coming = where in ("unread", "unpublished")
        return Standing(
            queue=queue,
            where=where,
            why=why,
            id=id,
            type=type,
            group=group,
            partition=partition,
            owner=owner if is_coming else None,
        )

    if in_outbox:
        return made("unpublished", "it is still in the outbox")
    if not facts.handles(group, type):
        return made("skipped", f"the group has no handler for {type}: it passes over such messages")
    if partition is None:
        return made("unknown", "the broker could not be asked how far the group is")
    nobody = (
        "" if owner is not None else "; nobody reads it: start a process with the role 'consume'"
    )
    passed = "the group is past it, and has no record of it any more: its inbox forgets with time"
    if log is not None:
        finished = await facts.finished(group, topic, partition)
        if finished is not None and finished.isdecimal() and int(finished) >= int(log.position):
            return made("passed", passed)
        before = (
            int(log.position) - int(finished) - 1 if finished and finished.isdecimal() else None
        )
        count = f": {before} others come before it" if before else ""
        return made(
            "unread", f"the group has not come so far in partition {partition}{count}{nobody}"
        )
    left = await facts.unread(group, topic, partition)
    if left is None:
        return made("unknown", "the broker could not be asked how far the group is")
    if left == 0:
        return made("passed", passed)
    return made(
        "unread",
        f"the group has {left} messages of partition {partition} still to read, and it is surely one of them, unless it was "
        f"forgotten{nobody}",
    )


async def _partition(facts: Facts, topic: str, key: str | None, id: str) -> int | None:  # noqa: A002
    count = await facts.partitions(topic)
    return None if count is None else stable_hash(key if key is not None else id) % count


def times(count: int) -> str:
    """A number of times in words."""
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _is_dead(stored: Stored) -> bool:
    return stored.state is State.DEAD
