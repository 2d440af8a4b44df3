"""The broker seam: what a message broker must do for Headrace, with the contract on each method."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from msgspec import Struct

if TYPE_CHECKING:
    from headrace.envelope import Message
    from headrace.storage import Storage


@dataclass(frozen=True, slots=True)
class BrokerGuarantees:
    """What a driver promises; the conformance kit reads it, the relay relies on it.

    Args:
        durable: a confirmed message survives a crash of the broker.
        ordered_batch: whatever fails, one `publish` call never stores a message behind which an earlier one of its key is
            missing: of each partition it stores all, none, or the first so many, and what stands behind a refused message of
            its key is refused too, not finally. Without it the relay sends one message of a key at a time.
        retains: messages stay after a group has settled them, so that a new group starts at the earliest retained one.
            Without it a group receives what is published after it was declared.
        max_body_bytes: the largest body accepted, None for no limit of the broker's own.
        in_storage: it keeps its topics in the app's storage, so the app must have one that it knows.
        makes_topics: `declare` makes what is missing. False: as configured it only says what is missing.
    """

    durable: bool
    ordered_batch: bool
    retains: bool = True
    max_body_bytes: int | None = None
    in_storage: bool = False
    makes_topics: bool = True


PARTITIONS = 8
"""Partitions of a topic that nobody gave a number: enough for eight consumers at once and cheap on one."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A named log of messages, cut into partitions.

    Args:
        name: as notifications and subscriptions name it.
        partitions: fixed when the topic is first declared. Default None: as many as the topic has, `PARTITIONS` if it has
            to be made.
    """

    name: str
    partitions: int | None = None


class Reading(Struct, frozen=True):
    """One group's reading of one topic: what a group needs from a broker is declared for it."""

    group: str
    topic: str


class Received(Struct, frozen=True):
    """A message as read from a topic. `position` orders it in its partition; only the driver compares positions."""

    partition: int
    position: str
    message: Message


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message of a batch that was not stored, and why.

    Args:
        index: its place in the batch.
        reason: a sentence for people.
        final: True: the broker will never accept it, and it becomes a dead letter of the outbox. False: it is accepted
            later (no queue is bound, a leader is away); it stays in the outbox and its topic pauses, while others flow.
    """

    index: int
    reason: str
    final: bool = True


class Broker(Protocol):
    """A message broker that keeps topics as partitioned logs which groups read by position. Safe for concurrent use.

    Who reads which partition is decided by leases in storage; a broker only needs to give the messages of a partition in
    order to whoever asks. One that pushes messages (RabbitMQ) or fetches them ahead (Kafka) keeps for each reading a
    bounded buffer, which `read` looks into, `settle` empties and `release` gives up.

    All methods raise `BrokerUnavailable` (with the driver's error as cause) when the broker cannot be reached; a retry is
    safe, and may publish a message twice, which the inbox of a consumer absorbs. After an outage a driver reconnects by
    itself.
    """

    @property
    def guarantees(self) -> BrokerGuarantees:
        """What this driver, as configured, promises."""
        ...

    async def start(self, storage: Storage | None) -> Sequence[str]:
        """Connect. `storage` is the app's, for brokers that live in it. Returns warnings for people, each a sentence.

        Several apps of a process may start one object, on one event loop; each of them stops it once. A broker that lives in
        a storage is one app's.
        """
        ...

    async def stop(self) -> None:
        """When each app that started it has stopped it: close connections after what is under way has ended.

        Later calls raise `BrokerUnavailable`. Can be started again.
        """
        ...

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        """Make the topics that do not exist and, of topics that do, what groups need to read them.

        A broker that keeps messages for each group (RabbitMQ) keeps them from now on. Where the driver may not make
        anything it checks instead.

        Args:
            topics: those to make.
            readings: which group reads which topic; the topics exist or are among `topics`.

        Raises:
            TopicMismatch: a topic exists with another number of partitions than was asked for.
            TopicNotFound: something is missing that the driver may not make; says what.
        """
        ...

    async def partitions(self, topic: str) -> int:
        """The number of partitions of a topic that exists; raises `TopicNotFound`."""
        ...

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        """Append messages to their topics, in this order within each partition, and wait once until all are confirmed.

        The partition is `partition_of(message, count)`. When it returns, every message that is not in the answer is
        stored as durably as declared. When it raises, some may be stored: the caller publishes all again, in order.
        Cancelling it leaves the same doubt.

        Raises:
            TopicNotFound: a message's topic was not declared.
        """
        ...

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        """Messages behind the given positions, at most `limit`, in order per partition.

        Does not wait for messages: returns what is there by now, which may be less than what was published a moment ago;
        the first call for a partition may begin to fetch and return nothing. Never shows a message before all earlier ones
        of its partition. Reading settles nothing: the same positions give the same messages again.

        Args:
            group: who reads.
            topic: what.
            after: the partitions to read and the position of the last message handled in each. None: from where the
                broker remembers this group to have settled, if it does; else from the earliest retained message. A
                position that is not of this broker's current log (a queue was connected anew) counts as None.
            limit: the most messages in the answer.
        """
        ...

    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        """The group has committed all up to these positions: the broker may forget them, as far as this group goes.

        Cheap: called after each round of work. A driver to which each call costs a round trip gathers them for a moment.
        Positions that are not of the current log are ignored.
        """
        ...

    async def release(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        """This process reads these partitions no longer: tell the broker what is settled, give up what is buffered.

        What was read and not settled goes, in order, to whoever reads next. Partitions that were not read are no error.
        """
        ...

    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        """How many messages stand behind the given positions for this group, as well as the broker can tell."""
        ...

    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` (cheap, on the loop) when there may be new messages to read, of this process or of others.

        A hint only: readers poll besides. Returns a function that ends it.
        """
        ...


@runtime_checkable
class SearchableLog(Protocol):
    """What a broker may have besides: it can look into its topics for a message, so that `explain` shows it there.

    A diagnostic: it may read a whole topic, in bounded parts, and holds nothing up.
    """

    async def search(
        self,
        topic: str,
        *,
        id: str | None = None,  # noqa: A002 - CloudEvents' own name
        key: str | None = None,
        correlation: str | None = None,
        limit: int = 100,
    ) -> Sequence[Received]:
        """The latest retained messages of a topic to which all that is given applies, in order within each partition.

        Args:
            topic: where to look.
            id: of the envelope.
            key: of the message.
            correlation: the `correlationid` of the envelope: of all that one outside request caused.
            limit: how many at most, of each partition.

        Raises:
            TopicNotFound: there is no such topic.
        """
        ...


class Wire(Struct, frozen=True, kw_only=True):
    """Where a broker's messages are found by programs that do not use Headrace: for documents, so nothing secret is in it.

    Args:
        protocol: as AsyncAPI names it, such as "kafka", "kafka-secure", "amqps" or "nats".
        servers: each as `host:port`, without user and password.
        path: behind them: a virtual host or the number of a database; default none.
        header_prefix: of the headers that hold CloudEvents attributes, such as "ce_".
        address: of a partition, from the topic and the text that stands for the number of the partition.
        exchange: of a topic on a broker that has exchanges, else None.
        queue: of a group's reading, as `address`, from group, topic and partition, on a broker with a queue for each.
    """

    protocol: str
    servers: tuple[str, ...]
    header_prefix: str
    address: Callable[[str, str], str]
    path: str = ""
    exchange: Callable[[str], str] | None = None
    queue: Callable[[str, str, str], str] | None = None


@runtime_checkable
class Wired(Protocol):
    """What a broker with servers of its own may have besides: it tells where its messages are. Does no I/O."""

    def wire(self) -> Wire:
        """See `Wire`."""
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
