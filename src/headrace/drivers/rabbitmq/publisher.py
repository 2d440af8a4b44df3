"""Batches of messages with one wait for all confirmations."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import aiormq
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelClosed,
    ChannelNotFoundEntity,
    DeliveryError,
    PublishError,
)

from headrace.broker import Rejected
from headrace.drivers.rabbitmq.headers import MOST_SHORT_BYTES, properties, too_large
from headrace.drivers.rabbitmq.link import FAILURES, Link, describe, opened
from headrace.envelope import Message
from headrace.errors import BrokerUnavailable, TopicNotFound

_OUTSTANDING: Final = 500
"""Messages on their way to the server at once: enough to hide the wait (measured: one at a time is 6 times slower)."""

_FRAME_BYTES: Final = 512
"""Room in the frame of the headers for what is not headers."""

_TOO_LARGE: Final = re.compile(r"larger than (?:configured )?max size (\d+)")


@dataclass(frozen=True, slots=True)
class Routed:
    """A message and where it goes.

    Args:
        index: its place in the caller's batch.
        message: what.
        exchange: of its topic.
        partition: of that topic; the routing key.
    """

    index: int
    message: Message
    exchange: str
    partition: int


class Publisher:
    """Publishes on one channel in confirm mode, which is opened again when it is gone.

    Why the order of a key holds (G6), whatever fails: the client writes the messages of a call to one socket in the order
    of the batch, and the server routes them in that order. A message that is refused (a negative confirmation, no queue
    bound) does not stop those behind it, so `ordered_batch` is not promised, and the relay sends no second message of a key
    before the first is confirmed. After an error or a cancelled call, messages may be on their way that nobody waits for:
    the caller publishes all again, from the first. Those that arrive twice are repeats of messages that stand before
    the ones that follow; none that was never seen comes before an earlier one of its key.

    Args:
        link: of publishers alone: a server in want of memory or disk stops reading from connections that publish, and
            acknowledgements of readers must not stand in that queue.
        max_body_bytes: larger bodies are refused here.
        timeout_seconds: the longest time without any confirmation.
    """

    def __init__(self, link: Link, max_body_bytes: int, timeout_seconds: float) -> None:
        self._link = link
        self._most_bytes = max_body_bytes
        self._timeout_seconds = timeout_seconds
        self._lock = asyncio.Lock()
        self._channel: aiormq.Channel | None = None
        self._frame_bytes = 0
        self._outstanding: set[str] = set()

    async def publish(self, batch: Sequence[Routed]) -> list[Rejected]:
        """Publish and wait until all are confirmed.

        Raises:
            TopicNotFound: an exchange is not there (any more).
            BrokerUnavailable: the server is away, hangs, or takes no messages for now.
        """
        rejected: list[Rejected] = []
        for start in range(0, len(batch), _OUTSTANDING):
            part: Sequence[Routed] = batch[start : start + _OUTSTANDING]
            while part:
                part = await self._part(part, rejected)
        return sorted(rejected, key=lambda one: one.index)

    async def _part(self, part: Sequence[Routed], rejected: list[Rejected]) -> Sequence[Routed]:
        """Publish these. Returns those to publish again, in order: the server ended the channel because of another one."""
        channel = await self._ready()
        sent: list[Routed] = []
        tasks: list[asyncio.Task[object]] = []
        taken: list[str] = []
        loop = asyncio.get_running_loop()
        try:
            for one in part:
                fields = properties(one.message, self._new_id(one.message.envelope.id, taken))
                why = self._unfit(one.message) or too_large(fields, self._frame_bytes)
                if why is not None:
                    rejected.append(Rejected(one.index, why))
                    continue
                # A task a message: each waits for its own confirmation. They take their turns in this order.
                publishing = channel.basic_publish(
                    one.message.data,
                    exchange=one.exchange,
                    routing_key=str(one.partition),
                    properties=fields,
                    mandatory=True,
                    wait=False,
                )
                sent.append(one)
                tasks.append(loop.create_task(publishing))
            if tasks:
                await self._confirmed(tasks)
            return self._judge(sent, tasks, rejected)
        finally:
            # Cancelled: what is not written yet is not written any more, and no task outlives the call.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._outstanding.difference_update(taken)

    async def _confirmed(self, tasks: Sequence[asyncio.Task[object]]) -> None:
        """Wait for all, as long as there is progress: a large batch on a slow line takes its time."""
        clock = asyncio.get_running_loop().time
        seen = clock()

        def progress(_: object) -> None:
            nonlocal seen
            seen = clock()

        for task in tasks:
            task.add_done_callback(progress)
        pending = set(tasks)
        while pending:
            _, pending = await asyncio.wait(
                pending, timeout=max(seen + self._timeout_seconds - clock(), 0.01)
            )
            if pending and clock() - seen >= self._timeout_seconds:
                # Only a new connection tells whether the server, or the way to it, is alive.
                self._link.cut()
                raise BrokerUnavailable(
                    f"RabbitMQ at {self._link.shown} confirmed none of {len(pending)} messages within "
                    f"{self._timeout_seconds:g} s. It hangs, or takes no messages since it wants memory or disk: look for alarms "
                    "with `rabbitmq-diagnostics alarms`. All are published again."
                )

    def _judge(
        self,
        sent: Sequence[Routed],
        tasks: Sequence[asyncio.Task[object]],
        rejected: list[Rejected],
    ) -> list[Routed]:
        ended: BaseException | None = None
        unknown: list[Routed] = []
        for one, task in zip(sent, tasks, strict=True):
            # The client cancels what waits when it finds the connection dead; nobody else has cancelled these yet.
            error = (
                ConnectionError("the connection is gone") if task.cancelled() else task.exception()
            )
            if error is None:
                continue
            if isinstance(error, PublishError):
                rejected.append(Rejected(one.index, self._unroutable(one), final=False))
            elif isinstance(error, DeliveryError):
                why = f"RabbitMQ could not store it for topic {one.message.topic!r} ({error}); it is tried again."
                rejected.append(Rejected(one.index, why, final=False))
            elif isinstance(error, FAILURES):
                unknown.append(one)
                # What ended the channel tells more than that it has ended.
                ended = error if ended is None or isinstance(error, ChannelClosed) else ended
            else:
                # The client cannot write it, so nothing was sent.
                why = f"the client cannot send it: {error}."
                rejected.append(Rejected(one.index, why))
        if ended is None:
            return []
        return self._rest(ended, unknown, rejected)

    def _rest(
        self, ended: BaseException, unknown: list[Routed], rejected: list[Rejected]
    ) -> list[Routed]:
        """The channel has ended: who was it, and who is innocent? Each answer leaves fewer, or refuses more, or raises."""
        self._channel = None
        text = describe(ended, self._timeout_seconds)
        size = _TOO_LARGE.search(text)
        if size and int(size[1]) < self._most_bytes:
            self._most_bytes = int(size[1])
            return unknown
        of = [one for one in unknown if f"exchange '{one.exchange}' in" in text]
        if of and isinstance(ended, ChannelAccessRefused):
            why = f"RabbitMQ refuses: {text}. Give the user the permission to write; it is tried again."
            rejected += [Rejected(one.index, why, final=False) for one in of]
            return [one for one in unknown if one not in of]
        if of and isinstance(ended, ChannelNotFoundEntity):
            topic = of[0].message.topic
            raise TopicNotFound(
                f"RabbitMQ at {self._link.shown} has no topic {topic!r}: {text}. Call `await broker.declare([Topic({topic!r})])`."
            ) from ended
        raise BrokerUnavailable(
            f"RabbitMQ at {self._link.shown} failed while {len(unknown)} messages were on their way: {text}. "
            "All are published again."
        ) from ended

    def _new_id(self, wanted: str, taken: list[str]) -> str:
        """The message's id, or another while a message with this id is under way: a returned one is known by it."""
        if wanted in self._outstanding or not 0 < len(wanted.encode()) <= MOST_SHORT_BYTES:
            wanted = uuid4().hex
        self._outstanding.add(wanted)
        taken.append(wanted)
        return wanted

    def _unfit(self, message: Message) -> str | None:
        size = len(message.data)
        if size <= self._most_bytes:
            return None
        return f"its body has {size} bytes, and {self._most_bytes} is the most that RabbitMQ is to take (max_body_bytes)."

    def _unroutable(self, one: Routed) -> str:
        return (
            f"no queue is bound to exchange {one.exchange!r} for partition {one.partition} of topic {one.message.topic!r}: a "
            f"queue named like '<group>.{one.exchange}.{one.partition}' is missing, bound with routing key '{one.partition}'. "
            "No group reads the topic yet, or a queue was deleted; starting a consumer makes it. It is tried again."
        )

    async def _ready(self) -> aiormq.Channel:
        connection = await self._link.connection()
        async with self._lock:
            if self._channel is None or self._channel.is_closed:
                async with self._link.asking("opening a channel to publish"):
                    self._channel = await opened(connection, confirms=True)
                self._frame_bytes = connection.connection_tune.frame_max - _FRAME_BYTES
            return self._channel
