"""The consumer of one subscription: broker to inbox to handlers, each group once, each key in order (G7, G8, G9).

Source: "Idempotent consumer", microservices.io; "Competing Consumers" and "Dead Letter Channel", Enterprise Integration
Patterns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.consumer.clashes import Clashes
from headrace.consumer.dedup_window import DedupWindow
from headrace.consumer.delivery import Deliver, Work
from headrace.consumer.topic import TopicConsumer
from headrace.errors import ConfigurationError
from headrace.leases import clock
from headrace.storage import group_queue
from headrace.text import said_by
from headrace.tracing import system_of
from headrace.worker import side_by_side

if TYPE_CHECKING:
    from headrace.broker import Broker, Topic
    from headrace.codec import Codec
    from headrace.limits import Limits
    from headrace.storage import Storage
    from headrace.subscriptions import Subscription
    from headrace.telemetry import Telemetry

__all__ = ["Consumer", "ConsumerStatus", "Deliver"]


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    """What a consumer does now.

    Args:
        running: between `start` and `stop`.
        group: the group's name.
        partitions: those that this process owns, by topic.
        in_memory: messages read and not yet finished.
        last_error: why a part of it is paused now, or None.
    """

    running: bool
    group: str
    partitions: Mapping[str, tuple[int, ...]]
    in_memory: int
    last_error: str | None


class Consumer:
    """Reads the topics of one subscription and runs the group's handlers.

    In each partition messages are handled one after another; partitions go on side by side, up to `concurrency`
    handlers. The position is committed together with the effects. A message that fails moves to storage, where later
    ones of its key wait behind it, and its partition flows on. Where a server is away, nothing fails: the work pauses.

    Args:
        subscription: with its group and topics settled.
        storage: keeps inbox, positions, leases and parked messages.
        broker: where the messages come from.
        deliver: runs the handlers of one message as one unit of work.
        types: the event classes of the group by type literal.
        codec: reads bodies.
        owner: the name of this process, unique.
        limits: `window`, `poll_seconds`, `lease_seconds` and `drain_seconds` are used.
        telemetry: the app's.
        topics: settings for topics, by name. Default none: they are as they are, or made with the defaults of `Topic`.
        lasting: the storage is the app's own, where parked messages are kept. Default True; False for books in the memory of an
            app without storage: the broker then keeps what is parked, and all that comes after it.
        now: the clock of leases; default `leases.clock`, another one in tests.

    Raises:
        ConfigurationError: the subscription names no group or no topic.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        storage: Storage,
        broker: Broker,
        deliver: Deliver,
        types: Mapping[str, type[object]],
        codec: Codec,
        owner: str,
        limits: Limits,
        telemetry: Telemetry,
        topics: Mapping[str, Topic] | None = None,
        lasting: bool = True,
        now: Callable[[], float] = clock,
    ) -> None:
        if subscription.group is None or not subscription.topics:
            raise ConfigurationError(
                f"A consumer needs a group and topics, and was given {subscription!r}: name both, as an app does from the "
                "handlers that are bound."
            )
        self.group = subscription.group
        self._subscription = subscription
        self._storage = storage
        self._broker = broker
        self._deliver = deliver
        self._types = types
        self._codec = codec
        self._owner = owner
        self._limits = limits
        self._telemetry = telemetry
        self._topics = topics or {}
        self._lasting = lasting
        self._now = now
        self._consumers: tuple[TopicConsumer, ...] = ()

    @property
    def status(self) -> ConsumerStatus:
        """What the consumer does now; does no I/O."""
        errors = [one.error for one in self._consumers if one.error is not None]
        return ConsumerStatus(
            running=bool(self._consumers),
            group=self.group,
            partitions={one.topic: one.partitions for one in self._consumers},
            in_memory=sum(one.in_memory for one in self._consumers),
            last_error=f"{type(errors[0]).__name__}: {said_by(errors[0])}" if errors else None,
        )

    @property
    def idle(self) -> bool:
        """True if this process has nothing to handle that it knows of."""
        return all(one.idle for one in self._consumers)

    def wake(self) -> None:
        """Hint that dead letters were redriven or dropped."""
        for one in self._consumers:
            one.wake()

    async def start(self) -> None:
        """Record the group's types, then start to consume in the background.

        Raises:
            StorageUnavailable: the types could not be recorded; nothing was started.
        """
        await self._storage.learn_types(self.group, sorted(self._types))
        # Made here and not in __init__: events and semaphores belong to the event loop that runs now.
        slots = asyncio.Semaphore(self._subscription.concurrency)
        clashes = Clashes()
        # Without a storage nobody counts on the inbox: a message that is older than it is no surprise.
        remembered = self._limits.inbox_retention_seconds if self._lasting else None
        window = DedupWindow(self.group, self._telemetry, remembered)
        self._consumers = tuple(
            self._on(topic, slots, clashes, window) for topic in self._subscription.topics
        )
        for one in self._consumers:
            one.start()

    async def stop(self, drain_seconds: float | None = None) -> None:
        """Begin no further message, let the running ones end within `drain_seconds`, then cancel the rest (G10).

        What was cancelled is rolled back and redelivered, without an attempt counted. A stop that is itself cancelled cancels
        them at once, and ends when they have ended.

        Args:
            drain_seconds: default that of the limits.
        """
        seconds = self._limits.drain_seconds if drain_seconds is None else drain_seconds
        consumers, self._consumers = self._consumers, ()
        await side_by_side([one.stop(seconds) for one in consumers])

    def _on(
        self, topic: str, slots: asyncio.Semaphore, clashes: Clashes, window: DedupWindow
    ) -> TopicConsumer:
        work = Work(
            self._subscription,
            self.group,
            topic,
            group_queue(self.group, topic),
            self._storage,
            self._deliver,
            self._types,
            self._codec,
            self._telemetry,
            slots,
            clashes,
            window=window,
            system=system_of(self._broker),
        )
        return TopicConsumer(
            work,
            self._broker,
            owner=self._owner,
            limits=self._limits,
            topics=self._topics,
            now=self._now,
            lasting=self._lasting,
        )
