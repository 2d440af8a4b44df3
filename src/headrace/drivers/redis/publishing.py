"""Batches of messages into streams: one transaction and one wait each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, cast

from redis.exceptions import ExecAbortError, NoPermissionError, ResponseError

from headrace.broker import Rejected, partition_of
from headrace.errors import BrokerUnavailable

if TYPE_CHECKING:
    from headrace.drivers.redis.entries import Entries
    from headrace.drivers.redis.link import Command, Link
    from headrace.drivers.redis.names import Names
    from headrace.drivers.redis.topology import Topology
    from headrace.envelope import Message

_BATCH_BYTES: Final = 16 * 1024 * 1024
"""Bodies in one transaction, which the server keeps in memory until it is complete."""


class Publisher:
    """Appends messages so that order per key holds on the wire whatever fails (G6).

    Why it holds: all of a call goes through one connection as one MULTI ... EXEC, which the server carries out as a whole
    or, if the connection breaks before EXEC has arrived, not at all. Larger calls are cut, and each part is confirmed
    before the next is sent. A call whose outcome is unknown (cut off, timed out, cancelled) may still be carried out late,
    after the relay has published the same messages again and gone on: then all its messages are repeats, in order, of
    messages that stand there already, because the relay begins again at the oldest that is not confirmed. Nothing here
    repeats by itself.

    Args:
        link: to the server.
        names: of the keys.
        topology: knows the partitions.
        entries: how a message stands in a stream.
        max_body_bytes: the largest body.
        min_replicas: how many replicas must have a message before it is confirmed.
    """

    def __init__(
        self,
        link: Link,
        names: Names,
        topology: Topology,
        entries: Entries,
        *,
        max_body_bytes: int,
        min_replicas: int,
    ) -> None:
        self._link = link
        self._names = names
        self._topology = topology
        self._entries = entries
        self._max_body_bytes = max_body_bytes
        self._min_replicas = min_replicas

    async def publish(self, messages: Sequence[Message]) -> list[Rejected]:
        """See `Broker.publish`."""
        # Before anything is stored: a topic that does not exist fails the whole call.
        counts = dict.fromkeys(dict.fromkeys(message.topic for message in messages), 0)
        for topic in counts:
            counts[topic] = await self._topology.count(topic)
        fitting, rejected = self._fitting(messages)
        refused: dict[str, str] = {}
        for part in _parts(messages, fitting):
            going = [index for index in part if messages[index].topic not in refused]
            late = [index for index in part if messages[index].topic in refused]
            rejected += [Rejected(n, refused[messages[n].topic], final=False) for n in late]
            rejected += await self._store(messages, going, counts, refused)
        return rejected

    def _fitting(self, messages: Sequence[Message]) -> tuple[list[int], list[Rejected]]:
        """The messages that are not too large, nor behind one of their key that is: `ordered_batch` leaves no gaps."""
        fitting: list[int] = []
        rejected: list[Rejected] = []
        stopped: dict[tuple[str, str], int] = {}
        for index, message in enumerate(messages):
            key = None if message.key is None else (message.topic, message.key)
            before = None if key is None else stopped.get(key)
            size = len(message.data)
            if before is not None:
                reason = f"It waits behind message {before} of its key."
                rejected.append(Rejected(index, reason, final=False))
            elif size > self._max_body_bytes:
                reason = f"The body has {size} bytes, and this RedisBroker takes at most {self._max_body_bytes} (max_body_bytes)."
                rejected.append(Rejected(index, reason))
                if key is not None:
                    stopped[key] = index
            else:
                fitting.append(index)
        return fitting, rejected

    async def _store(
        self,
        messages: Sequence[Message],
        going: Sequence[int],
        counts: dict[str, int],
        refused: dict[str, str],
    ) -> list[Rejected]:
        """One transaction. Topics that the server refuses are added to `refused`, and the others are stored."""
        if not going:
            return []
        adds: list[Command] = []
        for index in going:
            message = messages[index]
            stream = self._names.stream(message.topic, partition_of(message, counts[message.topic]))
            # NOMKSTREAM: a server that lost its data must not get half a topic.
            adds.append(("XADD", stream, "NOMKSTREAM", "*", *self._entries.fields(message)))
        replies = await self._link.run([("MULTI",), *adds, ("EXEC",), *self._wait()])
        outcome = replies[len(adds) + 1]
        if isinstance(outcome, ExecAbortError):
            # Nothing is stored: the server refused commands of it before.
            queued = replies[1 : len(adds) + 1]
        elif isinstance(outcome, ResponseError):
            raise await self._link.refusal(outcome)
        else:
            queued = cast("list[object]", outcome)
        rejected: list[Rejected] = []
        gone: str | None = None
        for index, reply in zip(going, queued, strict=True):
            topic = messages[index].topic
            if isinstance(reply, ResponseError):
                if not _concerns_topic(reply):
                    raise await self._link.refusal(reply)
                reason = f"{self._link.where} refuses messages of topic {topic!r}: {reply}"
                refused.setdefault(topic, reason)
                rejected.append(Rejected(index, reason, final=False))
            elif reply is None:
                gone = topic
        if gone is not None:
            raise self._topology.not_found(gone)
        if isinstance(outcome, ExecAbortError):
            if not rejected:
                raise await self._link.refusal(outcome)
            rejected = [
                Rejected(n, refused[messages[n].topic], final=False)
                for n in going
                if messages[n].topic in refused
            ]
            others = [n for n in going if messages[n].topic not in refused]
            return rejected + await self._store(messages, others, counts, refused)
        self._check_replicas(replies)
        return rejected

    def _wait(self) -> list[Command]:
        if not self._min_replicas:
            return []
        # Half of what the whole round may take, so that the answer comes before the round is given up.
        return [("WAIT", self._min_replicas, int(self._link.timeout_seconds * 500))]

    def _check_replicas(self, replies: Sequence[object]) -> None:
        if self._min_replicas:
            have = replies[-1]
            if not isinstance(have, int) or have < self._min_replicas:
                raise BrokerUnavailable(
                    f"{have} replicas of {self._link.where} had the messages in time, and min_replicas={self._min_replicas} "
                    "are asked for: they are published again"
                )


def _parts(messages: Sequence[Message], indexes: Sequence[int]) -> Iterator[list[int]]:
    part: list[int] = []
    size = 0
    for index in indexes:
        size += len(messages[index].data)
        if part and size > _BATCH_BYTES:
            yield part
            part, size = [], len(messages[index].data)
        part.append(index)
    if part:
        yield part


def _concerns_topic(error: ResponseError) -> bool:
    """True if other topics may well be accepted: no permission for this key, or the key holds something else."""
    return isinstance(error, NoPermissionError) or str(error).startswith("WRONGTYPE")
