"""`RedisBroker`: a `Broker` whose topics are Redis Streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from redis.asyncio import Connection, Redis

from headrace.broker import BrokerGuarantees, Reading, Received, Rejected, Topic, Wire
from headrace.drivers.redis.entries import PREFIX, Entries
from headrace.drivers.redis.link import Link, closed
from headrace.drivers.redis.names import Names
from headrace.drivers.redis.publishing import Publisher
from headrace.drivers.redis.reading import Reader
from headrace.drivers.redis.server import look_at
from headrace.drivers.redis.settings import Tls, address_of, connections, settings_of
from headrace.drivers.redis.settling import Settling
from headrace.drivers.redis.topology import Declare, Topology
from headrace.drivers.redis.waking import Waker
from headrace.drivers.users import Users
from headrace.errors import ConfigurationError
from headrace.wire import Raw, WireFormat

if TYPE_CHECKING:
    from headrace.envelope import Envelope, Message
    from headrace.storage import Storage

_WEEK_SECONDS: Final = 7 * 24 * 3600.0


class RedisBroker:
    """Topics as Redis Streams, one for each partition: Redis 6.2 or later, or Valkey; a single server or behind Sentinel.

    Consumer groups of Redis are not used: who reads which partition is decided by leases in the app's storage, and each
    group reads by position, so order holds at every takeover. Several apps of a process may share one object, on one
    event loop at a time.

    Args:
        server: a URL, `redis://user:password@host:6379/0` or `rediss://...` for TLS, or a `redis.asyncio.Redis` whose
            address, credentials and TLS are then used for connections of the driver's own.
        user: for the server; default that of the URL.
        password: for the server; default that of the URL. Never shown.
        tls: how a `rediss://` connection is checked; default against the certificates of the system.
        client_name: what `CLIENT LIST` shows; default "headrace".
        prefix: what every key begins with, default "headrace"; apps that talk to each other have the same.
        declare: "make", the default, makes topics that do not exist; "check" makes none and says what is missing.
        durable: the app counts on it that a confirmed message survives a crash of the server; default True. If the server
            keeps no append-only file, `start` warns of it, and the guarantees say so. False asks for no such thing.
        retention_seconds: how long a message stays though all groups have settled it, for groups that come later;
            default 7 days, as Kafka's. 0 trims it as soon as every known group has settled it.
        timeout_seconds: how long one call waits for the server before it raises `BrokerUnavailable`; default 10: longer than
            a failover by Sentinel usually blocks, shorter than a lease.
        max_connections: how many calls go to the server at once, default 16; each has a connection of its own.
        max_body_bytes: the largest body, default 16 MiB (16 777 216). Redis itself takes 512 MiB, but a single thread serves
            all, and a message this large keeps everybody waiting for tens of milliseconds.
        min_replicas: how many replicas must have a message before it is confirmed (WAIT), default 0.
        foreign: makes the envelope of an entry that is no CloudEvent; None from it, and without it, skips the entry.

    Raises:
        ConfigurationError: the URL or a setting cannot be used.
    """

    def __init__(
        self,
        server: str | Redis = "redis://127.0.0.1:6379/0",
        *,
        user: str | None = None,
        password: str | None = None,
        tls: Tls | None = None,
        client_name: str = "headrace",
        prefix: str = "headrace",
        declare: Declare = "make",
        durable: bool = True,
        retention_seconds: float = _WEEK_SECONDS,
        timeout_seconds: float = 10.0,
        max_connections: int = 16,
        max_body_bytes: int = 16 * 1024 * 1024,
        min_replicas: int = 0,
        foreign: Callable[[Raw], Envelope | None] | None = None,
    ) -> None:
        _check("declare", declare, declare in ("make", "check"), "'make' or 'check'")
        _check("retention_seconds", retention_seconds, retention_seconds >= 0, "0 or more")
        _check("timeout_seconds", timeout_seconds, timeout_seconds > 0, "more than 0")
        _check("max_connections", max_connections, max_connections >= 1, "1 or more")
        _check("max_body_bytes", max_body_bytes, max_body_bytes >= 1, "1 or more")
        _check("min_replicas", min_replicas, min_replicas >= 0, "0 or more")
        _check("client_name", client_name, _is_name(client_name), "printable ASCII without spaces")
        _check("prefix", prefix, bool(prefix), "at least one character")
        if isinstance(server, str):
            address = address_of(server)
            address = replace(
                address,
                username=user if user is not None else address.username,
                password=password if password is not None else address.password,
            )
            if tls is not None and not address.secure:
                raise ConfigurationError(
                    f"RedisBroker({str(address)!r}, tls=...): redis:// is not encrypted, write rediss://"
                )
            self._server = str(address)
            self._make = connections(
                address, tls=tls, client_name=client_name, timeout_seconds=timeout_seconds
            )
        else:
            if user is not None or password is not None or tls is not None:
                raise ConfigurationError(
                    "RedisBroker(client, ...): user, password and tls are the client's; give them to it"
                )
            pool = server.connection_pool
            options = cast("Mapping[str, object]", pool.connection_kwargs)
            # A client of Sentinel does not know yet where its server is.
            self._server = (
                f"{options['host']}:{options.get('port', 6379)}"
                if "host" in options
                else cast("str", getattr(pool, "service_name", "of the given client"))
            )
            self._client = server  # a Sentinel client's connections need it
            self._make = cast("Callable[[], Connection]", pool.make_connection)
        self._durable = durable
        self._makes_topics = declare == "make"
        self._timeout_seconds = timeout_seconds
        self._max_connections = max_connections
        self._max_body_bytes = max_body_bytes
        self._min_replicas = min_replicas
        self._names = Names(prefix)
        self._connected = partial(
            _Running,
            names=self._names,
            entries=Entries(WireFormat(PREFIX, foreign=foreign)),
            declare=declare,
            retention_seconds=retention_seconds,
            max_body_bytes=max_body_bytes,
            min_replicas=min_replicas,
        )
        self._running: _Running | None = None
        self._users = Users(self._open, self._close)
        self._append_only = True

    @classmethod
    def from_url(cls, url: str) -> RedisBroker:
        """A broker from a URL whose query holds settings: `redis://host:6379/0?prefix=shop&retention_seconds=3600`.

        Settings are the keyword arguments of the class, and for `rediss://` those of `Tls`.

        Raises:
            ConfigurationError: the URL cannot be used, or has an unknown setting.
        """
        base, settings = settings_of(url)
        return cls(base, **settings)  # type: ignore[arg-type]  # checked one by one

    def __repr__(self) -> str:
        return f"RedisBroker({self._server!r})"

    @property
    def guarantees(self) -> BrokerGuarantees:
        """Durable if the app counts on it (`durable`) and, once started, the server has an append-only file."""
        return BrokerGuarantees(
            durable=self._durable and self._append_only,
            ordered_batch=True,
            retains=True,
            max_body_bytes=self._max_body_bytes,
            makes_topics=self._makes_topics,
        )

    async def start(self, storage: Storage | None) -> Sequence[str]:
        """See `Broker.start`.

        Raises:
            BrokerUnavailable: the server cannot be reached, or is a replica.
            ConfigurationError: the server is too old, a cluster, or drops keys when its memory is full.
        """
        return await self._users.enter()

    async def _open(self) -> Sequence[str]:
        link = Link(
            self._make,
            f"the Redis server {self._server}",
            timeout_seconds=self._timeout_seconds,
            max_connections=self._max_connections,
        )
        try:
            server = await look_at(link)
        except BaseException:
            await link.close()
            raise
        self._append_only = server.append_only
        self._running = self._connected(link)
        return server.warnings(durable=self._durable, min_replicas=self._min_replicas)

    async def stop(self) -> None:
        """See `Broker.stop`. The last of several apps that started it closes it."""
        await self._users.leave()

    async def _close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await running.stop()

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        """See `Broker.declare`. From then on nothing is trimmed that a group of `readings` has not settled."""
        await self._now().topology.declare(topics, readings)

    async def partitions(self, topic: str) -> int:
        """See `Broker.partitions`."""
        return await self._now().topology.count(topic)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        """See `Broker.publish`. One transaction for each 16 MiB."""
        return await self._now().publisher.publish(messages)

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        """See `Broker.read`."""
        return await self._now().reader.read(group, topic, after, limit)

    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        """See `Broker.settle`. Asks nothing of the server: what is settled is written within about a second."""
        self._now().settling.note(group, topic, positions)

    async def release(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        """See `Broker.release`. Nothing is buffered: this writes what is settled."""
        await self._now().settling.write()

    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        """See `Broker.backlog`. Exact up to 1 000 messages in a partition; of more an estimate, by the times of entries."""
        return await self._now().reader.backlog(group, topic, after)

    def wire(self) -> Wire:
        """See `Wired.wire`. A stream is a partition. Of a given client of Sentinel the server is not known."""
        server, names = self._server, self._names
        where, _, path = server.rpartition("://")[2].partition("/")
        return Wire(
            protocol="rediss" if server.startswith("rediss:") else "redis",
            servers=(where,) if ":" in where else (),
            path=path,
            header_prefix=PREFIX,
            address=lambda topic, partition: names.stream(topic, 0).removesuffix("0") + partition,
        )

    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """See `Broker.listen`. Hears whoever writes to the topic, within a few milliseconds."""
        return self._now().waker.listen(topic, wake)

    async def forget_group(self, group: str, topic: str) -> None:
        """A group reads this topic no more: what only it has not settled may be trimmed. It is known again when it reads."""
        await self._now().settling.forget(group, topic, await self.partitions(topic))

    def _now(self) -> _Running:
        if self._running is None:
            raise closed(self._server)
        return self._running


class _Running:
    """What a broker has between start and stop."""

    def __init__(
        self,
        link: Link,
        *,
        names: Names,
        entries: Entries,
        declare: Declare,
        retention_seconds: float,
        max_body_bytes: int,
        min_replicas: int,
    ) -> None:
        self.link = link
        self.topology = Topology(link, names, declare)
        self.publisher = Publisher(
            link,
            names,
            self.topology,
            entries,
            max_body_bytes=max_body_bytes,
            min_replicas=min_replicas,
        )
        self.settling = Settling(link, names, retention_seconds)
        self.reader = Reader(link, names, self.topology, self.settling, entries)
        self.waker = Waker(link, names, self.topology)

    async def stop(self) -> None:
        await self.waker.stop()
        await self.settling.stop()
        await self.link.close()


def _check(name: str, value: object, fine: bool, wanted: str) -> None:
    if not fine:
        raise ConfigurationError(f"RedisBroker({name}={value!r}): give {wanted}")


def _is_name(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
