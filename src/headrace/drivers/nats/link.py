"""One connection to a NATS server, from its start to its loss. It is never mended: the next one is a new object."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import msgspec
import nats.errors
from nats.aio.client import Client

from headrace.errors import BrokerUnavailable, ConfigurationError, MissingExtra

if TYPE_CHECKING:
    import ssl

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from headrace.drivers.nats.settings import Auth, Tls

OLDEST_SERVER: Final = (2, 9)
"""Heartbeats on pull requests and consumers in memory came with it."""

NO_RESPONDERS: Final = 503
"""Nobody listens to the subject: no stream has it, or its stream has no leader now."""

API: Final = "$JS.API"
"""What the subjects of JetStream's requests begin with."""

_CLOSE_SECONDS: Final = 2.0


class ApiError(Exception):
    """JetStream refused a request.

    Args:
        status: as in HTTP: 404 for what does not exist.
        code: the server's own number of the error.
        description: in its words.
    """

    def __init__(self, status: int, code: int, description: str) -> None:
        super().__init__(f"{description} (status {status}, error {code})")
        self.status = status
        self.code = code
        self.description = description


class Waiter(Protocol):
    """Waits for answers on a `Link`."""

    def answered(self, part: str, msg: Msg) -> None:
        """An answer has come; `part` is what followed the waiter's name in the reply subject."""
        ...

    def lost(self, error: BrokerUnavailable) -> None:
        """The connection was lost: no answer will come."""
        ...


class Link:
    """A connection, with one inbox for all answers.

    nats-py can reconnect by itself; this is not used. What it had buffered at the loss would be sent on the new connection,
    after its caller was told that it failed, and an authentication that expired or a limit reached ends it for good. Here a
    loss fails at once all that waits for an answer, nothing of a lost connection is ever sent, and the next call connects
    anew.

    Args:
        address: `host:port` of the server.
        name: of the client, for the server's operators.
        timeout_seconds: for each step: connecting, answers.
        api_prefix: of JetStream's API: `$JS.API`, or that of a domain.
        on_loss: called once when the connection is lost, on the loop.
    """

    def __init__(
        self,
        address: str,
        name: str,
        timeout_seconds: float,
        on_loss: Callable[[], None],
    ) -> None:
        self.address = address
        self.timeout_seconds = timeout_seconds
        self._name = name
        self._on_loss = on_loss
        self._nc = Client()
        self._waiters: dict[str, Waiter] = {}
        self._numbers = itertools.count(1)
        self._inbox = ""
        self._prefix_length = 0
        self._error: Exception | None = None
        self._lost = False

    @property
    def usable(self) -> bool:
        """The connection stands, as far as this side knows."""
        return not self._lost and self._nc.is_connected

    @property
    def max_payload_bytes(self) -> int:
        """The most bytes of headers and body together that the server takes."""
        return self._nc.max_payload

    @property
    def version(self) -> str:
        """The server's version."""
        return repr(self._nc.connected_server_version).removeprefix("<nats server v").rstrip(">")

    async def open(
        self, auth: Auth, tls: Tls | None, context: ssl.SSLContext | None, seconds: float
    ) -> None:
        """Connect, within so many seconds.

        Raises:
            BrokerUnavailable: the server cannot be reached, or refuses the client.
            ConfigurationError: it is too old, or speaks no TLS though that was asked for.
            MissingExtra: NKeys are used and their package is not installed.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._nc.connect(**self._options(auth, tls, context))
                if tls is not None and not tls.handshake_first:
                    self._check_tls()
                self._check_version()
                self._inbox = self._nc.new_inbox() + "."
                self._prefix_length = len(self._inbox)
                # Answers are as many as there are questions, so no limit is needed that would drop some.
                await self._nc.subscribe(  # pyright: ignore[reportUnknownMemberType]
                    f"{self._inbox}>",
                    cb=self._answer,
                    pending_msgs_limit=0,
                    pending_bytes_limit=0,
                )
        except (OSError, nats.errors.Error, TimeoutError) as error:
            await self.close()
            raise BrokerUnavailable(
                f"the NATS server {self.address} cannot be used: {self._reason(error)}"
            ) from self._error or error
        except ImportError as error:
            await self.close()
            raise MissingExtra(
                f"NKeys and credentials files need the package {error.name!r}: pip install 'headrace[nats]'"
            ) from error
        except BaseException:
            await self.close()
            raise

    def _options(
        self, auth: Auth, tls: Tls | None, context: ssl.SSLContext | None
    ) -> dict[str, Any]:
        options: dict[str, Any] = {
            "servers": [f"{'tls' if tls else 'nats'}://{self.address}"],
            "name": self._name,
            "error_cb": self._noticed,
            "disconnected_cb": self._disconnected,
            "allow_reconnect": False,
            # One more try would only wait: there is a new link for that.
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0.01,
            "connect_timeout": self.timeout_seconds,
            # A server that is silent for three of them is given up.
            "ping_interval": max(self.timeout_seconds / 2, 0.5),
            "max_outstanding_pings": 2,
            # Batches bound what is in flight themselves; nats-py's own bound cannot be cancelled.
            "pending_size": 0,
        }
        if tls is not None:
            options["tls"] = context
            options["tls_handshake_first"] = tls.handshake_first
            if tls.hostname is not None:
                options["tls_hostname"] = tls.hostname

        def secret(value: str | None) -> object:
            # Asked for after the server has said whether it speaks TLS: nats-py goes on in plain text if it does not.
            def give() -> str:
                if tls is not None:
                    self._check_tls()
                return value or ""

            return None if value is None else give

        options["user"] = secret(auth.user)
        options["password"] = secret(auth.password)
        options["token"] = secret(auth.token)
        if auth.nkey_file is not None:
            options["nkeys_seed"] = str(auth.nkey_file)
        if auth.credentials_file is not None:
            options["user_credentials"] = str(auth.credentials_file)
        return options

    def _check_tls(self) -> None:
        info = cast("Mapping[str, object]", self._nc._server_info)  # pyright: ignore[reportPrivateUsage]
        if not info.get("tls_required"):
            raise ConfigurationError(
                f"the NATS server {self.address} speaks no TLS, which was asked for; nothing secret was sent to it. Give it a "
                "certificate, or connect with nats:// and without tls=."
            )

    def _check_version(self) -> None:
        version = self._nc.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            raise ConfigurationError(
                f"the NATS server {self.address} is version {self.version}; Headrace needs "
                f"{'.'.join(map(str, OLDEST_SERVER))} or newer."
            )

    def _reason(self, error: BaseException) -> str:
        known = self._error or error
        if isinstance(known, TimeoutError | asyncio.TimeoutError):
            return f"no answer within {self.timeout_seconds:g} s"
        return f"{type(known).__name__}: {known}"

    def expect(self, waiter: Waiter) -> str:
        """Register a waiter; returns the reply subject that leads to it. A part may be put behind it, after a dot."""
        name = str(next(self._numbers))
        self._waiters[name] = waiter
        return f"{self._inbox}{name}"

    def forget(self, reply: str) -> None:
        """The waiter with this reply subject waits no longer."""
        self._waiters.pop(reply[self._prefix_length :], None)

    async def publish(
        self, subject: str, data: bytes, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Hand a message to the connection. Does not wait for the network.

        Raises:
            BrokerUnavailable: the connection is lost.
        """
        if not self.usable:
            raise self.unavailable()
        try:
            await self._nc.publish(subject, data, reply, headers)
        except nats.errors.Error as error:
            raise self.unavailable(error) from error

    async def request(self, subject: str, body: object = None) -> dict[str, object]:
        """Ask JetStream's API (the subject without its prefix); returns what it answers.

        Raises:
            ApiError: it refuses.
            BrokerUnavailable: there is no answer in time.
        """
        waiter = _Answer()
        reply = self.expect(waiter)
        try:
            data = b"" if body is None else msgspec.json.encode(body)
            await self.publish(f"{API}.{subject}", data, reply)
            async with asyncio.timeout(self.timeout_seconds):
                msg = await waiter.future
        except TimeoutError as error:
            raise self.unavailable(error) from error
        finally:
            self.forget(reply)
        return parse(msg)

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None] | None]
    ) -> Subscription:
        """Receive messages of a subject."""
        if not self.usable:
            raise self.unavailable()

        async def received(msg: Msg) -> None:
            result = callback(msg)
            if result is not None:
                await result

        try:
            return await self._nc.subscribe(  # pyright: ignore[reportUnknownMemberType]
                subject, cb=received, pending_msgs_limit=0, pending_bytes_limit=0
            )
        except nats.errors.Error as error:
            raise self.unavailable(error) from error

    def new_inbox(self) -> str:
        """A subject that nobody else has."""
        return self._nc.new_inbox()

    def unavailable(self, error: BaseException | None = None) -> BrokerUnavailable:
        """The error to raise when the server does not answer."""
        if error is None and self._error is None:
            reason = "the connection is lost"
        else:
            reason = self._reason(error or TimeoutError())
        return BrokerUnavailable(f"the NATS server {self.address} is not available: {reason}")

    async def close(self) -> None:
        """Close the connection, at the latest after a moment. Nothing stays open."""
        self._lose()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._nc.close()
        except (OSError, nats.errors.Error, TimeoutError, AssertionError):
            pass
        finally:
            self._abort()

    def _abort(self) -> None:
        # A server that hangs never takes what is buffered for it, and a normal close waits for that.
        transport = self._nc._transport  # pyright: ignore[reportPrivateUsage]
        for attribute in ("_io_writer", "_bare_io_writer"):
            writer = cast("asyncio.StreamWriter | None", getattr(transport, attribute, None))
            if writer is not None:
                with contextlib.suppress(Exception):
                    writer.transport.abort()

    def _lose(self) -> None:
        if self._lost:
            return
        self._lost = True
        waiters = list(self._waiters.values())
        self._waiters.clear()
        for waiter in waiters:
            waiter.lost(self.unavailable())
        self._on_loss()

    async def _disconnected(self) -> None:
        self._lose()

    async def _noticed(self, error: Exception) -> None:
        """nats-py reports what belongs to no call."""
        self._error = error
        text = str(error).lower()
        if isinstance(error, nats.errors.UnexpectedEOF | OSError) and self._inbox:
            self._lose()
        elif "permissions violation" in text:
            # The server does not say which call it refused: all that wait fail with its words, and are tried again.
            waiters = list(self._waiters.values())
            self._waiters.clear()
            for waiter in waiters:
                waiter.lost(self.unavailable(error))

    async def _answer(self, msg: Msg) -> None:
        name, _, part = msg.subject[self._prefix_length :].partition(".")
        waiter = self._waiters.get(name)
        if waiter is not None:
            waiter.answered(part, msg)


class _Answer:
    """Waits for one answer."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

    def answered(self, part: str, msg: Msg) -> None:
        if not self.future.done():
            self.future.set_result(msg)

    def lost(self, error: BrokerUnavailable) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            # Whoever waited may be gone already.
            self.future.exception()


def status_of(msg: Msg) -> int:
    """The status that the server gave instead of data, or 0."""
    headers = cast("Mapping[str, str] | None", msg.headers)
    if not headers:
        return 0
    status = headers.get("Status", "")
    return int(status) if status.isdigit() else 0


def parse(msg: Msg) -> dict[str, object]:
    """An answer of JetStream.

    Raises:
        ApiError: it is a refusal.
    """
    if status_of(msg) == NO_RESPONDERS:
        raise ApiError(NO_RESPONDERS, 0, "nobody answers")
    answer = msgspec.json.decode(msg.data, type=dict[str, object])
    error = answer.get("error")
    if isinstance(error, dict):
        found = cast("Mapping[str, object]", error)
        raise ApiError(
            cast("int", found.get("code", 0)),
            cast("int", found.get("err_code", 0)),
            str(found.get("description", "")),
        )
    return answer


def from_base64(text: str) -> bytes:
    """Data inside an answer."""
    return base64.b64decode(text)
