"""Brokers for measuring: one that keeps nothing, and one that takes the time of a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from time import perf_counter
from typing import Any, Final

from headrace.broker import Broker, BrokerGuarantees, Reading, Received, Rejected, Topic
from headrace.envelope import Message
from headrace.storage import Storage

PARTITIONS: Final = 8
_MOST_SECONDS: Final = 120.0


class NullBroker:
    """Confirms everything at once and keeps nothing."""

    guarantees = BrokerGuarantees(durable=True, ordered_batch=True)

    async def start(self, storage: Storage | None) -> Sequence[str]:
        return ()

    async def stop(self) -> None:
        pass

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        pass

    async def partitions(self, topic: str) -> int:
        return PARTITIONS

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        return ()

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        return ()

    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        pass

    async def release(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        pass

    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        return 0

    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


class Timed:
    """A broker whose publishing is timed and whose reading begins when it is asked for; all else is the broker's own.

    A relay's time is taken from one call of `publish` to a later one, so that each message has been read, published and
    deleted in it, and neither the start of the app nor the wait for the first row is.

    Args:
        broker: the real one.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._marks: list[tuple[float, int]] = []
        self._published = 0
        self._wanted = 0
        self._all, self._held, self._more = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._reading = asyncio.Event()
        self._wakes: list[Callable[[], None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def expect(self, count: int) -> None:
        """Let so many messages be published; calls of `publish` after them wait for the next `expect`."""
        self._marks, self._published, self._wanted = [], 0, count
        self._all.clear()
        self._held.clear()
        self._more.set()

    async def relayed(self) -> float:
        """Wait until they are published. Returns the seconds for each message."""
        async with asyncio.timeout(_MOST_SECONDS):
            await self._all.wait()
        (first, _), (last, count) = self._marks[0], self._marks[-1]
        return (last - first) / count

    async def rounds(self) -> Sequence[float]:
        """Wait until the relay would publish more. Returns the seconds for each message, a number for each call before."""
        async with asyncio.timeout(_MOST_SECONDS):
            await self._held.wait()
        return [
            (after - before) / (then - count)
            for (before, count), (after, then) in pairwise(self._marks)
        ]

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        while self._published >= self._wanted:
            # The call that comes too early ends the cycle of the one before it.
            self._marks.append((perf_counter(), self._published))
            self._held.set()
            self._more.clear()
            await self._more.wait()
        self._marks.append((perf_counter(), self._published))
        rejected = await self._broker.publish(messages)
        if rejected:
            raise RuntimeError(f"the broker rejected {rejected[0]}")
        self._published += len(messages)
        if self._published >= self._wanted:
            self._all.set()
        return rejected

    async def publish_all(self, messages: Sequence[Message]) -> None:
        """Publish messages for a consumer, 500 with each wait."""
        for start in range(0, len(messages), 500):
            rejected = await self._broker.publish(messages[start : start + 500])
            if rejected:
                raise RuntimeError(f"the broker rejected {rejected[0]}")

    def read_from_now_on(self) -> None:
        """Let the consumers read."""
        self._reading.set()
        for wake in self._wakes:
            wake()

    def read_no_more(self) -> None:
        """Let the consumers find nothing, until `read_from_now_on`."""
        self._reading.clear()

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        if not self._reading.is_set():
            return ()
        return await self._broker.read(group, topic, after, limit=limit)

    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        self._wakes.append(wake)
        return self._broker.listen(group, topic, wake)
