"""What stands behind a position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from redis.exceptions import ResponseError

from headrace.drivers.redis.names import COUNT, id_of, id_text
from headrace.errors import TopicMismatch

if TYPE_CHECKING:
    from headrace.broker import Received
    from headrace.drivers.redis.entries import Entries, Entry
    from headrace.drivers.redis.link import Link, Reply
    from headrace.drivers.redis.names import Names
    from headrace.drivers.redis.settling import Settling
    from headrace.drivers.redis.topology import Topology

COUNTED: Final = 1000
"""How many messages behind a position are counted in each partition; more are estimated."""

_Id = tuple[int, int]
_START: Final[_Id] = (0, 0)


class Reader:
    """Reads streams by position. Nothing is fetched ahead, so there is nothing to give up.

    Args:
        link: to the server.
        names: of the keys.
        topology: knows the partitions.
        settling: knows where groups go on.
        entries: how a message stands in a stream.
    """

    def __init__(
        self, link: Link, names: Names, topology: Topology, settling: Settling, entries: Entries
    ) -> None:
        self._link = link
        self._names = names
        self._topology = topology
        self._settling = settling
        self._entries = entries
        # An id that each stream has reached, as far as this process has seen since it last lost a connection.
        self._reached: dict[tuple[str, int], _Id] = {}
        self._losses = link.losses

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], limit: int
    ) -> list[Received]:
        """See `Broker.read`. Partitions share the limit evenly first; what one leaves goes to the others."""
        await self._check(topic, after)
        if not after or limit < 1:
            return []
        starts = await self._starts(group, topic, after)
        order = sorted(after)
        # Another partition comes first as the group goes on, so that none starves when there are more than the limit.
        turn = sum(sum(starts[p]) for p in order) % len(order)
        order = (order[turn:] + order[:turn])[:limit]
        share = -(-limit // len(order))
        found = await self._pages(topic, {p: starts[p] for p in order}, share)
        left = limit - sum(len(page) for page in found.values())
        full = [p for p in order if len(found[p]) == share]
        if left > 0 and full:
            behind = {p: id_of(found[p][-1].position) or _START for p in full}
            for p, page in (await self._pages(topic, behind, -(-left // len(full)))).items():
                found[p] += page
        return [received for p in order for received in found[p]][:limit]

    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        """See `Broker.backlog`. Exact up to `COUNTED` messages in a partition, else estimated from the times of entries."""
        await self._check(topic, after)
        if not after:
            return 0
        starts = await self._starts(group, topic, after)
        count = 0
        # One partition after another: an answer holds whole messages.
        for p, start in starts.items():
            stream = self._names.stream(topic, p)
            page, length, first, last = await self._link.ask(
                ("XRANGE", stream, f"({id_text(start)}", "+", "COUNT", COUNTED),
                ("XLEN", stream),
                ("XRANGE", stream, "-", "+", "COUNT", 1),
                ("XREVRANGE", stream, "+", "-", "COUNT", 1),
            )
            counted = cast("list[list[Reply]]", page)
            count += len(counted)
            if len(counted) == COUNTED:
                whole = _time(last) - _time(first)
                behind = _time(last) - _time(counted[-1:])
                most = cast("int", length) - COUNTED
                count += most if not whole else round(most * min(1.0, behind / whole))
        return count

    async def _check(self, topic: str, partitions: Mapping[int, str | None]) -> None:
        count = await self._topology.count(topic)
        for partition in partitions:
            if not 0 <= partition < count:
                raise TopicMismatch(
                    f"topic {topic!r} has the partitions 0 to {count - 1}, and {partition} was asked for: "
                    "read the count with `await broker.partitions(topic)`"
                )

    async def _starts(
        self, group: str, topic: str, after: Mapping[int, str | None]
    ) -> dict[int, _Id]:
        """The ids to read behind. A position that this log never reached is of another log, and counts as none."""
        wanted = {p: None if text is None else id_of(text) for p, text in after.items()}
        starts = await self._reachable(topic, {p: n for p, n in wanted.items() if n is not None})
        unknown = [p for p in wanted if p not in starts]
        if unknown:
            settled = await self._settling.positions(group, topic, unknown)
            starts |= await self._reachable(topic, settled)
        return {p: starts.get(p, _START) for p in wanted}

    async def _reachable(self, topic: str, ids: Mapping[int, _Id]) -> dict[int, _Id]:
        """Those of these ids that their stream has reached.

        A stream that was lost with its server begins anew. Its ids are times, so they are greater than the old ones,
        unless the clock went back or the position was made by another broker: then it would hide new messages.
        """
        if self._losses != self._link.losses:
            self._losses = self._link.losses
            self._reached.clear()
        doubtful = [p for p, n in ids.items() if n > self._reached.get((topic, p), _START)]
        if doubtful:
            replies = await self._link.run(
                [("XINFO", "STREAM", self._names.stream(topic, p)) for p in doubtful]
            )
            for p, reply in zip(doubtful, replies, strict=True):
                if not isinstance(reply, ResponseError):
                    self._reached[topic, p] = _last(reply)
                elif "no such key" not in str(reply):
                    raise await self._link.refusal(reply)
        return {p: n for p, n in ids.items() if n <= self._reached.get((topic, p), _START)}

    async def _pages(
        self, topic: str, behind: Mapping[int, _Id], most: int
    ) -> dict[int, list[Received]]:
        # The count is asked for every time, so that a server that lost the topic is noticed.
        count, *pages = await self._link.ask(
            ("HGET", self._names.topic(topic), COUNT),
            *(
                (
                    *("XRANGE", self._names.stream(topic, p), f"({id_text(n)}", "+"),
                    *("COUNT", most),
                )
                for p, n in behind.items()
            ),
        )
        if count is None:
            raise self._topology.not_found(topic)
        found: dict[int, list[Received]] = {}
        for p, page in zip(behind, pages, strict=True):
            found[p] = [
                self._entries.received(topic, p, entry) for entry in cast("list[Entry]", page)
            ]
            if found[p]:
                last = id_of(found[p][-1].position) or _START
                self._reached[topic, p] = max(last, self._reached.get((topic, p), _START))
        return found


def _time(page: Reply) -> int:
    """The milliseconds in the id of the first entry of a page; 0 if there is none."""
    entries = cast("list[tuple[bytes, object]]", page)
    number = id_of(entries[0][0].decode()) if entries else None
    return number[0] if number else 0


def _last(reply: Reply) -> _Id:
    """The last id that the stream has given, of what XINFO STREAM says."""
    if isinstance(reply, Mapping):  # RESP3
        found = cast("Mapping[bytes, bytes]", reply)[b"last-generated-id"]
    else:
        flat = cast("Sequence[bytes]", reply)
        found = flat[list(flat).index(b"last-generated-id") + 1]
    return id_of(found.decode()) or _START
