"""`publish`: a batch with one wait, order kept whatever fails.

Why the order holds (G6). A publisher starts at the oldest message that is not confirmed. Records of a partition leave in the
order in which they were handed over, and the servers refuse one whose predecessor is missing (idempotent producer), so a
broken connection or a moved leader never lets a later one pass. The library never drops a record on its own (infinite time-
out). An error that it cannot mend by repeating stops the whole producer (gapless guarantee): nothing that was handed over
afterwards gets through, a new producer is made, and it begins again with the oldest unconfirmed message. Where a wait ends
before the confirmation, the record stays in the producer's queue, in its place: publishing the same message again attaches
to it, and what comes later queues up behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from headrace.broker import Rejected, partition_of, stable_hash
from headrace.drivers.kafka.names import server_name
from headrace.drivers.kafka.sender import Delivery, Place, Sender, Waiter
from headrace.drivers.kafka.settings import Settings
from headrace.envelope import Message
from headrace.errors import BrokerUnavailable, ConfigurationError
from headrace.wire import to_headers

PREFIX: Final = "ce_"

# The servers will never accept the record, if it was alone in its request.
_FINAL: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
    }
)
# It failed because the producer as a whole has ended, not for a reason of its own.
_WITH_THE_PRODUCER: Final = frozenset(
    {
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._FATAL,
        KafkaError._GAPLESS_GUARANTEE,
        KafkaError._DESTROY,
    }
)


_key_hash = lru_cache(maxsize=10_000)(stable_hash)


class _Item:
    """A message of a call, and what became of it."""

    __slots__ = ("delivery", "identity", "index", "message", "place")

    def __init__(self, index: int, message: Message, place: Place) -> None:
        envelope = message.envelope
        self.index = index
        self.message = message
        self.place = place
        self.identity = (place[0], envelope.source, envelope.id)
        self.delivery: Delivery | None = None

    @property
    def confirmed(self) -> bool:
        return self.delivery is not None and self.delivery.done and self.delivery.error is None


class _Batch:
    """What has become of the messages of one call."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.rejected: dict[int, Rejected] = {}
        self.confirmed = 0
        self._keys: dict[tuple[str, str], int] = {}

    def reject(self, item: _Item, reason: str, *, final: bool) -> None:
        """It is not stored. Later ones of its key must not be either."""
        self.rejected[item.index] = Rejected(item.index, reason, final=final)
        if item.message.key is not None:
            self._keys.setdefault((item.place[0], item.message.key), item.index)

    def behind(self, item: _Item) -> int | None:
        """The message of this call that was rejected before it in its key, if any."""
        if not self._keys or item.message.key is None:
            return None
        return self._keys.get((item.place[0], item.message.key))

    def reject_behind(self, item: _Item, index: int) -> None:
        """It has to wait for another of its key."""
        self.reject(item, f"it waits behind message {index} of its key.", final=False)


class Publisher:
    """Publishes batches through one producer at a time.

    Args:
        settings: of the broker.
        count: the number of partitions of a topic, by its name in the app.
        forget: called with a topic's name when the servers say that there is none.
    """

    def __init__(
        self,
        settings: Settings,
        count: Callable[[str], Awaitable[int]],
        forget: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._count = count
        self._forget = forget
        self._sender: Sender | None = None
        self._opening = asyncio.Lock()
        self._stopping = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        # Partitions with records that failed on their own account: handled apart and one by one, until one goes through.
        self._troubled: set[Place] = set()

    async def open(self) -> None:
        """Make the first producer, so that wrong settings are found at start."""
        await self._usable()

    @property
    def why(self) -> str | None:
        """What the connections said last."""
        error = self._sender.last_error if self._sender is not None else None
        return None if error is None else error.str()

    async def stop(self) -> None:
        """Let calls end that are under way (each ends within `publish_seconds`), then close the producer."""
        self._stopping = True
        try:
            async with asyncio.timeout(self._settings.publish_seconds):
                await self._idle.wait()
        except TimeoutError:
            pass
        finally:
            if self._sender is not None:
                await self._sender.close()
        await self._idle.wait()

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        """See `Broker.publish`."""
        self._check_running()
        if not messages:
            return ()
        self._calls += 1
        self._idle.clear()
        try:
            return await self._publish(messages)
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def _publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        batch = _Batch(asyncio.get_running_loop().time() + self._settings.publish_seconds)
        names: dict[str, tuple[str, int]] = {}
        for topic in {message.topic for message in messages}:
            names[topic] = (server_name(topic, self._settings.prefix), await self._count(topic))
        items: list[_Item] = []
        for index, message in enumerate(messages):
            name, count = names[message.topic]
            items.append(_Item(index, message, (name, self._partition(message, count))))
        left = self._without_oversized(batch, items)
        rounds = 0
        while left:
            if rounds > 1:
                # New producers fail too: whatever it is, it needs time.
                await asyncio.sleep(min(0.05 * rounds, 1.0))
            rounds += 1
            sender = await self._usable()
            calm = [item for item in left if item.place not in self._troubled]
            await self._send_together(batch, sender, calm)
            left = self._settled(batch, left)
            apart = [item for item in left if item.place in self._troubled]
            if apart and not any(item.place not in self._troubled for item in left):
                await self._send_apart(batch, apart)
                left = self._settled(batch, left)
            if left and asyncio.get_running_loop().time() >= batch.until:
                self._give_up_waiting(batch, left)
                break
        return [batch.rejected[index] for index in sorted(batch.rejected)]

    def _partition(self, message: Message, count: int) -> int:
        if message.key is None:
            return partition_of(message, count)
        # Keys come again and again; the hash is the dearest step of handing over a message.
        return _key_hash(message.key) % count

    def _without_oversized(self, batch: _Batch, items: list[_Item]) -> list[_Item]:
        left: list[_Item] = []
        most = self._settings.max_body_bytes
        for item in items:
            behind = batch.behind(item)
            if behind is not None:
                batch.reject_behind(item, behind)
            elif len(item.message.data) > most:
                batch.reject(
                    item,
                    f"its body has {len(item.message.data)} bytes, at most {most} are accepted (max_body_bytes of the broker).",
                    final=True,
                )
            else:
                left.append(item)
        return left

    async def _send_together(self, batch: _Batch, sender: Sender, items: list[_Item]) -> None:
        """Hand all over, in order, then wait once."""
        waiter = Waiter(asyncio.get_running_loop())
        for item in items:
            try:
                go_on = self._hand_over(batch, sender, item)
            except BufferError:
                go_on = await self._hand_over_slowly(batch, sender, item)
            if not go_on:
                break
            if item.delivery is not None:
                waiter.add(item.delivery)
        await waiter.wait(batch.until)

    async def _send_apart(self, batch: _Batch, items: list[_Item]) -> None:
        """One by one, so that a refusal is known to be about this record; the first that fails stops its partition."""
        for place in dict.fromkeys(item.place for item in items):
            for item in [each for each in items if each.place == place]:
                behind = batch.behind(item)
                if behind is not None:
                    batch.reject_behind(item, behind)
                    continue
                sender = await self._usable()
                await self._send_together(batch, sender, [item])
                if item.confirmed:
                    self._troubled.discard(place)
                    continue
                error = item.delivery.error if item.delivery is not None else None
                if item.index in batch.rejected:
                    continue
                if error is not None and error.code() in _FINAL:
                    batch.reject(item, f"the servers refuse it: {error.str()}.", final=True)
                    continue
                reason = error.str() if error is not None else "it was not confirmed in time"
                for other in items:
                    if other.place == place and not other.confirmed:
                        batch.rejected.setdefault(
                            other.index,
                            Rejected(
                                other.index,
                                f"partition {place[1]} of {place[0]!r} takes nothing now: {reason}.",
                                final=False,
                            ),
                        )
                break

    def _hand_over(self, batch: _Batch, sender: Sender, item: _Item) -> bool:
        """Give a message to the producer, or find it there. False: no further one can be handed over now.

        Raises:
            BufferError: the producer's queue is full.
        """
        behind = batch.behind(item)
        if behind is not None:
            batch.reject_behind(item, behind)
            return True
        item.delivery = sender.under_way.get(item.identity)
        if item.delivery is not None:
            return True
        message = item.message
        headers = to_headers(message, PREFIX)
        if message.envelope.datacontenttype is not None:
            headers["content-type"] = message.envelope.datacontenttype
        try:
            item.delivery = sender.send(
                item.identity, item.place, message.key, message.data, headers
            )
        except KafkaException as exception:
            return self._refused(batch, item, exception)
        return True

    async def _hand_over_slowly(self, batch: _Batch, sender: Sender, item: _Item) -> bool:
        """The same when the queue is full: what was handed over goes on, and room comes with each confirmation (G11)."""
        while True:
            sender.room.clear()
            try:
                async with asyncio.timeout_at(batch.until):
                    await sender.room.wait()
            except TimeoutError:
                return False
            try:
                return self._hand_over(batch, sender, item)
            except BufferError:
                continue

    def _refused(self, batch: _Batch, item: _Item, exception: KafkaException) -> bool:
        """The producer did not take the message: it is too large, its topic is gone, or the producer has ended."""
        error: KafkaError = exception.args[0]
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            batch.reject(
                item,
                f"with its attributes it has more than {self._settings.record_bytes} bytes. Put less into metadata.",
                final=True,
            )
            return True
        if error.code() in (KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
            self._forget(item.message.topic)
            batch.reject(item, f"topic {item.place[0]!r}: {error.str()}.", final=False)
            return True
        return False

    def _settled(self, batch: _Batch, items: list[_Item]) -> list[_Item]:
        """Note what became of these; those that are to be sent again, or waited for, are left."""
        left: list[_Item] = []
        for item in items:
            if item.confirmed:
                batch.confirmed += 1
                continue
            if item.index in batch.rejected:
                continue
            left.append(item)
            delivery = item.delivery
            if delivery is not None and delivery.error is not None:
                code = delivery.error.code()
                if code not in _WITH_THE_PRODUCER:
                    self._troubled.add(item.place)
                if code in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART):
                    self._forget(item.message.topic)
        return left

    def _give_up_waiting(self, batch: _Batch, left: list[_Item]) -> None:
        seconds = self._settings.publish_seconds
        why = f" (last error: {self.why})" if self.why is not None else ""
        if not batch.confirmed:
            raise BrokerUnavailable(
                f"no message was confirmed by {self._settings.where} within {seconds:g} seconds{why}. Are the servers up?"
            )
        for item in left:
            batch.reject(
                item,
                f"partition {item.place[1]} of {item.place[0]!r} did not confirm it within {seconds:g} seconds{why}.",
                final=False,
            )

    async def _usable(self) -> Sender:
        self._check_running()
        async with self._opening:
            if self._sender is not None and not self._sender.dead:
                return self._sender
            if self._sender is not None:
                await self._sender.close()
                if self._sender.too_old:
                    raise ConfigurationError(too_old(self._settings))
            self._check_running()
            sender = Sender(self._settings)
            # Kept before it is open: whoever stops closes it, also if this call is cancelled.
            self._sender = sender
            await sender.open()
            return sender

    def _check_running(self) -> None:
        if self._stopping:
            raise BrokerUnavailable(f"the broker on {self._settings.where} was stopped.")


def too_old(settings: Settings) -> str:
    """The sentence for servers without idempotent producers and headers."""
    return (
        f"the Kafka servers at {settings.where} are too old: they know no idempotent producers and no headers. Use Apache "
        "Kafka 0.11 or later, or a server that speaks its protocol."
    )
