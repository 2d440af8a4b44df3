"""The connections to one Redis server: rounds of commands, bounded in time, whose failures are `BrokerUnavailable`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, cast

from redis.asyncio import Connection
from redis.exceptions import AuthenticationError, ReadOnlyError, RedisError, ResponseError

from headrace.errors import BrokerUnavailable

Command = Sequence[str | bytes | int]
"""A command's name and arguments."""

Reply = object
"""What the server answered: None, an int, bytes, a list of replies, or a `ResponseError` as a value."""


class Link:
    """A few connections, each used by one round at a time, opened when they are needed.

    It repeats nothing: a round that failed may have been carried out, and only the caller knows what to do again.

    Args:
        make: gives a new connection, not connected.
        where: the server, for people.
        timeout_seconds: how long a round may take, waiting for a free connection included.
        max_connections: how many rounds may go at once; more wait.
    """

    def __init__(
        self,
        make: Callable[[], Connection],
        where: str,
        *,
        timeout_seconds: float,
        max_connections: int,
    ) -> None:
        self._new = make
        self.where = where
        self.timeout_seconds = timeout_seconds
        self._idle: list[Connection] = []
        self._slots = asyncio.Semaphore(max_connections)
        self._running: set[asyncio.Future[None]] = set()
        self._closed = False
        self.losses = 0
        """How often a connection was lost: what was known of the server's data before may be true no more."""

    async def ask(self, *commands: Command) -> list[Reply]:
        """The answers to these commands, one round trip for all.

        Raises:
            BrokerUnavailable: no connection, no answer in time, or the server refused one of them.
        """
        replies = await self.run(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise await self.refusal(reply)
        return replies

    async def run(self, commands: Sequence[Command]) -> list[Reply]:
        """As `ask`, but what the server refused stands in the answer as an error."""
        if self._closed:
            raise closed(self.where)
        ended = asyncio.get_running_loop().create_future()
        self._running.add(ended)
        try:
            async with asyncio.timeout(self.timeout_seconds), self._slots:
                return await self._round(commands)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            await self._forget_idle()
            raise self._unreachable(error) from error
        finally:
            self._running.discard(ended)
            ended.set_result(None)

    async def _round(self, commands: Sequence[Command]) -> list[Reply]:
        connection = self._idle.pop() if self._idle else self._make()
        try:
            return await exchange(connection, commands)
        except BaseException:
            # Also when cancelled: the answer is still to come, and the next round must not read it as its own.
            await hang_up(connection)
            raise
        finally:
            if connection.is_connected and not self._closed:
                self._idle.append(connection)
            elif connection.is_connected:
                await hang_up(connection)

    def connection(self) -> Connection:
        """A connection of the caller's own, not connected; whoever asks closes it."""
        if self._closed:
            raise closed(self.where)
        return self._make()

    def _make(self) -> Connection:
        connection = self._new()
        # With a timeout of its own redis-py sends through asyncio.wait_for, which before Python 3.12 loses a cancellation
        # that comes as the sending ends. Each round is bounded here.
        connection.socket_timeout = None
        return connection

    async def refusal(self, error: ResponseError) -> BrokerUnavailable:
        """What to raise when the server refused a command."""
        if isinstance(error, ReadOnlyError):
            # It was the primary before a failover. The next connection may find the new one.
            await self._forget_idle()
        found = BrokerUnavailable(f"{self.where} refused a command: {error}")
        found.__cause__ = error
        return found

    async def close(self) -> None:
        """Refuse further rounds, let those that run end, close the connections."""
        self._closed = True
        if self._running:
            await asyncio.wait(self._running, timeout=self.timeout_seconds)
        await self._forget_idle()

    async def _forget_idle(self) -> None:
        # One connection is lost: the others most likely are, and each would fail one more call.
        self.losses += 1
        idle, self._idle = self._idle, []
        for connection in idle:
            await hang_up(connection)

    def _unreachable(self, error: Exception) -> BrokerUnavailable:
        if isinstance(error, AuthenticationError):
            return BrokerUnavailable(
                f"{self.where} does not accept the user and password of this app ({error}): check them in the URL."
            )
        if isinstance(error, TimeoutError) and not str(error):
            return BrokerUnavailable(
                f"{self.where} did not answer within {self.timeout_seconds:g} seconds (timeout_seconds)."
            )
        return BrokerUnavailable(f"{self.where} cannot be reached: {error}")


def closed(where: str) -> BrokerUnavailable:
    """The error for calls before the start and after the stop."""
    return BrokerUnavailable(
        f"this RedisBroker ({where}) is not started, or was stopped: await broker.start(storage) first"
    )


async def exchange(connection: Connection, commands: Sequence[Command]) -> list[Reply]:
    """Send commands and read their answers; errors of single commands are values. The caller bounds the time.

    Args:
        connection: of the caller; connected if it is not.
        commands: sent at once.
    """
    if connection.is_connected and await _spoilt(connection):
        # The server closed it while it was idle: opened anew, before anything is sent.
        await hang_up(connection)
    if not connection.is_connected:
        await cast("_Connects", connection).connect()
    await connection.send_packed_command(
        connection.pack_commands(cast("list[list[str]]", commands))
    )
    replies: list[Reply] = []
    for _ in commands:
        try:
            replies.append(await cast("_Connects", connection).read_response(True, math.inf))
        except ResponseError as error:
            replies.append(error)
    return replies


class _Connects(Protocol):
    """What redis-py does not type."""

    async def connect(self) -> None: ...

    async def read_response(self, disable_decoding: bool, timeout: float) -> Reply: ...


async def _spoilt(connection: Connection) -> bool:
    try:
        return await connection.can_read()
    except (RedisError, OSError):
        return True


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended, again if what it awaits lost the cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)


async def hang_up(connection: Connection) -> None:
    """Close a connection, without waiting for the server; a failure to do so is none."""
    with suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)
