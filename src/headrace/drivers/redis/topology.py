"""Topics: a hash with the number of partitions, a stream for each, and which groups are known."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from redis.exceptions import ResponseError

from headrace.broker import PARTITIONS
from headrace.drivers.redis.names import COUNT, START
from headrace.errors import ConfigurationError, TopicMismatch, TopicNotFound

if TYPE_CHECKING:
    from headrace.broker import Reading, Topic
    from headrace.drivers.redis.link import Command, Link
    from headrace.drivers.redis.names import Names

Declare = Literal["make", "check"]


class Topology:
    """Makes topics, or checks that they are there, and knows their numbers of partitions.

    Args:
        link: to the server.
        names: of the keys.
        declare: "make" or "check".
    """

    def __init__(self, link: Link, names: Names, declare: Declare) -> None:
        self._link = link
        self._names = names
        self._declare = declare
        # A topic's count never changes, so it is asked for once.
        self._counts: dict[str, int] = {}

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading]) -> None:
        """See `Broker.declare`. All is looked at before anything is made."""
        for topic in topics:
            if topic.partitions is not None and topic.partitions < 1:
                raise ConfigurationError(f"{topic!r}: give 1 partition or more")
        wanted = _wanted(topics)
        found = await self._found([*wanted, *(each.topic for each in readings)])
        for name, count in wanted.items():
            if count is not None and found.get(name, count) != count:
                raise _mismatch(name, found[name], count)
        missing = {name: count or PARTITIONS for name, count in wanted.items() if name not in found}
        nowhere = [
            each.topic for each in readings if each.topic not in found and each.topic not in missing
        ]
        if nowhere:
            raise self.not_found(nowhere[0])
        await self._streams(found, missing)
        for name, count in missing.items():
            found[name] = await self._make(name, count, asked=wanted[name])
        self._counts |= found
        await self._register(readings, found)

    async def count(self, topic: str) -> int:
        """The number of partitions.

        Raises:
            TopicNotFound: there is no such topic.
        """
        known = self._counts.get(topic)
        if known is None:
            found = await self._found([topic])
            if topic not in found:
                raise self.not_found(topic)
            known = self._counts[topic] = found[topic]
        return known

    def forget(self, topic: str) -> None:
        """The topic is not as it was: ask again."""
        self._counts.pop(topic, None)

    def not_found(self, topic: str) -> TopicNotFound:
        """The error for a topic that does not exist."""
        self.forget(topic)
        near = difflib.get_close_matches(topic, self._counts, n=1)
        hint = f"did you mean {near[0]!r}? If not, " if near else ""
        return TopicNotFound(
            f"{self._link.where} has no topic {topic!r} (no key {self._names.topic(topic)!r}): "
            f"{hint}call `await broker.declare([Topic({topic!r})])` first"
        )

    async def _found(self, topics: Sequence[str]) -> dict[str, int]:
        names = list(dict.fromkeys(topics))
        if not names:
            return {}
        replies = await self._link.ask(*(("HGET", self._names.topic(n), COUNT) for n in names))
        return {
            name: int(cast("bytes", reply))
            for name, reply in zip(names, replies, strict=True)
            if reply is not None
        }

    async def _streams(self, found: Mapping[str, int], missing: Mapping[str, int]) -> None:
        """See that every stream of the topics that exist is there; where nothing may be made, say all that is missing."""
        streams = [
            self._names.stream(topic, partition)
            for topic, count in found.items()
            for partition in range(count)
        ]
        replies = await self._link.ask(*(("EXISTS", stream) for stream in streams))
        gone = [stream for stream, reply in zip(streams, replies, strict=True) if not reply]
        if self._declare == "make":
            await self._make_streams(gone)
        elif gone or missing:
            raise self._missing(missing, gone)

    async def _make(self, topic: str, count: int, *, asked: int | None) -> int:
        key = self._names.topic(topic)
        # Two apps may make one topic at once: the first number counts, and who asked for another one is told.
        _, reply = await self._link.ask(("HSETNX", key, COUNT, count), ("HGET", key, COUNT))
        made = int(cast("bytes", reply))
        if asked is not None and made != asked:
            raise _mismatch(topic, made, asked)
        await self._make_streams([self._names.stream(topic, number) for number in range(made)])
        return made

    async def _make_streams(self, streams: Sequence[str]) -> None:
        # The one way to an empty stream that harms none that came to be in between. Publishing needs streams that exist:
        # it must notice when a server has lost them.
        commands: list[Command] = []
        for stream in streams:
            commands.append(("XGROUP", "CREATE", stream, _NOBODY, START, "MKSTREAM"))
            commands.append(("XGROUP", "DESTROY", stream, _NOBODY))
        for reply in await self._link.run(commands) if commands else ():
            if isinstance(reply, ResponseError) and not str(reply).startswith("BUSYGROUP"):
                raise await self._link.refusal(reply)

    async def _register(self, readings: Sequence[Reading], counts: Mapping[str, int]) -> None:
        """From now on nothing is trimmed that these groups have not settled."""
        commands = [
            ("HSETNX", self._names.settled(each.topic), f"{each.group}/{partition}", START)
            for each in readings
            for partition in range(counts[each.topic])
        ]
        if commands:
            await self._link.ask(*commands)

    def _missing(self, topics: Mapping[str, int], streams: Sequence[str]) -> TopicNotFound:
        lines = [
            f"HSET '{self._names.topic(topic)}' {COUNT} {count}" for topic, count in topics.items()
        ]
        every = [
            *streams,
            *(self._names.stream(t, p) for t, count in topics.items() for p in range(count)),
        ]
        lines += [f"XGROUP CREATE '{stream}' {_NOBODY} {START} MKSTREAM" for stream in every]
        what = [f"the topic {topic!r}" for topic in topics] + [f"the stream {s!r}" for s in streams]
        return TopicNotFound(
            f"{self._link.where} lacks {', '.join(what)}, and declare='check' makes nothing. Start an app with "
            "declare='make' once, or send with redis-cli:\n  " + "\n  ".join(lines)
        )


def _wanted(topics: Sequence[Topic]) -> dict[str, int | None]:
    wanted: dict[str, int | None] = {}
    for topic in topics:
        before = wanted.get(topic.name)
        if before is not None and topic.partitions not in (None, before):
            raise _mismatch(topic.name, before, topic.partitions)
        wanted[topic.name] = before if topic.partitions is None else topic.partitions
    return wanted


def _mismatch(topic: str, count: int, asked: int | None) -> TopicMismatch:
    return TopicMismatch(
        f"topic {topic!r} has {count} partitions and was declared with {asked}: "
        f"declare Topic({topic!r}, partitions={count}), or use another name"
    )


_NOBODY = "headrace-make"
