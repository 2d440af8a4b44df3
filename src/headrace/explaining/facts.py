"""What storage and broker know, each asked once for an explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from headrace.broker import Received, SearchableLog
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicNotFound
from headrace.storage import Owner, Stored, group_queue

if TYPE_CHECKING:
    from headrace.app import Headrace

MOST_STORED = 100
"""Stored messages of one id, or of one request, that are looked at: bodies may be large."""

MOST_LOGGED = 50
"""Messages of a topic's partition that an explanation shows, the latest of them."""


NOT_ASKED = "The broker could not be asked"
"""How the note begins that says why."""


class Facts:
    """Answers of storage and broker, and notes on what could not be asked.

    Args:
        app: whose they are.

    Raises:
        ConfigurationError: the app has no storage.
    """

    def __init__(self, app: Headrace) -> None:
        storage = app.storage
        if storage is None:
            raise ConfigurationError(
                f"{app.name} has no storage, so nothing is remembered of a message. Pass storage=... to Headrace."
            )
        self.app = app.name
        self.description = app.describe()
        self.storage = storage
        self.notes: dict[str, None] = {}
        self._broker = app.broker
        self._owners: dict[str, Mapping[int, Owner | None]] = {}
        self._positions: dict[str, Mapping[int, str]] = {}
        self._counts: dict[str, int | None] = {}
        self._unread: dict[tuple[str, str, int], int | None] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of the app."""
        return tuple(topic.name for topic in self.description.topics)

    def groups_of(self, topic: str) -> tuple[str, ...]:
        """The app's groups that read a topic."""
        return tuple(g.name for g in self.description.groups if topic in g.topics)

    def handles(self, group: str, type: str) -> bool:  # noqa: A002 - CloudEvents' own name
        """True if a group of the app has a handler for a type of events."""
        known = [one.id for one in self.description.messages if one.type == type]
        return any(
            group in handler.groups
            for message in known
            for handler in self.description.handlers_of(message)
        )

    async def owner(self, queue: str, partition: int) -> str | None:
        """The process that works a partition now, or None."""
        if queue not in self._owners:
            self._owners[queue] = await self.storage.owners(queue)
        owner = self._owners[queue].get(partition)
        return owner.name if owner is not None and owner.expires_seconds > 0 else None

    async def finished(self, group: str, topic: str, partition: int) -> str | None:
        """The last position that a group has finished; None at the start of the log."""
        queue = group_queue(group, topic)
        if queue not in self._positions:
            self._positions[queue] = await self.storage.positions(queue)
        return self._positions[queue].get(partition)

    async def head(self, stored: Stored) -> Stored:
        """The first message of the same key in the same queue: it, or one that it waits for."""
        key = stored.message.key
        if key is None:
            return stored
        found = await self.storage.find(
            topic=stored.message.topic, key=key, queue=stored.queue, limit=1
        )
        return found[0] if found else stored

    async def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has; None if the broker does not tell."""
        if topic not in self._counts:
            self._counts[topic] = await self._count(topic)
        return self._counts[topic]

    async def unread(self, group: str, topic: str, partition: int) -> int | None:
        """How many messages of a partition a group has still to read; None if the broker does not tell."""
        place = (group, topic, partition)
        if place not in self._unread:
            self._unread[place] = await self._backlog(*place)
        return self._unread[place]

    async def logged(
        self,
        topic: str,
        *,
        id: str | None = None,  # noqa: A002 - CloudEvents' own name
        key: str | None = None,
        correlation: str | None = None,
    ) -> Sequence[Received]:
        """The messages that a topic still has; none if the broker cannot be searched."""
        broker: object = self._broker
        if not isinstance(broker, SearchableLog):
            if broker is not None:
                self.notes[
                    f"The topics of {type(broker).__name__} cannot be searched: of what was published, the outbox, the inbox "
                    "and parked messages tell."
                ] = None
            return ()
        try:
            return await broker.search(
                topic, id=id, key=key, correlation=correlation, limit=MOST_LOGGED
            )
        except TopicNotFound:
            return ()
        except BrokerUnavailable as error:
            self._away(error)
            return ()

    async def _count(self, topic: str) -> int | None:
        if self._broker is None:
            return None
        try:
            return await self._broker.partitions(topic)
        except TopicNotFound:
            self.notes[f"The broker has no topic {topic!r} yet."] = None
        except BrokerUnavailable as error:
            self._away(error)
        return None

    async def _backlog(self, group: str, topic: str, partition: int) -> int | None:
        if self._broker is None:
            return None
        after = {partition: await self.finished(group, topic, partition)}
        try:
            return await self._broker.backlog(group, topic, after)
        except TopicNotFound:
            self.notes[f"The broker knows nothing of group {group!r} on topic {topic!r} yet."] = (
                None
            )
        except BrokerUnavailable as error:
            self._away(error)
        return None

    def _away(self, error: BrokerUnavailable) -> None:
        self.notes[f"{NOT_ASKED}: {error}"] = None
