"""A broker that remembers what was published through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from headrace.broker import Broker, BrokerGuarantees, Reading, Received, Rejected, Topic
from headrace.envelope import Message
from headrace.storage import Storage


class RecordingBroker:
    """Wraps a broker and records each message that it confirmed.

    Args:
        inner: does the work.
    """

    def __init__(self, inner: Broker) -> None:
        self._inner = inner
        self.messages: list[Message] = []
        """Every confirmed message in the order of publication, repeats included."""

    def distinct(self) -> list[Message]:
        """The confirmed messages, each once."""
        return list({(m.envelope.source, m.envelope.id): m for m in self.messages}.values())

    @property
    def guarantees(self) -> BrokerGuarantees:
        """See `Broker`."""
        return self._inner.guarantees

    async def start(self, storage: Storage | None) -> Sequence[str]:
        """See `Broker`."""
        return await self._inner.start(storage)

    async def stop(self) -> None:
        """See `Broker`."""
        await self._inner.stop()

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        """See `Broker`."""
        await self._inner.declare(topics, readings)

    async def partitions(self, topic: str) -> int:
        """See `Broker`."""
        return await self._inner.partitions(topic)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        """See `Broker`."""
        rejected = await self._inner.publish(messages)
        refused = {one.index for one in rejected}
        self.messages.extend(m for index, m in enumerate(messages) if index not in refused)
        return rejected

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        """See `Broker`."""
        return await self._inner.read(group, topic, after, limit=limit)

    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        """See `Broker`."""
        await self._inner.settle(group, topic, positions)

    async def release(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        """See `Broker`."""
        await self._inner.release(group, topic, partitions)

    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        """See `Broker`."""
        return await self._inner.backlog(group, topic, after)

    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """See `Broker`."""
        return self._inner.listen(group, topic, wake)
