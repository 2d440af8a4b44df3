"""`RabbitBroker`: a `Broker` on RabbitMQ."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

from headrace.broker import BrokerGuarantees, Reading, Received, Rejected, Topic, Wire, partition_of
from headrace.drivers.listeners import Listeners
from headrace.drivers.rabbitmq.headers import PREFIX, Reader
from headrace.drivers.rabbitmq.link import FAILURES, Link
from headrace.drivers.rabbitmq.names import Names
from headrace.drivers.rabbitmq.publisher import Publisher, Routed
from headrace.drivers.rabbitmq.readings import Readings
from headrace.drivers.rabbitmq.settings import (
    AUTH,
    DECLARE,
    QUEUES,
    Auth,
    Declare,
    Queues,
    Tls,
    above_zero,
    one_of,
    servers_of,
    settings_of,
)
from headrace.drivers.rabbitmq.topology import Topology
from headrace.drivers.users import Users
from headrace.envelope import Envelope, Message
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicNotFound

if TYPE_CHECKING:
    from headrace.storage import Storage
    from headrace.wire import Raw

_OLDEST: Final = (3, 8)
"""The first version with single active consumers, which keep two readers from sharing a queue."""

_PREFETCH: Final = 500
"""Never to be changed for quorum queues. They put what a reader gives back behind what others gave back before, so their
order holds only while each reader takes all of it at once. (Tried on 3.10: 200 given back, 50 of them taken and given back
by the next reader: the third one got the 51st first. Classic queues put each in its old place.)"""

_MOST_PREFETCH: Final = 65_535


@dataclass(slots=True)
class _Parts:
    """What lives from start to stop, on one event loop. `busy` counts the calls that are under way."""

    to_publish: Link
    to_read: Link
    topology: Topology
    publisher: Publisher
    readings: Readings
    busy: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class RabbitBroker:
    """Topics as exchanges of RabbitMQ 3.8 or later, with a queue for each group and partition.

    A group receives what is published after it was declared; a message that no group would receive is refused, and stays in
    the outbox. Positions count within one opening of a channel: after a lost connection what was not settled comes
    again, in order, and the inbox knows it.

    It is stopped when each app that started it has stopped it.

    Args:
        url: `amqp://user:password@host:5672/vhost`, with `amqps://` for TLS; several hosts of a cluster as `host1,host2`, or
            as a list of URLs. Default: the server on this machine, as `guest`.
        user: instead of the one in the URL.
        password: instead of the one in the URL.
        auth: "plain", the default, with user and password; "external" with the client's certificate.
        tls: for `amqps://`; an `ssl.SSLContext` of your own does too. Default: the system's authorities, verified.
        client_name: how the connections are named in the management UI. Default: "headrace" and the process's number.
        heartbeat_seconds: the server ends a connection that is silent for one to two of these. Default 10: a process that
            hangs loses its queues about when its leases (15 s) end; less risks connections of merely busy processes.
        timeout_seconds: the longest wait for a connection, for an answer, and for the next confirmation of a batch. Default
            10.0: longer than a failover takes on a healthy cluster.
        prefetch: messages that the server pushes for each partition ahead of their handling. Default 500: covers
            batches of 500, and bounds memory at so many bodies a partition. With quorum queues it cannot be changed.
        queues: "classic", the default, or "quorum", replicated in a cluster. Fixed when a queue is made.
        declare: "make", the default, or "check": make nothing and say what is missing.
        max_body_bytes: larger messages are refused before they are sent. Default 16 MiB (16 777 216): what RabbitMQ 4
            takes as it comes. If the server takes less, that is learnt from its first refusal.
        prefix: begins every name on the server. Default none; for servers that several installations share.
        foreign: makes the envelope of a message that is no CloudEvent; None, the default, skips such messages.

    Raises:
        ConfigurationError: a setting has a value that cannot be used.
    """

    system = "rabbitmq"
    """Its name in spans and metrics."""

    def __init__(
        self,
        url: str | Sequence[str] = "amqp://localhost",
        *,
        user: str | None = None,
        password: str | None = None,
        auth: Auth = "plain",
        tls: Tls | ssl.SSLContext | None = None,
        client_name: str | None = None,
        heartbeat_seconds: int = 10,
        timeout_seconds: float = 10.0,
        prefetch: int = _PREFETCH,
        queues: Queues = "classic",
        declare: Declare = "make",
        max_body_bytes: int = 16 * 1024 * 1024,
        prefix: str = "",
        foreign: Callable[[Raw], Envelope | None] | None = None,
    ) -> None:
        one_of("auth", auth, AUTH)
        one_of("queues", queues, QUEUES)
        one_of("declare", declare, DECLARE)
        above_zero(
            heartbeat_seconds=heartbeat_seconds,
            timeout_seconds=timeout_seconds,
            prefetch=prefetch,
            max_body_bytes=max_body_bytes,
        )
        if prefetch > _MOST_PREFETCH:
            raise ConfigurationError(
                f"RabbitBroker(prefetch={prefetch}): {_MOST_PREFETCH} is the most that the protocol has room for."
            )
        if queues == "quorum" and prefetch != _PREFETCH:
            raise ConfigurationError(
                f"RabbitBroker(queues='quorum', prefetch={prefetch}): with quorum queues it is always {_PREFETCH}. A reader that "
                "holds fewer messages than the one before it gave back would leave the rest to come before its own, when it "
                "gives these back. Leave it out, or use classic queues."
            )
        self._servers = servers_of(
            url,
            user=user,
            password=password,
            auth=auth,
            client_name=client_name or f"headrace {os.getpid()}",
            heartbeat_seconds=heartbeat_seconds,
        )
        self._context = _context(tls, self._servers[0].shown)
        self._timeout_seconds = timeout_seconds
        self._prefetch = prefetch
        self._queues: Queues = queues
        self._declare: Declare = declare
        self._max_body_bytes = max_body_bytes
        self._names = Names(Names().exchange(prefix) if prefix else "")
        self._reader = Reader(foreign)
        self._listeners: Listeners[tuple[str, str]] = Listeners()
        self._users = Users(self._open, self._close)
        self._parts: _Parts | None = None

    @classmethod
    def from_url(cls, url: str) -> RabbitBroker:
        """A broker of a URL whose query has settings: `amqp://host/vhost?queues=quorum&prefetch=100`.

        Settings are the keyword arguments of this class, and `ca`, `cert`, `key`, `key_password` and `verify` for TLS.

        Raises:
            ConfigurationError: a setting is unknown or cannot have this value.
        """
        address, settings = settings_of(url)
        return cls(address, **cast("dict[str, Any]", settings))

    def __repr__(self) -> str:
        return f"RabbitBroker({', '.join(server.shown for server in self._servers)})"

    @property
    def guarantees(self) -> BrokerGuarantees:
        """Durable; a refused message does not stop those behind it; messages are gone when their group has settled them."""
        return BrokerGuarantees(
            durable=True,
            ordered_batch=False,
            retains=False,
            max_body_bytes=self._max_body_bytes,
            makes_topics=self._declare == "make",
        )

    async def start(self, storage: Storage | None) -> Sequence[str]:
        """See `Broker.start`. Call `stop` once for each start.

        Raises:
            ConfigurationError: the server is older than 3.8, or is no RabbitMQ.
        """
        return await self._users.enter()

    async def _open(self) -> Sequence[str]:
        self._parts = self._assemble()
        connection = await self._parts.to_read.connection()
        return _judge(connection.server_properties)

    async def stop(self) -> None:
        """See `Broker.stop`. The last user's stop waits for what is under way, which is bounded, and closes."""
        await self._users.leave()

    async def _close(self) -> None:
        parts, self._parts = self._parts, None
        if parts is None:
            return
        try:
            while parts.busy:
                parts.idle.clear()
                await parts.idle.wait()
            await parts.readings.close()
        finally:
            await asyncio.gather(parts.to_publish.close(), parts.to_read.close())

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        """See `Broker.declare`."""
        async with self._using() as parts:
            await parts.topology.declare(topics, readings)

    async def partitions(self, topic: str) -> int:
        """See `Broker.partitions`."""
        async with self._using() as parts:
            return await parts.topology.partitions(topic)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        """See `Broker.publish`. A batch goes out in parts of 500."""
        async with self._using() as parts:
            counts: dict[str, tuple[str, int]] = {}
            for topic in dict.fromkeys(message.topic for message in messages):
                count = await parts.topology.partitions(topic)
                counts[topic] = (self._names.exchange(topic), count)
            routed: list[Routed] = []
            for index, message in enumerate(messages):
                exchange, count = counts[message.topic]
                routed.append(Routed(index, message, exchange, partition_of(message, count)))
            try:
                return await parts.publisher.publish(routed)
            except TopicNotFound:
                for topic in counts:
                    parts.topology.forget(topic)
                raise

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        """See `Broker.read`. The first call for a partition begins to consume its queue."""
        async with self._using() as parts:
            return await parts.readings.read(group, topic, after, limit)

    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        """See `Broker.settle`. Sends one acknowledgement a partition, and waits for no answer."""
        async with self._using() as parts:
            await parts.readings.settle(group, topic, positions)

    async def release(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        """See `Broker.release`. Closes the channels; the server puts back what was not settled before it returns."""
        async with self._using() as parts:
            await parts.readings.release((group, topic, partition) for partition in partitions)

    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        """See `Broker.backlog`. What another process holds unsettled is not counted."""
        async with self._using() as parts:
            return await parts.readings.backlog(group, topic, after)

    def wire(self) -> Wire:
        """See `Wired.wire`. A partition is a routing key, and has a queue for each group."""
        names, url = self._names, self._servers[0].url
        return Wire(
            protocol=url.scheme,
            servers=tuple(f"{one.url.host}:{one.url.port}" for one in self._servers),
            path=unquote(url.raw_path.removeprefix("/")),
            header_prefix=PREFIX,
            address=lambda _, partition: partition,
            exchange=names.exchange,
            queue=lambda group, topic, partition: (
                names.queue(group, topic, 0).removesuffix("0") + partition
            ),
        )

    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """See `Broker.listen`. Woken by deliveries, so from the first `read` of a partition on."""
        return self._listeners.add((group, topic), wake)

    def _assemble(self) -> _Parts:
        to_publish, to_read = (
            Link(self._servers, self._context, self._timeout_seconds) for _ in range(2)
        )
        return _Parts(
            to_publish,
            to_read,
            Topology(to_read, self._names, self._queues, self._declare),
            Publisher(to_publish, self._max_body_bytes, self._timeout_seconds),
            Readings(to_read, self._names, self._reader, self._prefetch, self._listeners),
        )

    @asynccontextmanager
    async def _using(self) -> AsyncGenerator[_Parts]:
        parts = self._parts
        if parts is None:
            raise BrokerUnavailable(
                "this RabbitBroker is not started, or was stopped: await broker.start(storage) first"
            )
        parts.busy += 1
        try:
            yield parts
        except FAILURES as error:
            if isinstance(error, ConnectionError | TopicNotFound):
                raise
            raise BrokerUnavailable(f"RabbitMQ at {parts.to_read.shown} failed: {error}") from error
        finally:
            parts.busy -= 1
            if not parts.busy:
                parts.idle.set()


def _context(tls: Tls | ssl.SSLContext | None, shown: str) -> ssl.SSLContext | None:
    secure = shown.startswith("amqps:")
    if tls is not None and not secure:
        raise ConfigurationError(
            f"{shown} is not encrypted, though settings for TLS are given. Write amqps://."
        )
    if not secure:
        return None
    return tls if isinstance(tls, ssl.SSLContext) else (tls or Tls()).context()


def _judge(server: Mapping[str, object] | None) -> Sequence[str]:
    """Warnings about a server, by what it says of itself.

    Raises:
        ConfigurationError: it cannot be used.
    """
    found = {name: str(value) for name, value in (server or {}).items()}
    product, version = found.get("product", "?"), found.get("version", "?")
    if product != "RabbitMQ":
        return (
            f"The server says that it is {product!r} {version}, not RabbitMQ: queues with a single active consumer, on which the "
            "order of messages rests, may not exist there.",
        )
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers < _OLDEST:
        raise ConfigurationError(
            f"the server is RabbitMQ {version}; {_OLDEST[0]}.{_OLDEST[1]} is the oldest that can be used, since queues have a "
            "single active consumer only from then on. Upgrade the server."
        )
    return ()
