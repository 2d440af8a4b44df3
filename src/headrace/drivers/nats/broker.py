"""`NatsBroker`: a `Broker` that keeps topics as streams of NATS JetStream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Self

from headrace.broker import BrokerGuarantees, Reading, Received, Rejected, Topic, Wire, partition_of
from headrace.drivers.listeners import Listeners
from headrace.drivers.nats.connection import Connection
from headrace.drivers.nats.link import NO_RESPONDERS, ApiError
from headrace.drivers.nats.names import Names
from headrace.drivers.nats.positions import WRITE_SECONDS, Place, Positions
from headrace.drivers.nats.publishing import HEADER_ROOM_BYTES, PREFIX, publish, wire
from headrace.drivers.nats.readers import Readers, Sought, taken
from headrace.drivers.nats.settings import Auth, Streams, Tls, addresses, check_prefix, from_url
from headrace.drivers.nats.topology import Log, Topology
from headrace.drivers.users import Users
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicNotFound
from headrace.wire import Raw, WireFormat

if TYPE_CHECKING:
    from headrace.drivers.nats.link import Link
    from headrace.drivers.nats.reader import Reader
    from headrace.envelope import Envelope, Message
    from headrace.storage import Storage

_USUAL_PAYLOAD_BYTES: Final = 1024 * 1024
"""The limit of a server that was not configured otherwise."""


class NatsBroker:
    """Topics as streams of NATS JetStream, server 2.9 or newer: a subject `<topic>.<p>` for each partition.

    It is stopped when each app that started it has stopped it.

    Args:
        servers: `nats://host:4222`, several of them, or bare addresses; any server of the cluster will do.
        auth: who the client is; default: nobody.
        tls: default None: TLS only if the server demands it, with the system's certificates.
        client_name: as the server's operators see it.
        streams: how the streams of new topics are made.
        declare: "check" makes nothing, and says what is missing, for servers where others make streams. Default "make".
        prefix: put before the names of all streams, subjects and buckets, so that several installations share a server.
        timeout_seconds: for a connection, an answer, a batch without any confirmation; default 10, above which a relay's
            lease of 15 would run out.
        buffer_messages: fetched ahead for each partition that is read; default 500, about one window of a consumer.
        buffer_bytes: of these, without their headers; default 4 MiB. One message more may be there.
        foreign: what messages of other producers mean, see `headrace.wire.WireFormat`.
        synced: True if the server writes to disk before it confirms (`sync_interval: always`). It cannot be seen from
            here; False, the default, warns at the start.

    Raises:
        ConfigurationError: a setting cannot be used.
    """

    def __init__(
        self,
        servers: str | Sequence[str] = "nats://127.0.0.1:4222",
        *,
        auth: Auth | None = None,
        tls: Tls | None = None,
        client_name: str = "headrace",
        streams: Streams | None = None,
        declare: Literal["make", "check"] = "make",
        prefix: str = "",
        timeout_seconds: float = 10.0,
        buffer_messages: int = 500,
        buffer_bytes: int = 4 * 1024 * 1024,
        foreign: Callable[[Raw], Envelope | None] | None = None,
        synced: bool = False,
    ) -> None:
        if declare not in ("make", "check"):
            raise ConfigurationError(f'NatsBroker(declare={declare!r}): give "make" or "check"')
        if timeout_seconds <= 0 or buffer_messages < 1 or buffer_bytes < 1:
            raise ConfigurationError(
                f"NatsBroker(timeout_seconds={timeout_seconds}, buffer_messages={buffer_messages}, "
                f"buffer_bytes={buffer_bytes}): give a time above 0, and 1 or more"
            )
        self._addresses = addresses(servers)
        given = [servers] if isinstance(servers, str) else list(servers)
        if tls is None and any(one.startswith(("natss://", "tls://")) for one in given):
            tls = Tls()
        self._timeout_seconds = timeout_seconds
        self._connect = partial(
            Connection,
            self._addresses,
            auth or Auth(),
            tls,
            name=client_name,
            timeout_seconds=timeout_seconds,
        )
        self._synced = synced
        self._names = Names(check_prefix(prefix))
        self._new_readers = partial(
            Readers, self._names, buffer_messages=buffer_messages, buffer_bytes=buffer_bytes
        )
        self._streams = streams or Streams()
        self._topology = Topology(self._names, self._streams, make=declare == "make")
        self._format = WireFormat(PREFIX, foreign=foreign)
        self._payload_bytes = _USUAL_PAYLOAD_BYTES
        self._running = False
        self._users = Users(self._open, self._close)
        self._reset()

    def _reset(self) -> None:
        # Nothing of an event loop or of an earlier outage is kept for the next start.
        self._connection = self._connect(on_loss=self._lost)
        self._counts: dict[str, int] = {}
        self._readers = self._new_readers()
        self._positions = Positions(self._names, self._topology)
        self._listeners: Listeners[tuple[str, str]] = Listeners()
        self._writer: asyncio.Task[None] | None = None
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """A broker for `nats://user:password@host:4222,host2?setting=value`; `natss://` for TLS.

        Raises:
            ConfigurationError: it cannot be read, or has a setting that is not known.
        """
        servers, arguments = from_url(url)
        return cls(servers, **arguments)

    def __repr__(self) -> str:
        return f"NatsBroker({','.join(self._addresses)})"

    @property
    def guarantees(self) -> BrokerGuarantees:
        """Durable; batches may be stored in part; a body may be as large as the server takes, less 16 KiB for headers."""
        return BrokerGuarantees(
            durable=True,
            ordered_batch=False,
            retains=True,
            max_body_bytes=max(self._payload_bytes - HEADER_ROOM_BYTES, 1),
            makes_topics=self._topology.makes,
        )

    async def start(self, storage: Storage | None) -> Sequence[str]:
        """See `Broker.start`. Call `stop` once for each start.

        Raises:
            ConfigurationError: the server is too old, or has no JetStream.
        """
        return await self._users.enter()

    async def _open(self) -> Sequence[str]:
        self._reset()
        self._running = True
        async with self._using() as link:
            try:
                await link.request("INFO")
            except ApiError as error:
                raise ConfigurationError(
                    f"the NATS server {link.address} gives no JetStream to this client: {error}. Start it with -js (or "
                    "`jetstream {}` in its configuration), and enable JetStream for the account."
                ) from error
        if self._synced or self._streams.replicas > 1:
            return ()
        return (
            f"The NATS server {link.address} may confirm messages before they are on its disk, and streams have one "
            "replica: a process that is killed loses nothing, a machine that loses power may lose up to two minutes. Set "
            "`sync_interval: always` on the server and synced=True here, or replicas=3 in a cluster.",
        )

    async def stop(self) -> None:
        """See `Broker.stop`. Waits for what is under way for at most twice the time-out."""
        await self._users.leave()

    async def _close(self) -> None:
        self._running = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._timeout_seconds):
                await self._idle.wait()
        writer = self._writer
        try:
            if writer is not None:
                writer.cancel()
                await asyncio.wait({writer})
            if (link := self._connection.usable) is not None:
                if self._positions.unwritten:
                    # Only a hint: whoever counts on it has settled before.
                    with contextlib.suppress(BrokerUnavailable, TopicNotFound):
                        await self._positions.write(link)
                await self._readers.stop(list(self._readers))
        finally:
            await self._connection.close()
            self._reset()

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
        """See `Broker.declare`."""
        async with self._using() as link:
            found = await self._topology.declare(link, list(topics), bucket=bool(readings))
            for name, log in found.items():
                self._counts[name] = log.count
            for topic in {reading.topic for reading in readings} - set(found):
                await self._count(link, topic)

    async def partitions(self, topic: str) -> int:
        """See `Broker.partitions`."""
        async with self._using() as link:
            return await self._count(link, topic)

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        """See `Broker.publish`. What a server refuses for a moment is rejected as not final: disk full, no leader."""
        if not messages:
            self._check_running()
            return ()
        async with self._using() as link:
            counts = {one: await self._count(link, one) for one in {m.topic for m in messages}}
            subjects = [
                self._names.subject(one.topic, partition_of(one, counts[one.topic]))
                for one in messages
            ]
            rejected, refused = await publish(link, messages, subjects)
            if refused:
                await self._look_again(link, messages, refused)
            return rejected

    async def _look_again(
        self, link: Link, messages: Sequence[Message], refused: Mapping[int, ApiError]
    ) -> None:
        """Nobody listens on a subject: is the topic gone, or only away?"""
        unheard = {
            messages[i].topic for i, error in refused.items() if error.status == NO_RESPONDERS
        }
        for topic in sorted(unheard):
            self._counts.pop(topic, None)
            await self._count(link, topic)

    async def read(
        self, group: str, topic: str, after: Mapping[int, str | None], *, limit: int
    ) -> Sequence[Received]:
        """See `Broker.read`. Partitions share the limit evenly first; what one leaves goes to the others."""
        async with self._using() as link:
            sought: list[Sought] = []
            for partition, position in after.items():
                place = (group, topic, partition)
                reader = self._readers.get(place) or await self._new_reader(link, place)
                log = await reader.seek(
                    link,
                    position,
                    settled=partial(self._positions.get, link, place),
                    find=partial(self._find, link, topic),
                )
                sought.append(Sought(partition, reader, log))
        return taken(sought, topic, limit, self._format)

    async def settle(self, group: str, topic: str, positions: Mapping[int, str]) -> None:
        """See `Broker.settle`. Written to the server at most once a second, and at `release`."""
        self._check_running()
        for partition, position in positions.items():
            self._positions.settle((group, topic, partition), position)
        if self._positions.unwritten and (self._writer is None or self._writer.done()):
            self._writer = asyncio.create_task(self._write_soon(), name="headrace nats positions")

    async def release(self, group: str, topic: str, partitions: Sequence[int]) -> None:
        """See `Broker.release`."""
        self._check_running()
        places = [(group, topic, partition) for partition in partitions]
        await self._readers.stop(places)
        try:
            if self._positions.unwritten:
                async with self._using() as link:
                    await self._positions.write(link)
        finally:
            self._positions.forget(places)

    async def backlog(self, group: str, topic: str, after: Mapping[int, str | None]) -> int:
        """See `Broker.backlog`. Asks the server, which counts by itself."""
        async with self._using() as link:
            log = await self._find(link, topic)
            waiting = 0
            for partition, position in after.items():
                sequence = log.sequence(position)
                if sequence is None or sequence > log.last:
                    settled = await self._positions.get(link, (group, topic, partition))
                    sequence = log.sequence(settled) or 0
                subject = self._names.subject(topic, partition)
                waiting += await self._topology.behind(link, topic, subject, sequence)
            return waiting

    def wire(self) -> Wire:
        """See `Wired.wire`. The last token of a subject is the partition."""
        return wire(self._addresses, self._names)

    def listen(self, group: str, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """See `Broker.listen`. Hears of messages in the partitions that this process reads."""
        self._check_running()
        return self._listeners.add((group, topic), wake)

    def _check_running(self) -> None:
        if not self._running:
            raise BrokerUnavailable(
                "this NatsBroker is not started, or was stopped: await broker.start(storage) first"
            )

    @contextlib.asynccontextmanager
    async def _using(self) -> AsyncGenerator[Link]:
        """A connection, and `stop` waits for the end of its use."""
        self._check_running()
        self._busy += 1
        self._idle.clear()
        try:
            link = await self._connection.link()
            self._payload_bytes = link.max_payload_bytes
            try:
                yield link
            except ApiError as error:
                raise BrokerUnavailable(
                    f"the NATS server {link.address} refuses: {error}"
                ) from error
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    def _lost(self) -> None:
        """Whoever listens is to read, which connects anew."""
        if self._running:
            self._listeners.wake_all()

    async def _find(self, link: Link, topic: str) -> Log:
        log = await self._topology.find(link, topic)
        if log is None:
            self._counts.pop(topic, None)
            raise TopicNotFound(
                f"the NATS server {link.address} has no stream {self._names.stream(topic)!r} for topic {topic!r}: call "
                f"`await broker.declare([Topic({topic!r})])` first"
            )
        self._counts[topic] = log.count
        return log

    async def _count(self, link: Link, topic: str) -> int:
        known = self._counts.get(topic)
        return known if known is not None else (await self._find(link, topic)).count

    async def _new_reader(self, link: Link, place: Place) -> Reader:
        group, topic, _ = place
        count = await self._count(link, topic)
        return self._readers.of(place, count, partial(self._listeners.wake, [(group, topic)]))

    async def _write_soon(self) -> None:
        """Gather positions for a moment, then write them. Ends when nothing is left."""
        while self._positions.unwritten:
            await asyncio.sleep(WRITE_SECONDS)
            # It is written next time; nobody waits for it.
            with contextlib.suppress(BrokerUnavailable, TopicNotFound):
                async with self._using() as link:
                    await self._positions.write(link)
