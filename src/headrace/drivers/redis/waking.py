"""Who is woken when a topic has new messages: one connection that waits for all streams listened to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from redis.exceptions import RedisError, ResponseError

from headrace.backoff import Backoff
from headrace.drivers.listeners import Listeners
from headrace.drivers.redis.link import end, exchange, hang_up
from headrace.drivers.redis.names import START
from headrace.errors import BrokerUnavailable, TopicNotFound

if TYPE_CHECKING:
    from redis.asyncio import Connection

    from headrace.drivers.redis.link import Link, Reply
    from headrace.drivers.redis.names import Names
    from headrace.drivers.redis.topology import Topology

_BLOCK_SECONDS: Final = 5.0
"""How long the server waits for a message before it answers that there is none: shows that it lives."""

_PAUSE_SECONDS: Final = 0.002
"""Between two wake-ups: in a steady flow each would cost the server an answer for a reader that is busy anyway."""

_MISSING_SECONDS: Final = 1.0
"""After so long it is looked whether a topic that did not exist has come to be."""

_BACKOFF_SECONDS: Final = 5.0
"""The longest pause between attempts to listen again; readers poll meanwhile."""


class Waker:
    """The listeners of this process, and the task that waits for them.

    It remembers the last entry of each stream, and looks at the last entry before it wakes anybody: a message that comes
    while it is busy is behind the remembered one, and ends the next wait at once.
    """

    def __init__(self, link: Link, names: Names, topology: Topology) -> None:
        self._link = link
        self._names = names
        self._topology = topology
        self._listeners: Listeners[str] = Listeners()
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="headrace redis wake-ups")

    def listen(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """See `Broker.listen`."""
        if topic not in self._listeners:
            self._changed.set()
        remove = self._listeners.add(topic, wake)

        def leave() -> None:
            remove()
            if topic not in self._listeners:
                self._changed.set()

        return leave

    async def stop(self) -> None:
        """Wake nobody any more."""
        self._listeners.clear()
        await end(self._task)

    async def _run(self) -> None:
        backoff = Backoff(_BACKOFF_SECONDS)
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._listeners:
                continue
            try:
                connection = self._link.connection()
                try:
                    await self._until_changed(connection, backoff)
                finally:
                    await hang_up(connection)
            except (BrokerUnavailable, RedisError, OSError):
                # A hint that fails costs latency only, and who reads says that the server is away.
                self._changed.set()
                await asyncio.sleep(backoff.next())

    async def _until_changed(self, connection: Connection, backoff: Backoff) -> None:
        """Wait and wake until topics are added or taken away, or the connection fails."""
        streams: dict[bytes, str] = {}
        missing = False
        for topic in self._listeners.names():
            try:
                count = await self._topology.count(topic)
            except TopicNotFound:
                missing = True
                continue
            streams |= {self._names.stream(topic, p).encode(): topic for p in range(count)}
        changed = asyncio.create_task(self._changed.wait())
        waiting = asyncio.create_task(self._wake_on(connection, streams, backoff))
        try:
            await asyncio.wait(
                {changed, waiting},
                timeout=_MISSING_SECONDS if missing else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if waiting.done():
                waiting.result()
            elif missing:
                self._changed.set()
        finally:
            changed.cancel()
            waiting.cancel()
            await asyncio.gather(changed, waiting, return_exceptions=True)

    async def _wake_on(
        self, connection: Connection, streams: Mapping[bytes, str], backoff: Backoff
    ) -> None:
        if not streams:
            await asyncio.Event().wait()
        last = dict.fromkeys(streams, START.encode())
        news: Sequence[bytes] = list(streams)
        while True:
            ends = await self._exchange(
                connection, *(("XREVRANGE", stream, "+", "-", "COUNT", 1) for stream in news)
            )
            topics: dict[str, None] = {}
            for stream, reply in zip(news, ends, strict=True):
                page = cast("list[tuple[bytes, object]]", reply)
                if page and page[0][0] != last[stream]:
                    last[stream] = page[0][0]
                    topics[streams[stream]] = None
            self._listeners.wake(topics)
            backoff.reset()
            await asyncio.sleep(_PAUSE_SECONDS)
            news = ()
            while not news:
                (reply,) = await self._exchange(
                    connection,
                    (
                        *("XREAD", "COUNT", 1, "BLOCK", int(_BLOCK_SECONDS * 1000), "STREAMS"),
                        *last,
                        *last.values(),
                    ),
                )
                news = _streams(reply)

    async def _exchange(
        self, connection: Connection, *commands: Sequence[str | bytes | int]
    ) -> list[Reply]:
        async with asyncio.timeout(_BLOCK_SECONDS + self._link.timeout_seconds):
            replies = await exchange(connection, commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies


def _streams(reply: Reply) -> list[bytes]:
    """The streams that XREAD found something in."""
    if not reply:
        return []
    if isinstance(reply, Mapping):  # RESP3
        return list(cast("Mapping[bytes, object]", reply))
    return [stream for stream, _ in cast("list[tuple[bytes, object]]", reply)]
