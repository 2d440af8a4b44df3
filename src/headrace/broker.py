"""The broker seam: what a message broker must do for Headrace, with the contract on each method."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.envelope import Message
    from headrace.storage import Storage


@dataclass(frozen=True, slots=True)
class BrokerGuarantees:
    """What a driver promises; the conformance kit reads it, the relay relies on it.

    Args:
        durable: a confirmed message survives a crash of the broker.
        atomic_batch: one `publish` call stores all of its messages or none, so that a failure never lets a later message
            of a key pass an earlier one. Without it the relay sends one message of a key at a time.
        max_body_bytes: the largest body accepted, None for no limit of the broker's own.
        in_storage: it keeps its topics in the app's storage, so the app must have one that it knows.
    """

    durable: bool
    atomic_batch: bool
    max_body_bytes: int | None = None
    in_storage: bool = False


@dataclass(frozen=True, slots=True)
class Topic:
    """A named log of messages, cut into partitions.

    Args:
        name: as notifications and subscriptions name it.
        partitions: fixed when the topic is first declared; default 8, enough for eight consumers at once and cheap on one.
    """

    name: str
    partitions: int = 8


@dataclass(frozen=True, slots=True)
class Received:
    """A message as read from a topic. `position` orders it in its partition; only the driver compares positions."""

    partition: int
    position: str
    message: Message


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message of a batch that the broker will never accept, and why. It becomes a dead letter of the outbox."""

    index: int
    reason: str


class Broker(Protocol):
    """A message broker that keeps topics as partitioned logs which groups read by position. Safe for concurrent use.

    All methods raise `BrokerUnavailable` (with the driver's error as cause) when the broker cannot be reached; a retry is
    safe, and may publish a message twice, which the inbox of a consumer absorbs.
    """

    @property
    def guarantees(self) -> BrokerGuarantees:
        """What this driver, as configured, promises."""
        ...

    async def start(self, storage: Storage | None) -> Sequence[str]:
        """Connect. `storage` is the app's, for brokers that live in it. Returns warnings for people, each a sentence."""
        ...

    async def stop(self) -> None:
        """Close connections after what is under way has ended. Later calls raise `BrokerUnavailable`. Can be started again."""
        ...

    async def declare(self, topics: Sequence[Topic]) -> None:
        """Make the topics that do not exist.

        Raises:
            TopicMismatch: a topic exists with another number of partitions.
        """
        ...

    async def partitions(self, topic: str) -> int:
        """The number of partitions of a declared topic; raises `TopicNotFound`."""
        ...

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        """Append messages to their topics, in this order within each partition, and wait once until all are confirmed.

        The partition is `partition_of(message, count)`. When it returns, every message that is not in the answer is
        stored as durably as declared. When it raises, some may be stored: the caller publishes all again, in order.
        Cancelling it leaves the same doubt.
        """
        ...

    async def read(
        self, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        """Messages behind the given positions (None: from the earliest retained), at most `limit`, in order per partition.

        Does not wait for messages: returns what is there. Never shows a message before all earlier ones of its partition
        can be seen. Reading settles nothing.
        """
        ...

    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        """A hint that the group has committed all up to these positions; a broker may forget what every group has settled."""
        ...

    async def backlog(self, topic: str, after: Mapping[int, str | None]) -> int:
        """How many messages stand behind the given positions."""
        ...

    def listen(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` (cheap, on the loop) after messages were published to the topic by this process, or seen from another.

        A hint only: readers poll besides. Returns a function that ends it.
        """
        ...


def partition_of(message: Message, count: int) -> int:
    """The partition of a message in a topic (or outbox) of `count` partitions: by key, else spread by id."""
    return stable_hash(message.key if message.key is not None else message.envelope.id) % count


def stable_hash(key: str) -> int:
    """A non-negative hash of a key that every process and language agrees on.

    Source: murmur2 of the UTF-8 bytes, sign bit cleared, as Kafka's default partitioner (KIP-480) does, so that other
    producers put the same key into the same partition.
    """
    data = key.encode()
    length = len(data)
    m = 0x5BD1E995
    h = (0x9747B28C ^ length) & 0xFFFFFFFF
    whole = length & ~3
    for (k,) in struct.iter_unpack("<I", data[:whole]):
        k = (k * m) & 0xFFFFFFFF
        k ^= k >> 24
        h = ((h * m) & 0xFFFFFFFF) ^ ((k * m) & 0xFFFFFFFF)
    rest = data[whole:]
    if rest:
        for index, byte in enumerate(rest):
            h ^= byte << (8 * index)
        h = (h * m) & 0xFFFFFFFF
    h ^= h >> 13
    h = (h * m) & 0xFFFFFFFF
    h ^= h >> 15
    return h & 0x7FFFFFFF
