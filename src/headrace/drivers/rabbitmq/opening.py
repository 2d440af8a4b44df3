"""One opening of a channel on the queue of a partition: what was delivered and is not settled yet."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import aiormq
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity

from headrace.broker import Received
from headrace.drivers.rabbitmq.link import FAILURES, Link, cancelled, opened
from headrace.drivers.rabbitmq.names import position
from headrace.errors import TopicNotFound

if TYPE_CHECKING:
    from headrace.envelope import Message

Decode = Callable[[str, DeliveredMessage], "Message"]
"""Makes a message of a position and what was delivered."""


class Opening:
    """A consumer with a channel to itself.

    The server pushes at most `prefetch` messages that are not acknowledged. They stay here until they are settled, so that
    they can be read again, and the channel's delivery tags, which count 1, 2, 3, tell their order.

    A channel is given up by closing it: then the server puts what is not acknowledged back, in its old place and order,
    and only then lets the next reader begin. A consumer that is cancelled while its messages are out would let the next
    one begin behind them; a negative acknowledgement puts a message behind others that are out (tried: m1 came back
    behind m2 and m3). So neither is ever done.

    Args:
        channel: for this alone.
        partition: read.
        decode: for what is delivered.
        wake: called when there is more to read.
    """

    def __init__(
        self, channel: aiormq.Channel, partition: int, decode: Decode, wake: Callable[[], None]
    ) -> None:
        # Unique, so that a position of another opening, here or in another process, is never taken for one of this.
        self.id = secrets.token_hex(8)
        self._channel = channel
        self._partition = partition
        self._decode = decode
        self._wake = wake
        self._cancelled = False
        self._settled = 0
        self._delivered = 0
        self._messages: dict[int, Received] = {}

    @classmethod
    async def on(
        cls,
        link: Link,
        queue: str,
        partition: int,
        *,
        prefetch: int,
        decode: Decode,
        wake: Callable[[], None],
    ) -> Opening:
        """Begin to consume.

        Raises:
            TopicNotFound: there is no such queue.
            BrokerUnavailable: the server cannot be reached.
        """
        what = f"beginning to read queue {queue!r}"
        connection = await link.connection()
        async with link.asking(what):
            channel = await opened(connection)
            opening = cls(channel, partition, decode, wake)
            channel.on_consumer_cancel_callbacks.add(opening._on_cancel)
            try:
                await channel.basic_qos(prefetch_count=prefetch)
                await channel.basic_consume(queue, opening._on_message)
            except ChannelNotFoundEntity as error:
                raise TopicNotFound(
                    f"RabbitMQ at {link.shown} has no queue {queue!r}: declare the reading first, "
                    "`await broker.declare(topics, [Reading(group, topic)])`"
                ) from error
            except BaseException:
                # Cancelled, or refused: a channel that consumes for nobody would keep messages from everybody.
                await opening.close()
                raise
        # Who reads is to notice the end, and to open anew.
        closing = cast(
            "asyncio.Future[object]",
            channel.closing,  # pyright: ignore[reportUnknownMemberType]
        )
        closing.add_done_callback(lambda _: wake())
        return opening

    @property
    def alive(self) -> bool:
        """False once the server or the connection has ended it: what is not settled is delivered to another opening."""
        return not self._cancelled and not self._channel.is_closed

    @property
    def channel(self) -> aiormq.Channel:
        """Its channel."""
        return self._channel

    def behind(self, tag: int) -> int:
        """How many messages here stand behind a tag."""
        return max(0, self._delivered - max(tag, self._settled))

    def next(self, tag: int) -> Received | None:
        """The first message behind a tag, if it has come."""
        return self._messages.get(max(tag, self._settled) + 1)

    async def settle(self, tag: int) -> None:
        """Acknowledge all up to this tag; raises what the client raises. A tag from nowhere is ignored."""
        if not self._settled < tag <= self._delivered:
            return
        # Without waiting for the socket: what this process does next on the channel goes out behind it.
        await self._channel.basic_ack(tag, multiple=True, wait=False)
        # Another call may have come further meanwhile, or the opening may have been closed.
        for done in range(self._settled + 1, tag + 1):
            self._messages.pop(done, None)
        self._settled = max(self._settled, tag)

    async def close(self) -> None:
        """Give back what is not settled. When it returns the server has it, unless the connection is gone."""
        self._cancelled = True
        self._messages.clear()
        try:
            await self._channel.close()
        except (*FAILURES, asyncio.CancelledError) as error:
            # Else the server has ended it, or does so when it misses our heartbeats.
            if cancelled(error):
                raise

    async def _on_message(self, delivered: DeliveredMessage) -> None:
        tag = delivered.delivery_tag
        if self._cancelled or tag is None:
            return
        at = position(self.id, tag)
        self._messages[tag] = Received(self._partition, at, self._decode(at, delivered))
        self._delivered = tag
        self._wake()

    def _on_cancel(self, _: object) -> None:
        # The server ended the consumer: the queue was deleted, or has moved to another node.
        self._cancelled = True
        self._wake()
