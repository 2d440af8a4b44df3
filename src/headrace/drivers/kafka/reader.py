"""What one group reads: a buffer for each partition, filled by a fetcher, bounded in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError

from headrace.drivers.kafka.feed import Feed
from headrace.drivers.kafka.fetcher import Fetcher, Generations
from headrace.drivers.kafka.settings import LOG, Settings
from headrace.telemetry import LogEvent

if TYPE_CHECKING:
    from confluent_kafka import Message as Record

    from headrace.drivers.kafka.sender import Place

_COMMIT_SECONDS: Final = 1.0
_LEAST_SHARE_BYTES: Final = 64 * 1024
_NO_COMMITTED: Final = "no previously committed offset"


class GroupReader:
    """The feeds of one group. All of it runs on the loop, but for the fetcher's thread.

    Args:
        settings: of the broker.
        group: its name.
        wake: called with the server's name of a topic when something of it has arrived.
    """

    def __init__(self, settings: Settings, group: str, wake: Callable[[str], None]) -> None:
        self._settings = settings
        self._group = group
        self._wake = wake
        self._fetcher = Fetcher(settings, group, self._arrived)
        self._feeds: dict[Place, Feed] = {}
        self._generation = 0
        self._settled: dict[Place, int] = {}
        self._committing: asyncio.TimerHandle | None = None
        self._turn = 0

    async def open(self) -> None:
        """Begin to connect."""
        await self._fetcher.open()

    async def close(self) -> None:
        """Tell the servers what is settled, as far as they can be reached, and end."""
        self._commit_now()
        self._feeds.clear()
        await self._fetcher.close()

    @property
    def ended(self) -> bool:
        """It reads nothing more."""
        return self._fetcher.ended

    @property
    def down(self) -> str | None:
        """Why the servers cannot be reached, as far as is known without asking."""
        return None if self._fetcher.down is None else self._fetcher.down.str()

    def up(self) -> None:
        """The servers were reached."""
        self._fetcher.up()

    def trouble(self, topic: str, partitions: Sequence[int]) -> str | None:
        """What the servers say is wrong with one of these partitions, if they do."""
        for partition in partitions:
            feed = self._feeds.get((topic, partition))
            if feed is not None and feed.error is not None:
                return f"partition {partition}: {feed.error}"
        return None

    def read(self, topic: str, after: Mapping[int, int | None], limit: int) -> list[Record]:
        """What is there behind the positions, in order per partition; begins to fetch where nothing was fetched.

        Args:
            topic: its name on the servers.
            after: the offset of the last record handled, for each partition. None: where the group is.
            limit: the most records. Partitions share it evenly first; what one leaves goes to the others.
        """
        feeds: list[Feed] = []
        for partition, offset in after.items():
            place = (topic, partition)
            feed = self._feeds.get(place)
            start = None if offset is None else offset + 1
            if feed is None or not feed.reach(start):
                feed = self._begin(place, start)
            feeds.append(feed)
        if not feeds or limit < 1:
            return []
        # Another partition comes first each time, so that none starves when there are more than the limit.
        self._turn = (self._turn + 1) % len(feeds)
        feeds = feeds[self._turn :] + feeds[: self._turn]
        share = max(1, limit // len(feeds))
        found = [feed.first(share) for feed in feeds]
        left = limit - sum(map(len, found))
        for index, feed in enumerate(feeds):
            if left > 0 and len(found[index]) == share:
                more = feed.first(share + left)
                left -= len(more) - share
                found[index] = more
        self._balance()
        return [record for part in found for record in part][:limit]

    def settle(self, topic: str, positions: Mapping[int, int]) -> None:
        """The group has committed all up to these offsets. The servers hear of it within about a second."""
        for partition, offset in positions.items():
            place = (topic, partition)
            if self._settled.get(place) == offset + 1:
                continue
            self._settled[place] = offset + 1
            feed = self._feeds.get(place)
            if feed is not None:
                feed.settled = offset + 1
        if self._settled and self._committing is None:
            loop = asyncio.get_running_loop()
            self._committing = loop.call_later(_COMMIT_SECONDS, self._commit_now)

    async def release(self, topic: str, partitions: Sequence[int]) -> None:
        """Give up these partitions; waits until the servers know what is settled, for as long as a request may take."""
        places = [(topic, partition) for partition in partitions]
        for place in places:
            self._feeds.pop(place, None)
        self._fetcher.end(places)
        self._balance()
        if any(place in self._settled for place in places):
            done = self._commit_now()
            if done is not None:
                await asyncio.wait([done], timeout=self._settings.timeout_seconds)

    def _begin(self, place: Place, start: int | None) -> Feed:
        if start is None:
            # Settled here and perhaps not known to the servers yet.
            start = self._settled.get(place)
        old = self._feeds.get(place)
        if old is not None and old.paused:
            self._fetcher.resume(place)
        self._generation += 1
        feed = self._feeds[place] = Feed(self._generation, start)
        self._fetcher.begin(place, start, feed.generation)
        return feed

    def _arrived(self, generations: Generations, records: Sequence[Record]) -> None:
        by_place: dict[Place, list[Record]] = {}
        for record in records:
            place = (record.topic() or "", record.partition() or 0)
            if record.error() is None:
                by_place.setdefault(place, []).append(record)
            else:
                self._failed(generations, place, record)
        for place, found in by_place.items():
            feed = self._feeds.get(place)
            if feed is not None and generations.get(place) == feed.generation:
                feed.add(found)
        self._balance()
        for topic in {place[0] for place in by_place}:
            self._wake(topic)

    def _failed(self, generations: Generations, place: Place, record: Record) -> None:
        """The servers have said something about a partition instead of a record."""
        error = record.error()
        feed = self._feeds.get(place)
        if error is None or feed is None or generations.get(place) != feed.generation:
            return
        if error.code() != KafkaError._AUTO_OFFSET_RESET:
            feed.error = error.str()
            return
        if _NO_COMMITTED not in error.str().lower():
            topic, partition = place
            offset = "stored by the servers" if feed.start is None else feed.start
            LOG.warning(
                LogEvent.KAFKA_POSITION_GONE,
                f"Group {self._group!r} cannot go on at offset {offset} of {topic}/{partition}: the servers do not have it "
                f"({error.str()}). Older messages were deleted by the topic's retention, or the topic was made anew. It goes "
                "on with the earliest message that there is.",
                group=self._group,
                topic=topic,
                partition=partition,
                position=feed.start,
            )
        self._generation += 1
        feed.generation = self._generation
        self._fetcher.begin_earliest(place, feed.generation)

    def _balance(self) -> None:
        """Bound the memory (G11): hold when all buffers are full; pause one that is overfull while others are hungry."""
        if not self._feeds:
            self._fetcher.hold(False)
            return
        share = max(_LEAST_SHARE_BYTES, self._settings.buffer_bytes // 4 // len(self._feeds))
        full = 0
        for place, feed in self._feeds.items():
            if feed.size >= share:
                full += 1
                if not feed.paused and feed.size >= 2 * share and full < len(self._feeds):
                    feed.paused = True
                    self._fetcher.pause(place)
            elif feed.paused:
                feed.paused = False
                self._fetcher.resume(place)
        self._fetcher.hold(full == len(self._feeds))

    def _commit_now(self) -> asyncio.Future[bool] | None:
        if self._committing is not None:
            self._committing.cancel()
            self._committing = None
        if not self._settled:
            return None
        sent = dict(self._settled)
        done = self._fetcher.commit(sent)
        done.add_done_callback(lambda _: self._forget(sent, known=done.result()))
        return done

    def _forget(self, sent: Mapping[Place, int], *, known: bool) -> None:
        """What the servers know need not be told again; the rest is told with what is settled next."""
        if known:
            for place, offset in sent.items():
                if self._settled.get(place) == offset:
                    del self._settled[place]
