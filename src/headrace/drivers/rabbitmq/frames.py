"""The stream of a connection, without the frames that would end it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from pamqp.header import ContentHeader
from yarl import URL

from headrace.telemetry import Logbook, LogEvent

_CONTENT_HEADER: Final = b"\x02"
_FIXED_BYTES: Final = 12
"""Class, weight and size of the body, before the flags of the properties."""

_CONTENT_TYPE: Final = 0x8000
_CONTENT_ENCODING: Final = 0x4000
_HEADERS: Final = 0x2000

_LOG: Final = Logbook()


class FrameStream(asyncio.StreamReader):
    """Gives the client the frames of the server, and properties that it cannot decode as none.

    The server lets a producer write bytes that are no UTF-8 where the protocol wants it: into the content type, or into the
    name of a header. The client's decoder raises, and ends the connection; the message is delivered again, and again
    ends it, so one message of anybody would stop every reading of the process (G14). Without its properties such a message
    is one that nobody can read, which is passed over.

    The client reads a frame in three steps: its type, the rest of its head, what is in it.
    """

    def __init__(self) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._step = 0
        self._kind = b""

    async def readexactly(self, n: int) -> bytes:
        """See `asyncio.StreamReader.readexactly`."""
        data = await super().readexactly(n)
        if self._step == 0:
            self._kind = data
        elif self._step == 2 and self._kind == _CONTENT_HEADER:
            data = _decodable(data)
        self._step = (self._step + 1) % 3
        return data


def _decodable(frame: bytes) -> bytes:
    if _is_plain(frame):
        return frame
    try:
        ContentHeader().unmarshal(frame[:-1])
    except Exception as error:
        _LOG.warning(
            LogEvent.RABBITMQ_UNDECODABLE,
            f"A message on RabbitMQ has properties that cannot be decoded ({error}): they are taken as none, and the message is "
            "passed over unless `foreign` knows it.",
        )
        # No flag says that there are properties. The frame keeps its length, which its head has told.
        return frame[:_FIXED_BYTES] + bytes(len(frame) - _FIXED_BYTES - 1) + frame[-1:]
    return frame


def _is_plain(frame: bytes) -> bool:
    """True if all but the size of the headers is plain ASCII: decoding most messages twice would cost a tenth of reading."""
    flags = frame[_FIXED_BYTES] << 8 | frame[_FIXED_BYTES + 1]
    at = start = _FIXED_BYTES + 2
    for flag in (_CONTENT_TYPE, _CONTENT_ENCODING):
        if flags & flag:
            at += 1 + frame[at]
    # The last byte ends the frame.
    return frame[start:at].isascii() and frame[at + 4 if flags & _HEADERS else at : -1].isascii()


async def connect(
    url: URL, context: ssl.SSLContext | None, shutdown_seconds: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a socket, with TLS if there is a context."""
    stream = FrameStream()
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(stream, loop=loop)
    transport, _ = await loop.create_connection(
        lambda: protocol,
        url.host or "localhost",
        url.port or 0,
        ssl=context,
        ssl_shutdown_timeout=shutdown_seconds if context is not None else None,
    )
    return stream, asyncio.StreamWriter(transport, protocol, stream, loop)
