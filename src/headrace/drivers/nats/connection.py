"""A broker's connection: one link at a time, made anew when it is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from headrace.backoff import Backoff
from headrace.drivers.nats.link import Link
from headrace.errors import BrokerUnavailable

if TYPE_CHECKING:
    import ssl

    from headrace.drivers.nats.settings import Auth, Tls

_MOST_BACKOFF_SECONDS: Final = 2.0
"""Between tries to connect. Relay and consumers wait longer by themselves."""

_TRIES_AFTER_RESET: Final = 3
"""A server that refuses a client writes why and hangs up; when the client has written meanwhile, the reset of the line may
overtake the reason. The next try most often hears it; the last one says what it may be."""


class Connection:
    """Gives a link that works, and connects when there is none. Whoever calls first connects, others wait for it.

    Args:
        addresses: `host:port` of servers of one cluster, tried in random order.
        auth: who the client is.
        tls: None for TLS only on demand.
        name: of the client.
        timeout_seconds: for all servers together, and for each answer of a link.
        on_loss: called when a link is lost.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        auth: Auth,
        tls: Tls | None,
        *,
        name: str,
        timeout_seconds: float,
        on_loss: Callable[[], None],
    ) -> None:
        self._addresses = addresses
        self._auth = auth
        self._tls = tls
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._on_loss = on_loss
        self._link: Link | None = None
        self._connecting = asyncio.Lock()
        self._backoff = Backoff(_MOST_BACKOFF_SECONDS)
        self._failure: BrokerUnavailable | None = None
        self._retry_at = float("-inf")

    @property
    def usable(self) -> Link | None:
        """The link, if it works."""
        return self._link if self._link is not None and self._link.usable else None

    async def link(self) -> Link:
        """A link that works.

        Raises:
            BrokerUnavailable: no server lets us in. For a moment after a failure it is raised without another try.
        """
        if (link := self.usable) is not None:
            return link
        async with self._connecting:
            if (link := self.usable) is not None:
                return link
            if self._failure is not None and time.monotonic() < self._retry_at:
                raise BrokerUnavailable(str(self._failure.args[0])) from self._failure
            await self.close()
            self._link = await self._connect()
            return self._link

    async def close(self) -> None:
        """Close what is open."""
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def _connect(self) -> Link:
        context = self._tls.context() if self._tls is not None else None
        order = random.sample(self._addresses, len(self._addresses))
        seconds = max(min(1.0, self._timeout_seconds), self._timeout_seconds / len(order))
        failures: list[str] = []
        for address in order:
            try:
                link = await self._open(address, context, seconds)
            except BrokerUnavailable as error:
                failures.append(str(error.args[0]))
                continue
            self._backoff.reset()
            self._failure = None
            return link
        self._failure = BrokerUnavailable("; ".join(failures))
        self._retry_at = time.monotonic() + self._backoff.next()
        raise self._failure

    async def _open(self, address: str, context: ssl.SSLContext | None, seconds: float) -> Link:
        tries = _TRIES_AFTER_RESET
        while True:
            link = Link(address, self._name, self._timeout_seconds, self._on_loss)
            try:
                await link.open(self._auth, self._tls, context, seconds)
                return link
            except BrokerUnavailable as error:
                tries -= 1
                if not isinstance(error.__cause__, ConnectionResetError):
                    raise
                if not tries:
                    raise BrokerUnavailable(
                        f"{error.args[0]}; a server that refuses a login may hang up like this: check user, password and TLS"
                    ) from error
