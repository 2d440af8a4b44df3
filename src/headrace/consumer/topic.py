"""A group's work on one topic: what is read from the broker, beside what is parked in storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from headrace.backoff import Backoff
from headrace.broker import Reading
from headrace.consumer.queue import QueueConsumer
from headrace.consumer.unsettled import parked_in
from headrace.consumer.window import Window
from headrace.errors import BrokerUnavailable, PartitionStands, TopicNotFound
from headrace.telemetry import LogEvent
from headrace.topics import ensure_topic
from headrace.tracing import receive, settle

if TYPE_CHECKING:
    from headrace.broker import Broker, Topic
    from headrace.consumer.delivery import Work
    from headrace.consumer.lane import Lane
    from headrace.leases import Leases
    from headrace.limits import Limits


class TopicConsumer(QueueConsumer):
    """Feeds the lanes of a topic's partitions from the broker, besides what is parked in storage.

    Args:
        work: what the group does with the messages.
        broker: where they come from.
        owner: the name of this process.
        limits: `window`, `poll_seconds` and `lease_seconds` are used.
        topics: settings for topics, by name.
        now: the clock of leases.
        lasting: what is parked outlives this process.
    """

    def __init__(
        self,
        work: Work,
        broker: Broker,
        *,
        owner: str,
        limits: Limits,
        topics: Mapping[str, Topic],
        now: Callable[[], float],
        lasting: bool,
    ) -> None:
        super().__init__(work, owner=owner, limits=limits, partitions=0, now=now)
        self._broker = broker
        self._topics = topics
        self._unlisten: Callable[[], None] | None = None
        self._read_at = 0.0
        self._settled: dict[int, str] = {}
        self._broker_backoff = Backoff()
        self._lasting = lasting
        self._parked_at = 0.0

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._work.topic

    async def stop(self, drain_seconds: float) -> None:
        """See `QueueConsumer.stop`."""
        try:
            await super().stop(drain_seconds)
        finally:
            if self._unlisten is not None:
                self._unlisten()
                self._unlisten = None
            self._settled.clear()

    async def _prepare(self) -> Leases:
        self._count = await self._declare()
        if self._unlisten is None:
            self._unlisten = self._broker.listen(self._work.group, self.topic, self._worker.wake)
        return await super()._prepare()

    async def _declare(self) -> int:
        # Makes the group known to the broker, which keeps from then on what the group has not settled.
        reading = Reading(self._work.group, self.topic)
        return await ensure_topic(self._broker, self._topics, self.topic, [reading])

    async def _declare_again(self, gone: TopicNotFound) -> None:
        """Somebody deleted the topic, or what the group had for it: until it is made again, messages pass the group."""
        count = await self._declare()
        self._work.telemetry.warning(
            LogEvent.DECLARED_AGAIN,
            f"{self._work.title} found that something was deleted on the broker, and declared it again. What nobody had "
            f"handled before is lost with it. ({gone})",
            group=self._work.group,
            topic=self.topic,
        )
        if count != self._count and self._leases is not None:
            # Its lanes end when they find their leases gone; the next round begins with the new partitions.
            leases, self._leases = self._leases, None
            await leases.stop()

    async def _read(self) -> bool:
        """Read for the lanes that have nothing."""
        if self._loop_time() < self._read_at:
            return False
        try:
            await self._settle()
            lanes = {
                p: lane
                for p, lane in self._usable_lanes().items()
                if not lane.fresh and not self._stands(lane)
            }
            if not lanes:
                return False
            room = Window(
                self._limits.window,
                {p: len(lane.fresh) for p, lane in self._lanes.items()},
                least=self._work.subscription.batch,
            )
            limit = room.for_all(lanes)
            after = {p: lane.finished for p, lane in lanes.items()}
            messages, read_in = await receive(
                *(self._broker, self._work.group, self.topic, after),
                limit=limit,
                telemetry=self._work.telemetry,
            )
        except BrokerUnavailable as error:
            # Parked messages need no broker: only the reading pauses.
            self._outage.failed(error, "broker")
            self._read_at = self._loop_time() + self._broker_backoff.next()
            return False
        except TopicNotFound as error:
            self._read_at = self._loop_time() + self._broker_backoff.next()
            await self._declare_again(error)
            return False
        self._broker_backoff.reset()
        self._outage.over("broker")
        for received in messages:
            lane = lanes[received.partition]
            if self._lanes.get(received.partition) is lane and room.take(received.partition):
                lane.fresh.append(received)
                lane.received_in = read_in
        return len(messages) >= limit

    async def _settle(self) -> None:
        if self._loop_time() >= self._parked_at:
            await self._look_at_unsettled(self._lanes.values())
        news = {
            p: position
            for p, position in self._settles(self._lanes.values()).items()
            if self._settled.get(p) != position
        }
        if news:
            telemetry = self._work.telemetry
            await settle(self._broker, self._work.group, self.topic, news, telemetry)
            self._settled.update(news)

    def _settles(self, lanes: Iterable[Lane]) -> dict[int, str]:
        """How far the broker may be told that these are done."""
        found: dict[int, str] = {}
        for lane in lanes:
            position = lane.finished if self._lasting else lane.unsettled.settles(lane.finished)
            if position is not None:
                found[lane.lease.partition] = position
        return found

    async def _look_at_unsettled(self, lanes: Iterable[Lane]) -> None:
        """Find out of which of these nothing is parked any more."""
        open_ = {lane.lease.partition: lane.unsettled for lane in lanes if lane.unsettled.open}
        if self._lasting or not open_:
            return
        self._parked_at = self._loop_time() + self._limits.poll_seconds
        times = {p: unsettled.times for p, unsettled in open_.items()}
        parked = await parked_in(self._work.storage, self._work.queue, open_)
        for partition, unsettled in open_.items():
            if partition not in parked:
                unsettled.none_left(times[partition])

    def _stands(self, lane: Lane) -> bool:
        """True if so much was handled behind a message that is parked in memory that the partition takes no more (G9)."""
        if self._lasting:
            return False
        part, unsettled = ("unsettled", lane.lease.partition), lane.unsettled
        if not unsettled.open or unsettled.count < self._limits.window:
            self._outage.over(part)
            return False
        self._outage.failed(
            PartitionStands(
                f"partition {lane.lease.partition} has a message that failed, and the app has no storage to put it aside: "
                f"{unsettled.count} messages were handled behind it, and the broker was told of none. Redrive or drop the "
                "dead letter, or pass storage=... to keep such messages apart"
            ),
            part,
        )
        return True

    async def _left(self, lanes: Sequence[Lane]) -> None:
        """Tell the broker how far these came and that they read no more."""
        if not lanes:
            return
        group, partitions = self._work.group, [lane.lease.partition for lane in lanes]
        for partition in partitions:
            self._settled.pop(partition, None)
        try:
            await self._look_at_unsettled(lanes)
            await settle(
                self._broker, group, self.topic, self._settles(lanes), self._work.telemetry
            )
            await self._broker.release(group, self.topic, partitions)
        except Exception as error:
            self._work.telemetry.info(
                LogEvent.NOT_SETTLED,
                f"The broker was not told how far group {group!r} came on topic {self.topic!r} "
                f"({type(error).__name__}: {error}); whoever reads next may see repeats, which have no effect.",
                group=group,
                topic=self.topic,
            )
