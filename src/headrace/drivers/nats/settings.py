"""Settings of the NATS driver, as objects and in a URL."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from headrace.drivers.tls import client_context
from headrace.errors import ConfigurationError
from headrace.urls import Kinds, hidden, read_settings, read_url, truth

WEEK_SECONDS: Final = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Auth:
    """Who the client is. Give one way only; secrets are not shown.

    Args:
        user: with `password`.
        password: of the user.
        token: instead of a user.
        nkey_file: a file with an NKey seed. Needs the package `nkeys`.
        credentials_file: a `.creds` file with a JWT and its seed. Needs the package `nkeys`.
    """

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    nkey_file: str | Path | None = None
    credentials_file: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.user is None) != (self.password is None):
            raise ConfigurationError("Auth takes user and password together")
        ways = (self.user, self.token, self.nkey_file, self.credentials_file)
        if sum(way is not None for way in ways) > 1:
            raise ConfigurationError(
                "Auth takes one of: user and password, token, nkey_file, credentials_file"
            )


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS. With it the client speaks to no server in plain text.

    Args:
        ca: file of the certificates to trust; default None: those of the system.
        cert: file of the client's own certificate, for servers that ask for one; default None.
        key: file of its private key; default None: it is in `cert`.
        key_password: of that file; default None. Never shown.
        verify: False trusts any server: for tries only.
        hostname: the name in the server's certificate; default None: the host of the URL.
        handshake_first: the server expects TLS before its first line (`handshake_first` in its configuration).
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    key_password: str | None = field(default=None, repr=False)
    verify: bool = True
    hostname: str | None = None
    handshake_first: bool = False

    def context(self) -> ssl.SSLContext:
        """The context to connect with.

        Raises:
            ConfigurationError: a file cannot be read or is no certificate.
        """
        return client_context(
            ca=self.ca,
            cert=self.cert,
            key=self.key,
            key_password=self.key_password,
            verify=self.verify,
        )


@dataclass(frozen=True, slots=True)
class Streams:
    """How the streams of new topics are made. Those that exist stay as they are.

    Args:
        replicas: copies in a cluster; default 1. With 3 a confirmed message survives the loss of a machine.
        retention_seconds: how long messages stay; default 7 days, as Kafka's. 0 keeps them for ever.
        max_bytes: of a topic; the oldest messages go first, handled or not. Default None: no limit but the server's.
        duplicate_window_seconds: how long the server knows the ids of messages, and stores no repeat; default 120, the
            server's own.
    """

    replicas: int = 1
    retention_seconds: float = WEEK_SECONDS
    max_bytes: int | None = None
    duplicate_window_seconds: float = 120.0

    def __post_init__(self) -> None:
        if self.replicas < 1 or self.retention_seconds < 0 or self.duplicate_window_seconds <= 0:
            raise ConfigurationError(
                f"{self!r}: give 1 replica or more, a retention of 0 seconds or more, a duplicate window above 0"
            )


_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]*")
_AUTH: Final[Kinds] = dict.fromkeys(("token", "nkey_file", "credentials_file"), str)
_TLS: Final[Kinds] = {
    **dict.fromkeys(("ca", "cert", "key", "key_password", "hostname"), str),
    **dict.fromkeys(("verify", "handshake_first"), truth),
}
_STREAMS: Final[Kinds] = {
    "replicas": int,
    "retention_seconds": float,
    "max_bytes": int,
    "duplicate_window_seconds": float,
}
_OWN: Final[Kinds] = {
    "client_name": str,
    "declare": str,
    "prefix": str,
    "timeout_seconds": float,
    "buffer_messages": int,
    "buffer_bytes": int,
    "synced": truth,
}


def check_prefix(prefix: str) -> str:
    """The prefix, if the server can take it.

    Raises:
        ConfigurationError: it has other characters than a-z, A-Z, 0-9, - and _.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(f"prefix={prefix!r}: use a-z, A-Z, 0-9, - and _ only")
    return prefix


def addresses(servers: str | Sequence[str]) -> list[str]:
    """The `host:port` of each server, from URLs or bare addresses without user and password.

    Raises:
        ConfigurationError: there is none, or one has a user, a path or another scheme.
    """
    given = servers.split(",") if isinstance(servers, str) else list(servers)
    found: list[str] = []
    for one in given:
        scheme, mark, rest = one.strip().rpartition("://")
        if mark and scheme not in ("nats", "natss", "tls"):
            raise ConfigurationError(
                f"a NATS server cannot have the scheme {scheme!r}: write nats:// or natss://"
            )
        if "@" in rest:
            raise ConfigurationError(
                "a user or token in the address of a server is not taken here: pass Auth(...), or the whole URL to "
                "NatsBroker.from_url"
            )
        host = rest.rstrip("/")
        if not host or "/" in host or "?" in host:
            raise ConfigurationError(
                f"{hidden(one)!r} is no address of a NATS server such as 'host:4222'"
            )
        has_port = re.search(r":\d+$", host) is not None and not host.endswith("]")
        found.append(host if has_port else f"{host}:4222")
    if not found:
        raise ConfigurationError("give the address of at least one NATS server")
    return found


def from_url(url: str) -> tuple[list[str], dict[str, Any]]:
    """The servers and the keyword arguments of `NatsBroker` that a URL stands for.

    Raises:
        ConfigurationError: it cannot be read, or has a setting that is not known.
    """
    read = read_url(url)
    if read.path:
        raise ConfigurationError(
            f"{str(read)!r}: write servers and nothing else, such as {read.scheme}://nats1:4222,nats2:4222."
        )
    values = read_settings(read, {**_OWN, **_AUTH, **_TLS, **_STREAMS})
    arguments: dict[str, Any] = {name: values[name] for name in _OWN if name in values}
    auth: dict[str, Any] = {name: values[name] for name in _AUTH if name in values}
    if read.password is not None:
        auth |= {"user": read.user or "", "password": read.password}
    elif read.user is not None:  # as NATS has it: what stands alone is a token
        auth["token"] = read.user
    if auth:
        arguments["auth"] = Auth(**auth)
    tls = {name: values[name] for name in _TLS if name in values}
    if tls or read.scheme in ("natss", "tls"):
        arguments["tls"] = Tls(**tls)
    streams = {name: values[name] for name in _STREAMS if name in values}
    if streams:
        arguments["streams"] = Streams(**streams)
    return addresses(read.hosts or "127.0.0.1"), arguments
