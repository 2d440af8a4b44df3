"""Messages on their way to a stream: many sent, one wait for all confirmations."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace.broker import Rejected, Wire
from headrace.drivers.nats.link import ApiError, Link, parse
from headrace.wire import percent_encoded, to_headers

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from headrace.drivers.nats.names import Names
    from headrace.envelope import Message
    from headrace.errors import BrokerUnavailable

PREFIX: Final = "ce-"
"""Of headers that are attributes. Source: CloudEvents 1.0.3, NATS Protocol Binding, section 3.1.3."""

FINAL_CODES: Final = frozenset({10054, 10097})
"""Errors of JetStream that no repetition mends: body above the stream's `max_msg_size`, headers above 64 KiB."""

HEADER_ROOM_BYTES: Final = 16 * 1024
"""Kept free for attributes, of which the caller's metadata may be 8 KiB."""

WINDOW_BYTES: Final = 8 * 1024 * 1024
"""The most bytes sent and not yet confirmed of one call: it bounds what a server that is slow makes us keep."""

_TURN: Final = 64
"""So many messages are handed to the connection before it gets a turn to send: the server works while we encode. (Measured
with 1 KiB bodies: 16 to 128 are alike, without turns a tenth slower.)"""


@dataclass(slots=True)
class Outgoing:
    """A message as it goes to the server.

    Args:
        subject: of its partition.
        headers: attributes, and the id by which the server knows a repeat.
        data: the body.
        size_bytes: headers and body as the server counts them.
    """

    subject: str
    headers: dict[str, str]
    data: bytes
    size_bytes: int


def wire(addresses: Sequence[str], names: Names) -> Wire:
    """Where messages are, from the servers' addresses and the names on them."""
    return Wire(
        protocol="nats",
        servers=tuple(addresses),
        header_prefix=PREFIX,
        address=lambda topic, partition: f"{names.stream(topic)}.{partition}",
    )


def outgoing(message: Message, subject: str) -> Outgoing:
    """A message with its attributes as headers, percent-encoded as the binding says.

    `Nats-Msg-Id` is its source and id. Within the stream's duplicate window the server stores a repeat once, and
    confirms it like the first: it is stored.
    """
    headers = {name: percent_encoded(value) for name, value in to_headers(message, PREFIX).items()}
    content_type = message.envelope.datacontenttype
    if content_type is not None:
        headers["ce-datacontenttype"] = percent_encoded(content_type)
    headers["Nats-Msg-Id"] = f"{headers['ce-source']} {headers['ce-id']}"
    # All is ASCII by now. "NATS/1.0", a line for each header and an empty line.
    size = 12 + sum(map(len, headers)) + sum(map(len, headers.values())) + 4 * len(headers)
    return Outgoing(subject, headers, message.data, size + len(message.data))


def too_large(message: Outgoing, max_payload_bytes: int) -> str | None:
    """Why the server would never take a message, or None. It would close the connection, with all that is on it."""
    most = max_payload_bytes - HEADER_ROOM_BYTES
    if len(message.data) > most:
        return f"The body has {len(message.data)} bytes; the NATS server takes {most}, besides headers."
    if message.size_bytes > max_payload_bytes:
        return f"Body and headers have {message.size_bytes} bytes; the NATS server takes {max_payload_bytes}."
    return None


async def publish(
    link: Link, messages: Sequence[Message], subjects: Sequence[str]
) -> tuple[list[Rejected], Mapping[int, ApiError]]:
    """Send messages and wait for the server's word on each.

    Args:
        link: the connection.
        messages: what to send.
        subjects: where each of them goes.

    Returns:
        What is not stored, and of that what the server itself has refused, by its index.

    Raises:
        BrokerUnavailable: the connection is lost, or nothing was answered for the time-out of the link.
    """
    rejected: list[Rejected] = []
    sendable: list[tuple[int, Outgoing]] = []
    for index, (message, subject) in enumerate(zip(messages, subjects, strict=True)):
        ready = outgoing(message, subject)
        reason = too_large(ready, link.max_payload_bytes)
        if reason:
            rejected.append(Rejected(index, reason))
        else:
            sendable.append((index, ready))
    batch = Batch()
    await batch.send(link, sendable)
    rejected += (
        Rejected(index, f"The NATS server says: {error}.", error.code in FINAL_CODES)
        for index, error in batch.refused.items()
    )
    return rejected, batch.refused


class Batch:
    """One call of `publish`: sends, counts confirmations, and remembers what was refused.

    Why order per key holds (G6), though `ordered_batch` is False: the server may refuse a message (its disk is full, the
    leader of a stream changes) and take the next one. So the relay has at most one message of a key in a call, and sends
    a later one only when all earlier ones are confirmed. A connection that is lost takes what it still had with it (see
    `Link`); whatever arrives late on a hung one is a repeat of a message that is published again anyway.
    """

    __slots__ = ("_answers", "_bytes", "_error", "_goal", "_sizes", "_waiting", "refused")

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._bytes = 0
        self._answers = 0
        self._goal = 0
        self._waiting: asyncio.Future[None] | None = None
        self._error: BrokerUnavailable | None = None
        self.refused: dict[int, ApiError] = {}
        """The error of each message that was not stored, by its index."""

    async def send(self, link: Link, messages: Sequence[tuple[int, Outgoing]]) -> None:
        """Send all and wait until all are answered.

        Raises:
            BrokerUnavailable: the connection is lost, or nothing was answered for the time-out of the link.
        """
        reply = link.expect(self)
        try:
            for number, (index, message) in enumerate(messages, 1):
                if self._bytes > WINDOW_BYTES:
                    await self._until(link, WINDOW_BYTES // 2)
                self._sizes[index] = message.size_bytes
                self._bytes += message.size_bytes
                await link.publish(
                    message.subject, message.data, f"{reply}.{index}", message.headers or None
                )
                if number % _TURN == 0:
                    await asyncio.sleep(0)
            await self._until(link, 0)
        finally:
            link.forget(reply)

    async def _until(self, link: Link, most_bytes: int) -> None:
        """Wait until at most so many bytes are unconfirmed. Each answer gives the server more time."""
        self._goal = most_bytes
        while self._bytes > most_bytes:
            if self._error is not None:
                raise self._error
            answers = self._answers
            self._waiting = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._waiting}, timeout=link.timeout_seconds)
            if self._answers == answers and self._error is None:
                raise link.unavailable(TimeoutError())

    def answered(self, part: str, msg: Msg) -> None:
        """See `Waiter.answered`."""
        index = int(part)
        size = self._sizes.pop(index, None)
        if size is None:
            return
        self._answers += 1
        self._bytes -= size
        # What a stream confirms with begins so; all else is looked at.
        if not msg.data.startswith(b'{"stream":'):
            try:
                parse(msg)
            except ApiError as error:
                self.refused[index] = error
        if self._bytes <= self._goal:
            self._wake()

    def lost(self, error: BrokerUnavailable) -> None:
        """See `Waiter.lost`."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def refusals(refused: Mapping[int, ApiError]) -> str:
    """What the server said, for people."""
    return "; ".join(sorted({str(error) for error in refused.values()}))
