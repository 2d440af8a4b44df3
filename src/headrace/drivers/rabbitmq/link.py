"""A connection that comes back: one TCP connection to one of the servers, opened again when it is needed and gone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import aiormq
from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPError, InvalidFrameError
from yarl import URL

from headrace.backoff import Backoff
from headrace.drivers.rabbitmq.frames import connect
from headrace.drivers.rabbitmq.settings import Server
from headrace.errors import BrokerUnavailable

_MOST_PAUSE_SECONDS: Final = 2.0
_CLOSE_SECONDS: Final = 3.0

FAILURES: Final = (AMQPError, OSError, RuntimeError, TimeoutError)
"""What the client raises when a connection or channel is gone or goes: a `RuntimeError` says that it is closed already."""


class _Connection(aiormq.Connection):
    # A server that says nothing for two heartbeats is gone; the client's own three would outlast a lease.
    HEARTBEAT_GRACE_MULTIPLIER = 2


class _Transport(TransportFactory):
    """Opens the socket, and keeps hold of it, so that a connection to a server that hangs can be cut."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self._writer = await connect(url, self._context, _CLOSE_SECONDS)
        return reader, self._writer

    def cut(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class Link:
    """One connection, shared by the channels of one purpose.

    It is opened at first use. When it is lost, whoever needs it next opens it again; after a failed attempt all callers
    fail at once for a moment, growing to 2 s, so that an outage is not answered with a storm of connections and nobody
    queues behind attempts that hang.

    Args:
        servers: tried in turn, beginning with the one that was connected last.
        context: for TLS, or None.
        timeout_seconds: the longest wait for one server, and for one answer.
    """

    def __init__(
        self, servers: Sequence[Server], context: ssl.SSLContext | None, timeout_seconds: float
    ) -> None:
        self._servers = list(servers)
        self._context = context
        self._timeout_seconds = timeout_seconds
        self._lock = asyncio.Lock()
        self._backoff = Backoff(_MOST_PAUSE_SECONDS)
        self._closed = False
        self._live: _Connection | None = None
        self._transport: _Transport | None = None
        self._failure: tuple[float, str, BaseException | None] | None = None

    @property
    def shown(self) -> str:
        """The server, for errors."""
        return self._servers[0].shown

    async def connection(self) -> aiormq.Connection:
        """The connection, opened if need be.

        Raises:
            BrokerUnavailable: no server can be reached, or all refuse.
        """
        if self._live is not None and self._live.is_opened:
            return self._live
        async with self._lock:
            if self._closed:
                raise BrokerUnavailable("this RabbitBroker was stopped while it was used.")
            if self._live is not None and self._live.is_opened:
                return self._live
            now = asyncio.get_running_loop().time()
            if self._failure is not None and now < self._failure[0]:
                raise BrokerUnavailable(self._failure[1]) from self._failure[2]
            await self._discard()
            return await self._open()

    async def _open(self) -> _Connection:
        failures: list[str] = []
        last: BaseException | None = None
        for server in list(self._servers):
            transport = _Transport(self._context)
            connection = _Connection(server.url, transport_factory=transport)
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await connection.connect()  # pyright: ignore[reportUnknownMemberType]
            except (*FAILURES, asyncio.CancelledError) as error:
                transport.cut()
                if cancelled(error):
                    raise
                failures.append(f"{server.shown}: {describe(error, self._timeout_seconds)}")
                last = error
                self._servers.append(self._servers.pop(0))
            else:
                self._live, self._transport = connection, transport
                self._backoff.reset()
                self._failure = None
                return connection
        text = (
            f"RabbitMQ cannot be reached ({'; '.join(failures)}). Is the server up, and are address, user, password and virtual "
            "host right? It is tried again when it is needed."
        )
        now = asyncio.get_running_loop().time()
        self._failure = (now + self._backoff.next(), text, last)
        raise BrokerUnavailable(text) from last

    @asynccontextmanager
    async def asking(self, what: str) -> AsyncGenerator[None]:
        """Bound what is done inside by the time-out; tell the client's errors as `BrokerUnavailable`.

        After a time-out the connection is cut: a server that does not answer within it hangs, or the way there is broken,
        and only a new connection tells. Errors that close a channel alone (404, 406, ...) pass.

        Args:
            what: what is being done, for the error: "declaring topic 'orders'".

        Raises:
            BrokerUnavailable: the connection is gone, or there was no answer in time.
        """
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            self.cut()

        # Cutting first makes everything that waits for this connection fail at once; cancelling alone may not, since the
        # client then wants to tell the server, and waits for a socket that takes nothing more.
        timer = asyncio.get_running_loop().call_later(self._timeout_seconds, give_up)
        try:
            async with asyncio.timeout(self._timeout_seconds + _CLOSE_SECONDS):
                yield
        except (aiormq.exceptions.ChannelClosed, BrokerUnavailable):
            raise
        except (*FAILURES, asyncio.CancelledError) as error:
            if cancelled(error):
                raise
            said = TimeoutError() if late else error
            raise BrokerUnavailable(
                f"RabbitMQ at {self.shown} failed while {what}: {describe(said, self._timeout_seconds)}."
            ) from error
        finally:
            timer.cancel()

    @asynccontextmanager
    async def channel(self, what: str) -> AsyncGenerator[aiormq.Channel]:
        """A channel of its own for what is done inside, under the rules of `asking`."""
        connection = await self.connection()
        async with self.asking(what):
            channel = await opened(connection)
            try:
                yield channel
            finally:
                await channel.close()

    def cut(self) -> None:
        """End the connection now, without a word to the server."""
        if self._transport is not None:
            self._transport.cut()

    async def close(self) -> None:
        """End the connection in order, for good. What waits for it fails."""
        self._closed = True
        try:
            await self._discard()
        finally:
            self.cut()

    async def _discard(self) -> None:
        connection, self._live = self._live, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await connection.close()
        except (*FAILURES, asyncio.CancelledError) as error:
            # It is gone in any case.
            if cancelled(error):
                raise
        self.cut()


async def opened(connection: aiormq.Connection, *, confirms: bool = False) -> aiormq.Channel:
    """A new channel, in confirm mode or not."""
    return cast("aiormq.Channel", await connection.channel(publisher_confirms=confirms))


def cancelled(error: BaseException) -> bool:
    """True if somebody cancelled the running task.

    The client ends everything that waits for a dead connection with `CancelledError`, which would end a task of ours that
    nobody has cancelled.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def describe(error: BaseException, timeout_seconds: float) -> str:
    """An error of the client in words: those of a time-out have none of their own."""
    if isinstance(error, asyncio.CancelledError):
        return "the connection is gone"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_seconds:g} s"
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if isinstance(error, InvalidFrameError) and "Connection.OpenOk" in text:
        # The client shows what it got, and drops what the server said in it.
        return "the server refuses the virtual host: it does not exist, or the user may not use it"
    return text
