"""The life of a key: everything of it that is stored, in order, and who works it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.assembly.parts import OUTBOX_PARTITIONS
from headrace.broker import stable_hash
from headrace.explaining.life import KeyLife, KeyQueue
from headrace.explaining.messages import log_place
from headrace.explaining.standings import stored_standing
from headrace.storage import State, Stored, group_queue, outbox_queue

if TYPE_CHECKING:
    from headrace.explaining.facts import Facts

MOST_OF_KEY = 200
"""Stored messages of a key that are looked at: bodies may be large. How many wait is counted, however many there are."""

SHOWN = 50
"""Of these, how many of one queue are explained one by one."""


async def lives_of_key(facts: Facts, key: str, topic: str | None) -> tuple[KeyLife, ...]:
    """What is known of a key in each topic that has it; in every keyed topic of the app if none has."""
    stored = await facts.storage.find(key=key, topic=topic, limit=MOST_OF_KEY)
    if len(stored) == MOST_OF_KEY:
        facts.notes[
            f"More than {MOST_OF_KEY} messages of this key are stored; the first of them are shown."
        ] = None
    asked = (topic,) if topic is not None else facts.topics
    logs = {name: await facts.logged(name, key=key) for name in asked}
    topics = {one.message.topic: None for one in stored}
    topics |= {name: None for name, found in logs.items() if found}
    if not topics:
        keyed = {m.topic for m in facts.description.messages if m.key is not None}
        topics = {name: None for name in asked if topic is not None or name in keyed}
    return tuple(
        [
            KeyLife(
                topic=name,
                key=key,
                queues=await _queues(
                    facts, key, name, [one for one in stored if one.message.topic == name]
                ),
                log=tuple(log_place(one) for one in logs.get(name, ())),
            )
            for name in topics
        ]
    )


async def _queues(
    facts: Facts, key: str, topic: str, stored: Sequence[Stored]
) -> tuple[KeyQueue, ...]:
    outbox = outbox_queue(facts.app)
    wanted: dict[str, str | None] = {outbox: None}
    wanted |= {group_queue(group, topic): group for group in facts.groups_of(topic)}
    for one in stored:
        group = one.queue.partition(":")[2].removesuffix(f"/{topic}")
        wanted.setdefault(one.queue, group if one.queue.startswith("group:") else None)
    return tuple(
        [
            await _queue(facts, key, topic, name, group, [s for s in stored if s.queue == name])
            for name, group in wanted.items()
        ]
    )


async def _queue(
    facts: Facts,
    key: str,
    topic: str,
    queue: str,
    group: str | None,
    stored: Sequence[Stored],
) -> KeyQueue:
    if group is None:
        partition: int | None = stable_hash(key) % OUTBOX_PARTITIONS
    else:
        count = await facts.partitions(topic)
        partition = None if count is None else stable_hash(key) % count
    if stored:
        partition = stored[0].partition
    owner = await facts.owner(queue, partition) if partition is not None else None
    unread = None
    if group is not None and partition is not None:
        unread = await facts.unread(group, topic, partition)
    first = stored[0] if stored else None
    standings = [await stored_standing(facts, one, first) for one in stored[:SHOWN]]
    count = 1 + standings[0].behind if standings else 0
    return KeyQueue(
        queue=queue,
        group=group,
        partition=partition,
        owner=owner,
        blocked_by=first.position if first is not None and _stops(first, group) else None,
        why=_why(first, count, group, partition, owner, unread),
        unread=unread,
        messages=tuple(standings),
    )


def _stops(first: Stored, group: str | None) -> bool:
    return first.state is State.DEAD or (group is not None and first.state is State.WAITING)


def _why(
    first: Stored | None,
    count: int,
    group: str | None,
    partition: int | None,
    owner: str | None,
    unread: int | None,
) -> str:
    role = "relay" if group is None else "consume"
    idle = (
        f"; nobody works partition {partition}: start a process with the role {role!r}"
        if owner is None and partition is not None and (count or unread)
        else ""
    )
    if first is None:
        what = "nothing of it waits here" if group is None else "nothing of it is parked"
        if unread:
            what += f"; the group has {unread} messages of the partition still to read"
        return what + idle
    behind = f", and {count - 1} more wait behind it" if count > 1 else ""
    if first.state is State.DEAD:
        return f"stopped by the dead letter at position {first.position}{behind}{idle}"
    if first.state is State.WAITING:
        return f"the message at position {first.position} waits for its next attempt{behind}{idle}"
    what = "waits for the relay" if group is None else "waits for its turn"
    return f"the message at position {first.position} {what}{behind}{idle}"
