"""What a client by hand must do to be compared with a driver."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from msgspec.json import Decoder

from benchmarks.storage.by_hand import Row
from benchmarks.storage.consumers import Taken
from headrace.broker import Broker

GROUP: Final = "hand"
headers_of: Final = Decoder(dict[str, str]).decode
"""Headers that stand ready in the outbox, as JSON."""


class HandClient(Protocol):
    """The maintained client of a broker, used as its documentation does. One topic of 8 partitions, one reader."""

    async def publish(self, rows: Sequence[Row]) -> None:
        """Publish with headers, key and body; wait once until all are confirmed."""
        ...

    async def resume(self) -> None:
        """Let the server send, if the client fetches ahead or is pushed to."""
        ...

    async def read(self) -> Sequence[Taken]:
        """The next messages; waits until there are some."""
        ...

    async def settle(self) -> None:
        """What was read is handled: acknowledge it, or note the position."""
        ...

    async def pause(self) -> None:
        """Let the server send no more, and forget what was fetched ahead. It can be resumed."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A driver and the client by hand, both connected.

    Args:
        broker: the driver, not started.
        hand: the client by hand, on a topic of its own.
        prefix: of the attributes' names in headers.
        client: name and version of the client library.
    """

    broker: Broker
    hand: HandClient
    prefix: str
    client: str


async def quietly(*works: Callable[[], Awaitable[Any]]) -> None:
    """Remove what was made; what is not there is no fault."""
    for work in works:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(10):
                await work()
