"""Exchanges, queues and bindings: made, or checked where the app may not make them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import aiormq
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelClosed,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from pamqp.common import Arguments

from headrace.broker import PARTITIONS, Reading, Topic
from headrace.drivers.rabbitmq.link import Link, describe
from headrace.drivers.rabbitmq.names import Names
from headrace.drivers.rabbitmq.settings import Declare, Queues
from headrace.errors import (
    BrokerUnavailable,
    ConfigurationError,
    TopicMismatch,
    TopicNotFound,
)

# "... received '0' but current is '3'", from 3.13 on "... current is the value '3' of type 'long'".
_RECORDED: Final = re.compile(r"inequivalent arg 'x-max-length'.*current is (?:the value )?'(\d+)'")
_TYPE_DIFFERS: Final = re.compile(r"inequivalent arg 'x-queue-type'")
_MOST_RETURNS: Final = 2**31 - 1
"""A message of a quorum queue is dropped when it was returned more often than its limit, 20 from RabbitMQ 4.0 on, and each
process that dies returns what it held. No argument means "never" in all versions; this is as good."""


class Topology:
    """What topics and readings are on the server.

    The partition count of a topic is recorded as the argument `x-max-length` of a queue that stays empty: arguments
    never change once a queue is made, a declaration with another value is refused, and the refusal names the value. So
    two apps that make a topic at once with different counts cannot both succeed, and nobody ever sees half a record.

    Args:
        link: where.
        names: of what.
        queues: the type of queue to make.
        declare: "make", or "check" to make nothing.
    """

    def __init__(self, link: Link, names: Names, queues: Queues, declare: Declare) -> None:
        self._link = link
        self._names = names
        self._queues: Queues = queues
        self._declare = declare
        self._counts: dict[str, int] = {}

    async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading]) -> None:
        """See `Broker.declare`.

        Raises:
            TopicMismatch: a topic has another count, or an exchange or queue is there that is made differently.
            TopicNotFound: something is missing that may not be made.
        """
        for topic in topics:
            if topic.partitions is not None and topic.partitions < 1:
                raise ConfigurationError(f"{topic!r}: give 1 partition or more")
        if self._declare == "check":
            await self._check(topics, readings)
            return
        for topic in topics:
            await self._make_topic(topic)
        for reading in readings:
            await self._make_queues(reading, await self.partitions(reading.topic))

    async def partitions(self, topic: str) -> int:
        """The recorded count, asked for once.

        Raises:
            TopicNotFound: there is no record, so the topic was not declared.
        """
        count = self._counts.get(topic)
        if count is None:
            count = await self._recorded(topic)
            if count is None:
                raise TopicNotFound(
                    f"RabbitMQ at {self._link.shown} has no topic {topic!r} (no queue {self._names.record(topic)!r} that records "
                    f"its partitions): call `await broker.declare([Topic({topic!r})])` first, or check the name"
                )
            self._counts[topic] = count
        return count

    def forget(self, topic: str) -> None:
        """The topic has vanished from the server: look again at the next use."""
        self._counts.pop(topic, None)

    async def _make_topic(self, topic: Topic) -> None:
        # The record first: once an exchange is there the count is decided. Looked at each time: it may have been deleted.
        count = await self._record(topic)
        _agree(topic, count)
        exchange = self._names.exchange(topic.name)
        what = f"making exchange {exchange!r}"
        try:
            async with self._link.channel(what) as channel:
                await channel.exchange_declare(exchange, exchange_type="direct", durable=True)
        except ChannelClosed as error:
            raise _differs(f"topic {topic.name!r}", what, error) from error
        self._counts[topic.name] = count

    async def _record(self, topic: Topic) -> int:
        """Record the count unless one is; the count that is recorded then."""
        asked = topic.partitions
        if asked is None:
            return await self._recorded(topic.name) or await self._probe(topic.name, PARTITIONS)
        return await self._probe(topic.name, asked)

    async def _recorded(self, topic: str) -> int | None:
        """The recorded count, or None. Makes nothing."""
        record = self._names.record(topic)
        if not await self._is_there(record):
            return None
        # Any other value than the recorded one is refused with it. 0 is never recorded.
        return await self._probe(topic, 0) or None

    async def _probe(self, topic: str, count: int) -> int:
        """Declare the record with a count; the count that it has."""
        record = self._names.record(topic)
        what = f"looking up the partitions of topic {topic!r}"
        refused: ChannelClosed | None = None
        # The record may be of the other type, made by an app with another setting: which one does not matter.
        for kind in (self._queues, "classic" if self._queues == "quorum" else "quorum"):
            arguments: Arguments = {"x-max-length": count, "x-queue-type": kind}
            try:
                async with self._link.channel(what) as channel:
                    await channel.queue_declare(record, durable=True, arguments=arguments)
                    if not count:
                        # It vanished a moment ago, and is not to come back by being looked at.
                        await channel.queue_delete(record)
                    return count
            except ChannelPreconditionFailed as error:
                refused = error
                found = _RECORDED.search(str(error))
                if found:
                    return int(found[1])
                if not _TYPE_DIFFERS.search(str(error)):
                    break
            except ChannelAccessRefused as error:
                raise TopicNotFound(
                    f"the partitions of topic {topic!r} cannot be looked up: {describe(error, 0)}. Give the user the permission "
                    f"to configure {record!r}; nothing is changed by looking it up"
                ) from error
            except ChannelClosed as error:
                raise _unavailable(what, error) from error
        raise TopicMismatch(
            f"the queue {record!r} does not record the partitions of topic {topic!r}: {refused}. It was not made by Headrace: "
            "use another name or prefix, or delete it"
        ) from refused

    async def _make_queues(self, reading: Reading, count: int) -> None:
        limit = {"x-delivery-limit": _MOST_RETURNS} if self._queues == "quorum" else {}
        arguments: Arguments = {
            "x-queue-type": self._queues,
            "x-single-active-consumer": True,
            **limit,
        }
        exchange = self._names.exchange(reading.topic)
        what = f"making the queues of group {reading.group!r} on topic {reading.topic!r}"
        try:
            async with self._link.channel(what) as channel:
                for partition in range(count):
                    queue = self._names.queue(reading.group, reading.topic, partition)
                    await channel.queue_declare(queue, durable=True, arguments=arguments)
                    await channel.queue_bind(queue, exchange, routing_key=str(partition))
        except ChannelClosed as error:
            raise _differs(f"group {reading.group!r} on {reading.topic!r}", what, error) from error

    async def _check(self, topics: Sequence[Topic], readings: Sequence[Reading]) -> None:
        missing: list[str] = []
        for topic in topics:
            exchange, record = self._names.exchange(topic.name), self._names.record(topic.name)
            count = topic.partitions or PARTITIONS
            if not await self._is_there(exchange, exchange=True):
                missing.append(
                    f"the exchange {exchange!r}: rabbitmqadmin declare exchange name='{exchange}' type=direct durable=true"
                )
            if not await self._is_there(record):
                arguments = f'{{"x-max-length": {count}, "x-queue-type": "{self._queues}"}}'
                missing.append(f"the queue {record!r}: {_command(record, arguments)}")
            else:
                _agree(topic, await self.partitions(topic.name))
        counts = {topic.name: topic.partitions or PARTITIONS for topic in topics}
        for reading in readings:
            recorded = await self._recorded(reading.topic)
            count = recorded or counts.get(reading.topic, PARTITIONS)
            missing += await self._missing_queues(reading, count)
        if missing:
            raise TopicNotFound(
                f"RabbitMQ at {self._link.shown} lacks, and declare='check' makes nothing:\n  "
                + "\n  ".join(missing)
                + "\nRun these commands as an administrator, or let Headrace make it with declare='make'."
            )

    async def _missing_queues(self, reading: Reading, count: int) -> list[str]:
        limit = f', "x-delivery-limit": {_MOST_RETURNS}' if self._queues == "quorum" else ""
        arguments = f'{{"x-single-active-consumer": true, "x-queue-type": "{self._queues}"{limit}}}'
        exchange = self._names.exchange(reading.topic)
        missing: list[str] = []
        for partition in range(count):
            queue = self._names.queue(reading.group, reading.topic, partition)
            if not await self._is_there(queue):
                missing.append(
                    f"the queue {queue!r}: {_command(queue, arguments)} && rabbitmqadmin declare binding source='{exchange}' "
                    f"destination='{queue}' routing_key={partition}"
                )
        return missing

    async def _is_there(self, name: str, *, exchange: bool = False) -> bool:
        what = f"looking for {name!r}"
        try:
            async with self._link.channel(what) as channel:
                if exchange:
                    await channel.exchange_declare(name, passive=True)
                else:
                    await channel.queue_declare(name, passive=True)
        except ChannelNotFoundEntity as error:
            if "home node" in str(error):
                # It exists, on a node of the cluster that is away.
                raise _unavailable(what, error) from error
            return False
        except ChannelClosed as error:
            raise _unavailable(what, error) from error
        return True


async def ready(channel: aiormq.Channel, queue: str) -> int:
    """How many messages of a queue no reader holds."""
    declared = await channel.queue_declare(queue, passive=True)
    return declared.message_count or 0


def _agree(topic: Topic, count: int) -> None:
    if topic.partitions is not None and topic.partitions != count:
        raise TopicMismatch(
            f"topic {topic.name!r} has {count} partitions and was declared with {topic.partitions}: declare "
            f"Topic({topic.name!r}, partitions={count}), or use another name"
        )


def _command(queue: str, arguments: str) -> str:
    return f"rabbitmqadmin declare queue name='{queue}' durable=true arguments='{arguments}'"


def _unavailable(what: str, error: ChannelClosed) -> BrokerUnavailable:
    return BrokerUnavailable(f"RabbitMQ refused {what}: {describe(error, 0)}.")


def _differs(of: str, what: str, error: ChannelClosed) -> Exception:
    if isinstance(error, ChannelPreconditionFailed):
        return TopicMismatch(
            f"{of} cannot be used as it is on the server: {describe(error, 0)}. What is there was made with other settings (see "
            "`queues` of RabbitBroker) or by somebody else: use the same settings, another name, or delete it"
        )
    if isinstance(error, ChannelAccessRefused):
        return TopicNotFound(
            f"{of} cannot be made: {describe(error, 0)}. Give the user the permission to configure it, or make it by hand and "
            "use declare='check'"
        )
    return _unavailable(what, error)
