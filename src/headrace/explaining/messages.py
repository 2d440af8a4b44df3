"""The life of a message, put together from all that is still known of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from headrace.explaining.facts import MOST_STORED
from headrace.explaining.life import LogPlace, MessageLife, Relative, Standing
from headrace.explaining.standings import absent_standing, handled_standing, stored_standing
from headrace.storage import Handled, Stored, outbox_queue

if TYPE_CHECKING:
    from headrace.broker import Received
    from headrace.envelope import Envelope, Message
    from headrace.explaining.facts import Facts

_LONGEST_CHAIN = 10
_OUTBOX, _AFTER, _GROUP = "outbox:", "after:", "group:"


async def lives_of_message(facts: Facts, asked: str, topic: str | None) -> tuple[MessageLife, ...]:
    """What is known of the messages of an id, by source; empty if nothing is."""
    stored = [
        one
        for one in await facts.storage.find(id=asked, limit=MOST_STORED)
        if topic in (None, one.message.topic)
    ]
    topics = (topic,) if topic is not None else facts.topics
    logged = [one for name in topics for one in await facts.logged(name, id=asked)]
    sources = {one.message.envelope.source for one in stored}
    sources |= {one.message.envelope.source for one in logged}
    handled = await _handled(facts, asked, sources)
    sources |= {one.source for one in handled}
    return tuple(
        [
            await _life(
                facts,
                asked,
                source,
                [one for one in stored if one.message.envelope.source == source],
                [one for one in logged if one.message.envelope.source == source],
                [one for one in handled if one.source == source],
            )
            for source in sorted(sources)
        ]
    )


async def _handled(facts: Facts, asked: str, sources: Iterable[str]) -> Sequence[Handled]:
    groups = [group.name for group in facts.description.groups]
    found = await facts.storage.handled(asked, groups=groups, sources=[*sources] or [facts.app])
    # Nothing is known of it: then its source is not known either, and the whole inbox is to be read.
    return found or (() if sources else await facts.storage.handled(asked))


async def _life(
    facts: Facts,
    asked: str,
    source: str,
    stored: Sequence[Stored],
    logged: Sequence[Received],
    handled: Sequence[Handled],
) -> MessageLife:
    flowing = [one for one in stored if not one.queue.startswith(_AFTER)]
    message = _first_message(flowing, logged, stored)
    topic = message.topic if message is not None and (flowing or logged) else None
    log = log_place(logged[0]) if logged else None
    standings = {one.position: await stored_standing(facts, one) for one in stored}
    key = _key(message) if topic is not None else None
    life = MessageLife(
        id=asked,
        source=source,
        envelope=message.envelope if message is not None else None,
        topic=topic,
        key=key,
        data=message.data if message is not None else None,
        log=log,
        handlers=tuple(standings[one.position] for one in stored if one.queue.startswith(_AFTER)),
    )
    if message is None:
        facts.notes[
            "The message itself is stored nowhere any more: only inboxes remember its id, so its type, topic, key and cause are "
            "not known."
        ] = None
        groups = tuple(handled_standing(one, "", "") for one in handled)
        return _with(life, groups=groups, sent=_published(facts, asked, source))
    if topic is not None:
        outbox = [standings[s.position] for s in flowing if s.queue.startswith(_OUTBOX)]
        parked = [standings[s.position] for s in flowing if s.queue.startswith(_GROUP)]
        groups = await _groups(facts, message, topic, key, parked, handled, log, bool(outbox))
        sent = outbox[0] if outbox else _published(facts, asked, source, message.envelope.type)
        life = _with(life, groups=groups, sent=sent)
    causes = await _causes(facts, message.envelope)
    effects, related = await _relatives(facts, message.envelope, {one.id for one in causes})
    return _with(life, causes=causes, effects=effects, related=related)


async def _groups(
    facts: Facts,
    message: Message,
    topic: str,
    key: str | None,
    parked: Sequence[Standing],
    handled: Sequence[Handled],
    log: LogPlace | None,
    in_outbox: bool,
) -> tuple[Standing, ...]:
    """Each group of the app that reads the topic, and others in the same storage that know the message."""
    envelope = message.envelope
    found = {one.group or "": one for one in parked}
    for one in handled:
        found.setdefault(one.group, handled_standing(one, topic, envelope.type))
    for group in facts.groups_of(topic):
        if group not in found:
            found[group] = await absent_standing(
                *(facts, group, topic),
                id=envelope.id,
                type=envelope.type,
                key=key,
                in_outbox=in_outbox,
                log=log,
            )
    return tuple(found[name] for name in sorted(found))


def _published(facts: Facts, asked: str, source: str, kind: str = "") -> Standing | None:
    """Its outbox row is gone, and it is known elsewhere: so it was published."""
    if source != facts.app:
        return None
    why = "the broker has confirmed it, and the outbox has forgotten it"
    return Standing(queue=outbox_queue(facts.app), where="published", why=why, id=asked, type=kind)


async def _causes(facts: Facts, envelope: Envelope) -> tuple[Relative, ...]:
    found: list[Relative] = []
    seen = {envelope.id}
    current: Envelope | None = envelope
    while current is not None and current.causationid is not None:
        cause = current.causationid
        if cause in seen or len(found) >= _LONGEST_CHAIN:
            break
        seen.add(cause)
        begins = cause == current.correlationid
        relative, current = await _cause(facts, cause, begins=begins)
        found.append(relative)
    return tuple(found)


async def _cause(facts: Facts, cause: str, *, begins: bool) -> tuple[Relative, Envelope | None]:
    for stored in await facts.storage.find(id=cause, limit=1):
        return _relative(stored.message, stored.queue), stored.message.envelope
    for topic in facts.topics:
        for received in await facts.logged(topic, id=cause):
            return _relative(received.message, _log_name(received)), received.message.envelope
    groups = [group.name for group in facts.description.groups]
    handled = await facts.storage.handled(cause, groups=groups, sources=[facts.app])
    if handled:
        names = ", ".join(repr(one.group) for one in handled)
        note = f"a message that group {names} has handled; it is stored nowhere any more"
        return Relative(id=cause, note=note), None
    note = (
        "the request that began it all; requests are not stored"
        if begins
        else "a request or a domain event, which are not stored, or a message that is gone"
    )
    return Relative(id=cause, note=note), None


async def _relatives(
    facts: Facts, envelope: Envelope, causes: set[str]
) -> tuple[tuple[Relative, ...], tuple[Relative, ...]]:
    """What it caused, and what else the same request caused."""
    # What a message causes has its id as correlation id, if it has none itself.
    correlation = envelope.correlationid or envelope.id
    stored = await facts.storage.find(correlation=correlation, limit=MOST_STORED)
    if len(stored) == MOST_STORED:
        facts.notes[
            f"More than {MOST_STORED} messages of the same request are stored; the first of them are shown."
        ] = None
    found: dict[str, tuple[Envelope, Relative]] = {}
    for one in stored:
        own = one.message.envelope
        if not one.queue.startswith(_AFTER):
            found.setdefault(own.id, (own, _relative(one.message, one.queue)))
    for topic in facts.topics:
        for received in await facts.logged(topic, correlation=correlation):
            own = received.message.envelope
            relative = _relative(received.message, _log_name(received))
            found.setdefault(own.id, (own, relative))
    known = {envelope.id, *causes}
    kin = sorted((one for id_, one in found.items() if id_ not in known), key=lambda k: k[0].id)
    effects = tuple(relative for own, relative in kin if own.causationid == envelope.id)
    others = tuple(relative for own, relative in kin if own.causationid != envelope.id)
    return effects, others


def log_place(received: Received) -> LogPlace:
    """Where a message that was read from a topic is."""
    envelope = received.message.envelope
    return LogPlace(
        topic=received.message.topic,
        partition=received.partition,
        position=received.position,
        id=envelope.id,
        type=envelope.type,
        time=envelope.time,
    )


def _first_message(
    flowing: Sequence[Stored], logged: Sequence[Received], stored: Sequence[Stored]
) -> Message | None:
    messages = [one.message for one in flowing]
    messages += [one.message for one in logged]
    messages += [one.message for one in stored]
    return messages[0] if messages else None


def _relative(message: Message, where: str) -> Relative:
    envelope = message.envelope
    return Relative(
        id=envelope.id, type=envelope.type, topic=message.topic, time=envelope.time, where=where
    )


def _log_name(received: Received) -> str:
    return f"topic:{received.message.topic}/{received.partition}/{received.position}"


def _key(message: Message | None) -> str | None:
    if message is None:
        return None
    return message.key if message.key is not None else message.envelope.partitionkey


def _with(life: MessageLife, **changes: object) -> MessageLife:
    return replace(life, **changes)
