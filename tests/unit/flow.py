"""Fakes for the tests of relay, consumers and leases: a clock to set, faults to order, handlers with a script."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from headrace.broker import Broker, Received, Rejected, Topic
from headrace.codec import JsonCodec
from headrace.consumer import Consumer
from headrace.drivers.memory import MemoryBroker, MemoryDatabase, MemoryStorage
from headrace.envelope import Envelope, Message, new_id, now
from headrace.errors import BrokerUnavailable, DecodeError, StorageUnavailable
from headrace.leases import clock
from headrace.limits import Limits
from headrace.storage import Lease, LeaseGrant, State, Stored, Transaction
from headrace.subscriptions import Retry, Subscription
from headrace.telemetry import Telemetry

TYPE = "test.happened.v1"
FAST = Limits(poll_seconds=0.02, drain_seconds=5.0)
"""Hints are not relied on, so tests must not wait half a second for the floor."""

SOON = Retry(attempts=3, initial_seconds=0.01, factor=1.0, jitter=0.0)


@dataclass(frozen=True)
class Happened:
    n: int


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


async def until(predicate: Callable[[], bool]) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(5):
        while not predicate():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


def message(
    n: int, key: str | None = "k", *, topic: str = "t", type_: str = TYPE, data: bytes | None = None
) -> Message:
    """A message whose body is its number."""
    envelope = Envelope(id=new_id(), source="test", type=type_, time=now(), partitionkey=key)
    return Message(topic, key, envelope, b'{"n":%d}' % n if data is None else data)


class Storage(MemoryStorage):
    """Memory that cannot be reached when it is told so."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        super().__init__(database)
        self.down = False
        self.faults: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def _called(self, name: str) -> None:
        self.calls[name] += 1
        if self.down or self.faults[name] > 0:
            self.faults[name] -= 1
            raise StorageUnavailable(f"{name}: nobody listens")

    async def lease(self, queue: str, owner: str, *, partitions: int, seconds: float) -> LeaseGrant:
        self._called("lease")
        return await super().lease(queue, owner, partitions=partitions, seconds=seconds)

    async def ready(
        self,
        queue: str,
        partitions: Sequence[int],
        *,
        limit: int,
        paused_topics: Sequence[str] = (),
    ) -> Sequence[Stored]:
        self._called("ready")
        return await super().ready(queue, partitions, limit=limit, paused_topics=paused_topics)

    async def delete(self, positions: Sequence[int]) -> None:
        self._called("delete")
        await super().delete(positions)

    async def attempt(self, lease: Lease, stored: Stored) -> bool:
        self._called("attempt")
        return await super().attempt(lease, stored)

    def rows(self, queue: str, state: State | None = None) -> list[Stored]:
        """The rows of a queue in order."""
        rows = [row.stored() for row in self.database.rows.values() if row.queue == queue]
        return sorted((r for r in rows if state in (None, r.state)), key=lambda r: r.position)


class FlakyBroker(MemoryBroker):
    """Memory that records what is published, refuses what it is told to, and is away when it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.failures = 0
        self.batches: list[list[int]] = []
        self.refused: set[int] = set()
        self.reads: list[int] = []
        self.tries = 0
        self.before_publish: Callable[[], Awaitable[None]] | None = None

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        self.tries += 1
        if self.before_publish is not None:
            await self.before_publish()
        if self.down or self.failures > 0:
            self.failures -= 1
            raise BrokerUnavailable("nobody listens")
        refused = [i for i, m in enumerate(messages) if number(m) in self.refused]
        await super().publish([m for i, m in enumerate(messages) if i not in refused])
        self.batches.append([number(m) for i, m in enumerate(messages) if i not in refused])
        return [Rejected(i, "refused by the test.") for i in refused]

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        if self.down:
            raise BrokerUnavailable("nobody listens")
        found = await super().read(group, topic, after, limit=limit)
        self.reads.append(len(found))
        return found

    @property
    def published(self) -> list[int]:
        """The numbers of all messages stored, in order."""
        return [n for batch in self.batches for n in batch]


def number(one: Message) -> int:
    """The number that `message` was given; -1 for a body without one."""
    try:
        return JsonCodec().decode(one.data, Happened).n
    except DecodeError:
        return -1


class Handlers:
    """What stands in for the mediator: a transaction around a script. Records what was committed, in order."""

    def __init__(self, storage: MemoryStorage) -> None:
        self.storage = storage
        self.begun: list[int] = []
        self.done: list[int] = []
        self.batches: list[list[int]] = []
        """What was committed together."""
        self.keys: dict[str | None, list[int]] = {}
        self.script: Callable[[int], Awaitable[None]] | None = None
        self.failing: set[int] = set()
        self.running = 0
        self.most = 0
        self.after_commit: Callable[[int], Awaitable[None]] | None = None

    async def __call__(
        self, begin: Callable[[Transaction], Awaitable[Iterable[tuple[object, Message]]]], /
    ) -> None:
        transaction = self.storage.transaction()
        handled: list[tuple[str | None, int]] = []
        try:
            for event, message in await begin(transaction):
                assert isinstance(event, Happened)
                self.begun.append(event.n)
                self.running += 1
                self.most = max(self.most, self.running)
                try:
                    await self._handle(event.n)
                finally:
                    self.running -= 1
                await transaction.end_part()
                handled.append((message.key, event.n))
        except BaseException:
            await transaction.rollback()
            raise
        await transaction.commit()
        if handled:
            self.batches.append([n for _, n in handled])
        for key, n in handled:
            self.done.append(n)
            self.keys.setdefault(key, []).append(n)
            if self.after_commit is not None:
                await self.after_commit(n)

    async def _handle(self, n: int) -> None:
        if self.script is not None:
            await self.script(n)
        if n in self.failing:
            raise ValueError(f"{n} does not work")


class Setting:
    """A storage, a broker with a topic "t", and consumers of it."""

    def __init__(self, *, clock: Clock | None = None, partitions: int = 1) -> None:
        self.clock = clock
        self.partitions = partitions
        self.database = MemoryDatabase(clock=clock) if clock is not None else MemoryDatabase()
        self.storage = Storage(self.database)
        self.broker = FlakyBroker()
        self.telemetry = Telemetry("test")
        self.telemetry.logger = logging.getLogger("headrace")
        self.handlers = Handlers(self.storage)
        self.consumers: list[Consumer] = []

    async def __aenter__(self) -> Setting:
        await self.storage.start("test", partitions=4)
        await self.broker.start(self.storage)
        await self.broker.declare([Topic("t", self.partitions)])
        return self

    async def __aexit__(self, *_: object) -> None:
        self.storage.down = False
        for consumer in self.consumers:
            await consumer.stop()
        await self.broker.stop()
        await self.storage.stop()

    def consumer(
        self,
        *,
        owner: str = "one",
        types: Mapping[str, type[object]] | None = None,
        handlers: Handlers | None = None,
        limits: Limits = FAST,
        broker: Broker | None = None,
        retry: Retry = SOON,
        ordered: bool = True,
        concurrency: int = 8,
        timeout_seconds: float = 60.0,
        batch: int = 1,
    ) -> Consumer:
        """A consumer of group "g"."""
        subscription = Subscription(
            group="g",
            topics=("t",),
            retry=retry,
            ordered=ordered,
            concurrency=concurrency,
            timeout_seconds=timeout_seconds,
            batch=batch,
        )
        consumer = Consumer(
            subscription,
            storage=self.storage,
            broker=broker or self.broker,
            deliver=handlers or self.handlers,
            types={TYPE: Happened} if types is None else types,
            codec=JsonCodec(),
            owner=owner,
            limits=limits,
            telemetry=self.telemetry,
            now=self.clock or clock,
        )
        self.consumers.append(consumer)
        return consumer
