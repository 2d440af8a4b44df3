"""One partition as one group reads it: a pull consumer that only this reader has, and a bounded buffer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import msgspec
import nats.errors

from headrace.broker import Received
from headrace.drivers.nats.link import API, status_of
from headrace.drivers.nats.publishing import PREFIX
from headrace.errors import BrokerUnavailable
from headrace.wire import Raw, percent_decoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from headrace.drivers.nats.link import Link
    from headrace.drivers.nats.topology import Log
    from headrace.wire import WireFormat

EXPIRE_SECONDS: Final = 30.0
"""A request for messages is answered for so long; then it is made again."""

HEARTBEAT_SECONDS: Final = 5.0
"""So often the server says that it still has a request; after three times as long in silence it is given up."""

INACTIVE_SECONDS: Final = 300.0
"""A consumer that asked for nothing for so long, the server removes: what a process left that was killed."""

_SECOND: Final = 1_000_000_000  # durations on the wire are nanoseconds
_HEARTBEAT: Final = 100
_REQUEST_ENDED: Final = (404, 408)
_MESSAGE_BYTES: Final = 1024  # what a message keeps besides its body, about: headers, objects


class Fetched(NamedTuple):
    """A message in the buffer: its sequence in the stream, when the server stored it, and itself."""

    sequence: int
    time_seconds: float
    msg: Msg


def received(wire: WireFormat, topic: str, partition: int, log: Log, fetched: Fetched) -> Received:
    """What was fetched, as a message: attributes are percent-encoded headers."""
    position, msg = log.position(fetched.sequence), fetched.msg
    headers = {
        name: percent_decoded(value) if name[:3].lower() == PREFIX else value
        for name, value in (msg.headers or {}).items()
    }
    raw = Raw(topic, partition, position, None, headers, None, msg.data, fetched.time_seconds)
    return Received(partition, position, wire.message(raw))


class Reader:
    """Fetches ahead of a position, in order, without a gap, and never more than its buffer may hold.

    The server sends only what was asked for, so the buffer is bounded without dropping anything. Each message carries its
    number in the consumer: if one is missing, or the consumer is gone (the server restarted, its leader moved), the reader
    is broken, and the next `seek` begins again behind the last message that came in order. Nothing is acknowledged: the
    position is the caller's.

    Args:
        stream: to read from.
        subject: of the partition.
        buffer_messages: the most messages kept.
        buffer_bytes: the most bytes asked for at once.
        wake: called when there is something to read, or something to mend.
    """

    def __init__(
        self,
        stream: str,
        subject: str,
        *,
        buffer_messages: int,
        buffer_bytes: int,
        wake: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._subject = subject
        self._most = buffer_messages
        self._most_bytes = buffer_bytes
        self._wake = wake
        self._lock = asyncio.Lock()
        self._log: Log | None = None
        self._link: Link | None = None
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._inbox = ""
        self._broken = True
        self._buffer: deque[Fetched] = deque()
        self._bytes = 0
        # All that the partition has behind `_begin` and up to `_last` is in the buffer.
        self._begin = 0
        self._last = 0
        self._number = 0
        self._asked = 0
        self._got = 0
        self._heard_at = 0.0
        # What a position that does not fit the stream was taken for: the same one gives the same messages again.
        self._given: str | None = None
        self._meant = 0

    async def seek(
        self,
        link: Link,
        after: str | None,
        settled: Callable[[], Awaitable[str | None]],
        find: Callable[[], Awaitable[Log]],
    ) -> Log:
        """Be ready to give what is behind a position; returns the stream that it is in.

        Args:
            link: the connection to read on.
            after: the caller's position, or None.
            settled: gives what the group is remembered to have settled; asked only if `after` says nothing.
            find: gives the stream as it is now; asked only if reading begins anew.
        """
        async with self._lock:
            running = not self._broken and self._link is link and not self._silent()
            if not running or self._log is None:
                log = await find()
                same = self._log is not None and log.identity == self._log.identity
                if not same or log.last < self._last:
                    # Made anew, or the server lost its end: what is buffered is of no stream.
                    self._clear(0)
                    self._given = None
                self._log = log
            target = await self._target(self._log, after, settled)
            fits = self._begin <= target <= self._last
            if fits:
                self._drop(target)
            if not running or not fits:
                if not fits:
                    self._clear(target)
                await self._begin_reading(link)
            elif self._asked == 0:
                await self._ask()
            return self._log

    def take(self, limit: int) -> Sequence[Fetched]:
        """The first messages behind the position that was sought, at most so many."""
        return list(islice(self._buffer, limit))

    async def stop(self) -> None:
        """Give up what is buffered, and the consumer. Does not wait for the network."""
        async with self._lock:
            await self._end_reading()
            self._clear(0)
            self._log = None

    async def _target(
        self, log: Log, after: str | None, settled: Callable[[], Awaitable[str | None]]
    ) -> int:
        """The sequence that a position means in this stream.

        One of another stream, or behind the end of this one (the server lost what it had not yet written to disk), means as
        little as None. To read again what a group knows is harmless, to skip what it does not know is not.
        """
        if after is not None and after == self._given:
            return self._meant
        newest = max(log.last, self._last)
        sequence = log.sequence(after)
        if sequence is not None and sequence <= newest:
            self._given = None
            return sequence
        remembered = log.sequence(await settled())
        self._given = after
        self._meant = remembered if remembered is not None and remembered <= newest else 0
        return self._meant

    def _clear(self, begin: int) -> None:
        self._buffer.clear()
        self._bytes = 0
        self._begin = self._last = begin

    def _drop(self, target: int) -> None:
        buffer = self._buffer
        while buffer and buffer[0].sequence <= target:
            self._bytes -= len(buffer.popleft().msg.data) + _MESSAGE_BYTES
        self._begin = target

    def _silent(self) -> bool:
        """The server has said nothing for too long: the consumer is gone, or this process has slept."""
        most = 3 * HEARTBEAT_SECONDS if self._asked else INACTIVE_SECONDS / 2
        return asyncio.get_running_loop().time() > self._heard_at + most

    async def _begin_reading(self, link: Link) -> None:
        await self._end_reading()
        inbox = link.new_inbox()

        def received(msg: Msg) -> Awaitable[None] | None:
            # What a subscription that was ended still delivers is of the past.
            return self._received(msg) if self._inbox == inbox else None

        self._subscription = await link.subscribe(inbox, received)
        self._inbox, self._link = inbox, link
        answer = await link.request(
            f"CONSUMER.CREATE.{self._stream}",
            {
                "stream_name": self._stream,
                "config": {
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": self._last + 1,
                    "filter_subject": self._subject,
                    "ack_policy": "none",
                    "mem_storage": True,
                    "num_replicas": 1,
                    "inactive_threshold": int(INACTIVE_SECONDS * _SECOND),
                },
            },
        )
        self._consumer = cast("str", answer["name"])
        self._number = 0
        self._asked = 0
        self._broken = False
        self._heard_at = asyncio.get_running_loop().time()
        await self._ask()

    async def _end_reading(self) -> None:
        subscription, link, consumer = self._subscription, self._link, self._consumer
        self._subscription, self._link, self._consumer, self._inbox = None, None, "", ""
        self._broken = True
        self._asked = 0
        if subscription is None or link is None or not link.usable:
            return
        try:
            await subscription.unsubscribe()
            if consumer:
                await link.publish(f"{API}.CONSUMER.DELETE.{self._stream}.{consumer}", b"")
        except (BrokerUnavailable, nats.errors.Error):
            pass  # the server forgets a consumer that nobody asks

    async def _ask(self) -> None:
        """Ask for as much as there is room for, if nothing is asked for already."""
        room = self._most - len(self._buffer)
        if room < max(1, self._most // 2) or self._bytes >= self._most_bytes:
            return
        link = self._link
        if link is None or self._broken:
            return
        self._asked = room
        self._got = 0
        least = link.max_payload_bytes + _MESSAGE_BYTES
        request = {
            "batch": room,
            "max_bytes": max(self._most_bytes - self._bytes, least),
            "expires": int(EXPIRE_SECONDS * _SECOND),
            "idle_heartbeat": int(HEARTBEAT_SECONDS * _SECOND),
        }
        try:
            await link.publish(
                f"{API}.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
                msgspec.json.encode(request),
                self._inbox,
            )
        except BrokerUnavailable:
            self._break()

    def _break(self) -> None:
        """The next `seek` begins anew."""
        self._broken = True
        self._wake()

    async def _received(self, msg: Msg) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if self._broken:
            return
        if not msg.reply:
            await self._told(msg)
            return
        tokens = msg.reply.split(".")
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<number>.<time>..., or with two more in front (domains).
        at = 5 if len(tokens) < 11 else 7
        sequence, number, nanoseconds = map(int, tokens[at : at + 3])
        if number != self._number + 1:
            self._break()
            return
        self._number = number
        self._last = sequence
        self._asked -= 1
        self._got += 1
        if sequence > self._begin:
            self._buffer.append(Fetched(sequence, nanoseconds / _SECOND, msg))
            self._bytes += len(msg.data) + _MESSAGE_BYTES
        if self._asked <= 0:
            await self._ask()
        self._wake()

    async def _told(self, msg: Msg) -> None:
        """A status: it is alive, a request has ended, or the consumer has."""
        status = status_of(msg)
        headers = msg.headers or {}
        if status == _HEARTBEAT:
            if headers.get("Nats-Last-Consumer", str(self._number)) != str(self._number):
                self._break()  # it has sent more than has come
            return
        about = headers.get("Description", "").lower()
        full = "maxbytes" in about
        if status in _REQUEST_ENDED or full or "batch completed" in about:
            self._asked = 0
            if full and not self._got:
                self._most_bytes *= 2  # one message alone is larger
            await self._ask()
        else:
            self._break()
