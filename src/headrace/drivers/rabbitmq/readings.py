"""Who reads what in this process: an opening for each partition, and the listeners to wake."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial

from headrace.broker import Received
from headrace.drivers.listeners import Listeners
from headrace.drivers.rabbitmq.headers import Reader
from headrace.drivers.rabbitmq.link import FAILURES, Link
from headrace.drivers.rabbitmq.names import Names, tag_of
from headrace.drivers.rabbitmq.opening import Opening
from headrace.drivers.rabbitmq.topology import ready
from headrace.errors import BrokerUnavailable

_Place = tuple[str, str, int]
"""Group, topic, partition."""


class _Slot:
    """The opening of one partition, if it is read. The lock keeps a second one from being opened beside it."""

    __slots__ = ("lock", "opening")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.opening: Opening | None = None


class Readings:
    """All that this process reads.

    Args:
        link: of readers.
        names: of queues.
        reader: decodes.
        prefetch: messages that one opening may hold.
        listeners: who is to be woken, by group and topic.
    """

    def __init__(
        self,
        link: Link,
        names: Names,
        reader: Reader,
        prefetch: int,
        listeners: Listeners[tuple[str, str]],
    ) -> None:
        self._link = link
        self._names = names
        self._reader = reader
        self._prefetch = prefetch
        self._listeners = listeners
        self._slots: dict[_Place, _Slot] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], limit: int
    ) -> list[Received]:
        """See `Broker.read`. Partitions take turns, so that a long one leaves room for the others."""
        openings = await asyncio.gather(
            *(self._opened((group, topic, partition)) for partition in after),
            return_exceptions=True,
        )
        turns: list[tuple[Opening, int]] = []
        for opening, position in zip(openings, after.values(), strict=True):
            if isinstance(opening, BaseException):
                raise opening
            turns.append((opening, tag_of(position, opening.id)))
        found: list[Received] = []
        while turns and len(found) < limit:
            left: list[tuple[Opening, int]] = []
            for opening, tag in turns[: limit - len(found)]:
                received = opening.next(tag)
                if received is not None:
                    found.append(received)
                    left.append((opening, tag_of(received.position, opening.id)))
            turns = left
        return found

    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        """See `Broker.settle`."""
        for partition, position in positions.items():
            opening = self._open((group, topic, partition))
            if opening is None:
                continue
            tag = tag_of(position, opening.id)
            try:
                async with self._link.asking("acknowledging messages"):
                    await opening.settle(tag)
            except FAILURES:
                # The channel is gone: whoever reads next gets them once more.
                continue

    async def release(self, places: Iterable[_Place]) -> None:
        """See `Broker.release`. When it returns, what was not settled is the next reader's."""
        slots = [slot for place in places if (slot := self._slots.pop(place, None)) is not None]
        tasks = [asyncio.create_task(self._close(slot)) for slot in slots]
        for task in tasks:
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        # Whoever is cancelled here, the channels must not stay open: they would keep messages from everybody.
        await asyncio.shield(asyncio.gather(*tasks))

    async def close(self) -> None:
        """Release all, and wait for what is being released."""
        await self.release(list(self._slots))
        await asyncio.gather(*self._closing)

    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        """See `Broker.backlog`: what the queues hold, and what was delivered to this process and stands behind."""
        count = 0
        async with self._link.channel(f"counting the backlog of {topic!r}") as channel:
            for partition in after:
                count += await ready(channel, self._names.queue(group, topic, partition))
        for partition, position in after.items():
            opening = self._open((group, topic, partition))
            if opening is not None:
                with suppress(BrokerUnavailable, *FAILURES):
                    # An answer on its own channel comes behind all that was delivered on it before.
                    async with self._link.asking("counting what was delivered"):
                        await opening.channel.basic_qos(prefetch_count=self._prefetch)
                count += opening.behind(tag_of(position, opening.id))
        return count

    def _open(self, place: _Place) -> Opening | None:
        slot = self._slots.get(place)
        return slot.opening if slot is not None and slot.opening and slot.opening.alive else None

    async def _opened(self, place: _Place) -> Opening:
        opening = self._open(place)
        if opening is not None:
            return opening
        slot = self._slots.setdefault(place, _Slot())
        async with slot.lock:
            if self._slots.get(place) is not slot:
                # Released while we waited: an opening in it would keep messages from everybody.
                raise BrokerUnavailable(
                    f"partition {place[2]} of {place[1]!r} was released while it was read."
                )
            if slot.opening is not None:
                if slot.opening.alive:
                    return slot.opening
                await slot.opening.close()
                slot.opening = None
            group, topic, partition = place
            slot.opening = await Opening.on(
                self._link,
                self._names.queue(group, topic, partition),
                partition,
                prefetch=self._prefetch,
                decode=partial(self._reader.message, topic, partition),
                wake=partial(self._wake, (group, topic)),
            )
            return slot.opening

    async def _close(self, slot: _Slot) -> None:
        async with slot.lock:
            if slot.opening is not None:
                with suppress(ConnectionError):
                    # Closing is bounded: a server that does not answer gets the connection cut, and puts all back then.
                    async with self._link.asking("giving back messages"):
                        await slot.opening.close()
                slot.opening = None

    def _wake(self, of: tuple[str, str]) -> None:
        self._listeners.wake([of])
