"""`KafkaBroker`: topics on servers that speak the Kafka protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from headrace.broker import BrokerGuarantees, Reading, Received, Rejected, Topic, Wire
from headrace.drivers.kafka.backlog import count_behind
from headrace.drivers.kafka.names import server_name
from headrace.drivers.kafka.publisher import PREFIX, Publisher
from headrace.drivers.kafka.reader import GroupReader
from headrace.drivers.kafka.records import Records
from headrace.drivers.kafka.settings import LOG, Sasl, Settings, Tls, Value, servers_of
from headrace.drivers.kafka.topology import Found, Topology
from headrace.drivers.kafka.url import from_url
from headrace.drivers.listeners import Listeners
from headrace.drivers.users import Users
from headrace.errors import BrokerUnavailable
from headrace.telemetry import LogEvent

if TYPE_CHECKING:
    from headrace.envelope import Envelope, Message
    from headrace.storage import Storage
    from headrace.wire import Raw

T = TypeVar("T")

_REACHED_SECONDS: Final = 1.0


class KafkaBroker:
    """Topics on servers that speak the Kafka protocol, through confluent-kafka. A message is a record.

    Leases in storage decide who reads a partition, so no Kafka group is joined; what a group has settled is committed under
    its name all the same, for tools that show lag and for groups whose storage is new.

    It is stopped when each app that started it has stopped it.

    Args:
        servers: where to connect first: `"kafka1:9092,kafka2"` or a sequence of such.
        tls: speak TLS, with these certificates. Default None: plain text.
        sasl: log in. Default None: nobody does. For OAUTHBEARER see `config`.
        client_name: as it appears in the servers' logs and quotas; default "headrace".
        prefix: put before the names of topics and groups, for several apps or stages on the same servers; default "".
        declare: "make" (the default) makes topics that are missing; "check" only says what is missing and how to make it.
        replication: copies of topics that are made. Default None: as the servers are configured.
        topic_config: settings of topics that are made, such as `{"retention.ms": "604800000"}`.
        publish_seconds: after how long `publish` answers without all confirmations; default 10.
        timeout_seconds: for connecting and for any other request; default 5.
        max_body_bytes: the largest body; default 950 000, which with its attributes fits the servers' default of 1 MiB. With
            more, topics are made with a larger `max.message.bytes`.
        buffer_bytes: memory for records that are fetched ahead, for each group; default 32 MiB.
        idempotence: the servers keep the order when connections break. Default True; False is for servers that do not know
            it, and then the relay sends one message of a key at a time.
        foreign: what records of other producers mean that are no CloudEvents; see `WireFormat`. Default None.
        config: settings of librdkafka, which win over these, such as `{"compression.type": "lz4"}` or an `oauth_cb`. Those
            that would break a guarantee are refused.

    Raises:
        ConfigurationError: a setting cannot be used.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        tls: Tls | None = None,
        sasl: Sasl | None = None,
        client_name: str = "headrace",
        prefix: str = "",
        declare: Literal["make", "check"] = "make",
        replication: int | None = None,
        topic_config: Mapping[str, str] | None = None,
        publish_seconds: float = 10.0,
        timeout_seconds: float = 5.0,
        max_body_bytes: int = 950_000,
        buffer_bytes: int = 32 * 1024 * 1024,
        idempotence: bool = True,
        foreign: Callable[[Raw], Envelope | None] | None = None,
        config: Mapping[str, Value] | None = None,
    ) -> None:
        self._settings = Settings(
            servers=servers_of(servers),
            tls=tls,
            sasl=sasl,
            client_name=client_name,
            prefix=prefix,
            declare=declare,
            replication=replication,
            topic_config=dict(topic_config or {}),
            publish_seconds=publish_seconds,
            timeout_seconds=timeout_seconds,
            max_body_bytes=max_body_bytes,
            buffer_bytes=buffer_bytes,
            idempotence=idempotence,
            config=dict(config or {}),
        )
        self._records = Records(foreign)
        self._running = False
        self._users = Users(self._open, self._close)
        self._topology: Topology | None = None
        self._publisher: Publisher | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._readers: dict[str, GroupReader] = {}
        self._opening = asyncio.Lock()
        self._counts: dict[str, int] = {}
        self._listeners: Listeners[tuple[str, str]] = Listeners()
        self._reached_at = 0.0

    @classmethod
    def from_url(cls, url: str) -> KafkaBroker:
        """The broker for `kafka://user:password@h1:9092,h2?setting=value`; `kafkas://` speaks TLS.

        Raises:
            ConfigurationError: there is no such setting, or a value cannot be used.
        """
        servers, arguments = from_url(url)
        return cls(servers, **arguments)  # type: ignore[arg-type]  # read by the table of settings

    def __repr__(self) -> str:
        return f"KafkaBroker({self._settings.where!r})"

    @property
    def guarantees(self) -> BrokerGuarantees:
        """As durable as the topics' copies are; in order whatever fails, with `idempotence`."""
        return BrokerGuarantees(
            durable=True,
            ordered_batch=self._settings.idempotence,
            max_body_bytes=self._settings.max_body_bytes,
            makes_topics=self._settings.declare == "make",
        )

    async def start(self, storage: Storage | None) -> Sequence[str]:
        """See `Broker.start`. The storage is not used. Call `stop` once for each start."""
        return await self._users.enter()

    async def _open(self) -> Sequence[str]:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="headrace kafka")
        self._opening = asyncio.Lock()  # of this loop: an app may be started again on another
        self._topology = await self._in_thread(partial(Topology, self._settings))
        self._publisher = Publisher(self._settings, self._count, self._forget)
        await self._publisher.open()
        servers = await self._servers(self._topology, self._publisher)
        self._running = True
        if servers > 1:
            return ()
        return (
            f"The Kafka cluster at {self._settings.where} has one server: what it has confirmed is lost if its disk is lost.",
        )

    async def stop(self) -> None:
        """See `Broker.stop`. Positions that were settled are committed, as far as the servers can be reached."""
        await self._users.leave()

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        """See `Broker.declare`. Readings need nothing of their own: a topic keeps its messages for all.

        Raises:
            ConfigurationError: the servers refuse a topic's name or settings.
        """
        topology = self._connected()
        if not topics and not readings:
            return
        needed = list(dict.fromkeys(reading.topic for reading in readings))
        found = await self._in_thread(partial(topology.declare, topics, needed))
        for name, there in found.items():
            self._learn(name, there)

    async def partitions(self, topic: str) -> int:
        """See `Broker.partitions`."""
        self._connected()
        return await self._count(topic)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        """See `Broker.publish`."""
        self._connected()
        if self._publisher is None:
            raise self._stopped()
        return await self._publisher.publish(messages)

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        """See `Broker.read`. Positions are offsets."""
        self._connected()
        if topic not in self._counts:
            await self._count(topic)
        name = server_name(topic, self._settings.prefix)
        reader = await self._reader(group)
        records = reader.read(name, {p: _offset(position) for p, position in after.items()}, limit)
        if not records:
            await self._check(reader, topic, name, list(after))
        return [self._records.received(topic, record) for record in records]

    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        """See `Broker.settle`. Committed at most once a second, and at `release` and `stop`."""
        self._connected()
        offsets = {p: _offset(position) for p, position in positions.items()}
        known = {p: offset for p, offset in offsets.items() if offset is not None}
        if known:
            reader = await self._reader(group)
            reader.settle(server_name(topic, self._settings.prefix), known)

    async def release(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        """See `Broker.release`."""
        self._connected()
        reader = self._readers.get(group)
        if reader is not None:
            await reader.release(server_name(topic, self._settings.prefix), list(partitions))

    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        """See `Broker.backlog`. Counts offsets, gaps of compaction included."""
        self._connected()
        await self._count(topic)
        if not after:
            return 0
        name = server_name(topic, self._settings.prefix)
        behind = {p: _offset(position) for p, position in after.items()}
        return await self._in_thread(partial(count_behind, self._settings, group, name, behind))

    def wire(self) -> Wire:
        """See `Wired.wire`. A topic has one address; the partition is not part of it."""
        settings = self._settings
        return Wire(
            protocol="kafka-secure" if settings.tls is not None else "kafka",
            servers=settings.servers,
            header_prefix=PREFIX,
            address=lambda topic, _: server_name(topic, settings.prefix),
        )

    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """See `Broker.listen`. Wakes when something of the partitions that are read has arrived here."""
        return self._listeners.add((group, server_name(topic, self._settings.prefix)), wake)

    async def _servers(self, topology: Topology, publisher: Publisher) -> int:
        try:
            return await self._in_thread(topology.servers)
        except BrokerUnavailable as error:
            if publisher.why is None:
                raise
            # The producer's connections fail for the same reason, and it was told which: a certificate, a login.
            raise BrokerUnavailable(f"{error.args[0]} ({publisher.why})") from error

    async def _reader(self, group: str) -> GroupReader:
        reader = self._readers.get(group)
        if reader is not None and not reader.ended:
            return reader
        async with self._opening:
            self._connected()
            reader = self._readers.get(group)
            if reader is None or reader.ended:
                reader = GroupReader(self._settings, group, partial(self._woken, group))
                # Kept before it is open: whoever stops closes it, also if this call is cancelled.
                self._readers[group] = reader
                try:
                    await reader.open()
                except Exception:
                    # It would read nothing for ever, and nobody would be told again.
                    del self._readers[group]
                    raise
            return reader

    def _woken(self, group: str, name: str) -> None:
        self._listeners.wake([(group, name)])

    async def _check(
        self, reader: GroupReader, topic: str, name: str, partitions: list[int]
    ) -> None:
        """Nothing came: because there is nothing, or because something is wrong?"""
        trouble = reader.trouble(name, partitions)
        if trouble is not None:
            self._forget(topic)
            await self._count(topic)
            raise BrokerUnavailable(
                f"topic {topic!r} cannot be read from {self._settings.where}: {trouble}."
            )
        if reader.down is None:
            return
        now = asyncio.get_running_loop().time()
        if now - self._reached_at < _REACHED_SECONDS:
            return
        # A connection was lost, which also happens to idle ones. Whether the servers are there is found out by asking.
        await self._in_thread(partial(self._connected().find, name))
        self._reached_at = asyncio.get_running_loop().time()
        reader.up()

    async def _count(self, topic: str) -> int:
        count = self._counts.get(topic)
        if count is not None:
            return count
        topology = self._connected()
        name = server_name(topic, self._settings.prefix)
        found = await self._in_thread(partial(topology.find, name))
        if found is None:
            raise await self._in_thread(partial(topology.not_found, topic))
        self._learn(topic, found)
        return found.partitions

    def _learn(self, topic: str, found: Found) -> None:
        if topic not in self._counts and found.copies < 2:
            LOG.info(
                LogEvent.KAFKA_ONE_COPY,
                f"Topic {topic!r} has one copy: it is lost with the disk of its server.",
                topic=topic,
            )
        self._counts[topic] = found.partitions

    def _forget(self, topic: str) -> None:
        self._counts.pop(topic, None)

    async def _close(self) -> None:
        self._running = False
        readers, self._readers = list(self._readers.values()), {}
        publisher, self._publisher = self._publisher, None
        topology, self._topology = self._topology, None
        threads, self._threads = self._threads, None
        publishing = () if publisher is None else (publisher.stop(),)
        await asyncio.gather(*publishing, *(reader.close() for reader in readers))
        if threads is not None:
            loop = asyncio.get_running_loop()
            if topology is not None:
                await loop.run_in_executor(threads, topology.close)
            await asyncio.to_thread(threads.shutdown)
        self._counts.clear()
        self._listeners.clear()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._threads is None:
            raise self._stopped()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _connected(self) -> Topology:
        if self._topology is None or (not self._running and self._publisher is None):
            raise self._stopped()
        return self._topology

    def _stopped(self) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"the broker on {self._settings.where} is not running: `await broker.start(storage)` first."
        )


def _offset(position: str | None) -> int | None:
    """A position of this log, or None for any that is not."""
    return int(position) if position is not None and position.isdecimal() else None
