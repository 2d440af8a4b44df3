"""Settled positions: gathered, written once a second, and what all groups have settled is trimmed in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from headrace.backoff import Backoff
from headrace.drivers.redis.link import end
from headrace.drivers.redis.names import COUNT, id_of, id_text
from headrace.errors import BrokerUnavailable
from headrace.telemetry import Logbook, LogEvent

if TYPE_CHECKING:
    from headrace.drivers.redis.link import Link, Reply
    from headrace.drivers.redis.names import Names

WRITE_SECONDS: Final = 1.0
"""How long settled positions are gathered: they are a hint for what may go, and a restart repeats no more than that."""

TRIM_SECONDS: Final = 60.0
"""How often one process trims a topic."""

_LOG: Final = Logbook()

_CHUNK: Final = 10_000  # entries in one XTRIM: a few milliseconds of the server's one thread

_Place = tuple[str, str, int]
"""Topic, group, partition."""


class Settling:
    """Knows what groups of this process have settled, and tells the server in the background.

    Args:
        link: to the server.
        names: of the keys.
        retention_seconds: how long an entry stays at least.
    """

    def __init__(self, link: Link, names: Names, retention_seconds: float) -> None:
        self._link = link
        self._names = names
        self._retention_seconds = retention_seconds
        self._pending: dict[_Place, tuple[int, int]] = {}
        self._trimmed_at: dict[str, float] = {}
        self._something = asyncio.Event()
        self._writing = asyncio.Lock()
        self._task = asyncio.create_task(self._run(), name="headrace redis settling")

    def note(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        """The group has settled up to these positions; what is no id of an entry is ignored."""
        for partition, position in positions.items():
            number = id_of(position)
            if number is not None:
                place = (topic, group, partition)
                self._pending[place] = max(number, self._pending.get(place, number))
                self._something.set()

    async def positions(
        self, group: str, topic: str, partitions: Sequence[int]
    ) -> dict[int, tuple[int, int]]:
        """From where the group goes on in these partitions; (0, 0) where nothing is settled."""
        fields = [f"{group}/{partition}" for partition in partitions]
        (replies,) = await self._link.ask(("HMGET", self._names.settled(topic), *fields))
        return {
            partition: max(_number(reply), self._pending.get((topic, group, partition), (0, 0)))
            for partition, reply in zip(partitions, cast("list[Reply]", replies), strict=True)
        }

    async def write(self) -> None:
        """Tell the server all that was noted; raises `BrokerUnavailable`, and then keeps it for the next time."""
        async with self._writing:
            noted = dict(self._pending)
            if not noted:
                return
            # A process that hung may lower what its successor wrote. Then some more stays, and nothing is lost.
            await self._link.ask(
                *(
                    ("HSET", self._names.settled(topic), f"{group}/{partition}", id_text(number))
                    for (topic, group, partition), number in noted.items()
                )
            )
            for place, number in noted.items():
                if self._pending.get(place) == number:
                    del self._pending[place]
            await self._trim({topic for topic, _, _ in noted})

    async def forget(self, group: str, topic: str, partitions: int) -> None:
        """The group is not known any more."""
        for partition in range(partitions):
            self._pending.pop((topic, group, partition), None)
        fields = [f"{group}/{partition}" for partition in range(partitions)]
        await self._link.ask(("HDEL", self._names.settled(topic), *fields))

    async def stop(self) -> None:
        """Write what is noted, if the server can be reached, and end."""
        await end(self._task)
        with suppress(BrokerUnavailable):
            await self.write()

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            await self._something.wait()
            await asyncio.sleep(WRITE_SECONDS)
            self._something.clear()
            try:
                await self.write()
                backoff.reset()
                continue
            except BrokerUnavailable:
                pass  # who reads meets the same outage and says so; here it is only tried again
            except Exception as error:
                # Nobody's known fault: were it the end of the task, nothing would be trimmed any more, and nobody told.
                _LOG.error(
                    LogEvent.REDIS_SETTLING_FAILED,
                    "Redis could not be told what groups have settled, so nothing is trimmed; it is tried again.",
                    error,
                )
            await asyncio.sleep(backoff.next())
            self._something.set()

    async def _trim(self, topics: Iterable[str]) -> None:
        now = asyncio.get_running_loop().time()
        for topic in topics:
            if now - self._trimmed_at.get(topic, -TRIM_SECONDS) >= TRIM_SECONDS:
                self._trimmed_at[topic] = now
                await self._trim_topic(topic)

    async def _trim_topic(self, topic: str) -> None:
        # By the server's clock, which also numbers the entries.
        count, settled, time = await self._link.ask(
            ("HGET", self._names.topic(topic), COUNT),
            ("HGETALL", self._names.settled(topic)),
            ("TIME",),
        )
        if count is None:
            return
        seconds, microseconds = (int(part) for part in cast("list[bytes]", time))
        age = int(self._retention_seconds * 1000)
        oldest = (max(0, seconds * 1000 + microseconds // 1000 - age), 0)
        done = _done(settled, int(cast("bytes", count)))
        for partition, (milliseconds, sequence) in enumerate(done):
            first_kept = min((milliseconds, sequence + 1), oldest)
            while True:
                # Whole nodes of the stream only (~), which costs next to nothing; up to a hundred entries more stay.
                (removed,) = await self._link.ask(
                    (
                        "XTRIM",
                        self._names.stream(topic, partition),
                        *("MINID", "~", id_text(first_kept), "LIMIT", _CHUNK),
                    )
                )
                if not removed:
                    break


def _done(settled: Reply, count: int) -> list[tuple[int, int]]:
    """What every known group has settled, for each partition; without groups, nothing."""
    groups: dict[str, dict[int, tuple[int, int]]] = {}
    for name, value in _hash(settled).items():
        group, _, partition = name.decode(errors="replace").rpartition("/")
        known = groups.setdefault(group, {})
        if partition.isdecimal():
            known[int(partition)] = _number(value)
    return [
        min((known.get(partition, (0, 0)) for known in groups.values()), default=(0, 0))
        for partition in range(count)
    ]


def _hash(reply: Reply) -> Mapping[bytes, bytes]:
    if isinstance(reply, Mapping):  # RESP3
        return cast("Mapping[bytes, bytes]", reply)
    flat = cast("list[bytes]", reply)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _number(reply: Reply) -> tuple[int, int]:
    return (isinstance(reply, bytes) and id_of(reply.decode(errors="replace"))) or (0, 0)
