"""The status of an app: what its process does, what is stored, how far each group is; and how that is found out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from headrace.assembly.deliveries import AfterCommitStatus
from headrace.assembly.ownership import Ownership
from headrace.broker import Broker, Reading
from headrace.errors import TopicNotFound
from headrace.storage import Backlog, Storage, group_queue, outbox_queue

if TYPE_CHECKING:
    from headrace.assembly.parts import Parts
    from headrace.consumer import ConsumerStatus
    from headrace.relay import RelayStatus

ASK_SECONDS = 2.0
"""How long brokers may take to answer for all groups: a status is for people who wait, and for probes."""


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


async def status_of(parts: Parts) -> AppStatus:
    """What runs in this process and what waits, for whichever process.

    It needs the storage alone: a process that has connected nothing else, and one that works nothing, can tell what is stored.
    """
    storage, deliveries, watch = parts.storage, parts.deliveries, parts.watch
    groups: tuple[GroupStatus, ...] = ()
    broker_error: str | None = None
    # Without a storage nobody but the consumers of this process knows how far they are.
    if parts.broker is not None and (storage is not None or parts.consumers):
        groups, broker_error = await group_statuses(
            parts.bookkeeping, parts.broker, parts.readings()
        )
    return AppStatus(
        relay=parts.relay.status if parts.relay is not None else None,
        consumers=tuple(consumer.status for consumer in parts.consumers),
        outbox=await storage.backlog(outbox_queue(parts.settings.name)) if storage else None,
        after_commit=await deliveries.status() if deliveries is not None else None,
        ownership=await watch.now() if watch is not None else (),
        ownerless=watch.ownerless if watch is not None else {},
        groups=groups,
        broker_error=broker_error,
    )


async def group_statuses(
    storage: Storage, broker: Broker, readings: Iterable[Reading]
) -> tuple[tuple[GroupStatus, ...], str | None]:
    """What waits for each group, by topic, and why the broker could not say how far it is; None if it could.

    Costs three queries of the storage for each group and topic, one after another, and a question to the broker, all at once.
    """
    stored = [(one, await _stored(storage, one)) for one in readings]
    asked = await asyncio.gather(
        *(_behind(broker, one, positions) for one, (_, positions) in stored)
    )
    found = tuple(
        GroupStatus(
            group=one.group,
            topic=one.topic,
            behind=behind if isinstance(behind, int) else None,
            backlog=backlog,
        )
        for (one, (backlog, _)), behind in zip(stored, asked, strict=True)
    )
    return found, next((each for each in asked if isinstance(each, str)), None)


async def _stored(storage: Storage, one: Reading) -> tuple[Backlog, Mapping[int, str]]:
    queue = group_queue(one.group, one.topic)
    return await storage.backlog(queue), await storage.positions(queue)


async def _behind(broker: Broker, one: Reading, positions: Mapping[int, str]) -> int | str:
    """How many messages the group has still to read, or why that cannot be told."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            partitions = range(await broker.partitions(one.topic))
            after = {p: positions.get(p) for p in partitions}
            return await broker.backlog(one.group, one.topic, after)
    except TopicNotFound:
        return 0  # nobody has published there yet: what makes it is the first start of a process that relays or consumes
    except TimeoutError:
        return f"The broker did not tell within {ASK_SECONDS:g} seconds how far group {one.group!r} is on topic {one.topic!r}."
    except Exception as error:
        # Whatever it is: what is stored can be told all the same, and that is what somebody needs now.
        return f"The broker cannot be asked from this process: {str(error) or type(error).__name__}"
