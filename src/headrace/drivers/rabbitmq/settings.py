"""Where a RabbitMQ server is and how to speak to it, from URLs and keyword arguments."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args
from urllib.parse import quote, unquote

from yarl import URL

from headrace.drivers.tls import client_context
from headrace.errors import ConfigurationError
from headrace.urls import Kinds, ServerUrl, read_settings, read_url, truth

Queues = Literal["classic", "quorum"]
Declare = Literal["make", "check"]
Auth = Literal["plain", "external"]

_PORTS: Final = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to speak TLS to the server.

    Args:
        ca: a file of certificates to trust, in PEM form. Default None: those that the system trusts.
        cert: a file with the client's own certificate, for servers that ask for one; default None.
        key: a file with its private key; default None: it is in `cert`.
        key_password: of that file; default None. Never shown.
        verify: check the server's certificate and name. Default True; False lets anybody in between listen and answer.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    key_password: str | None = field(default=None, repr=False)
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """The settings as Python's `ssl` takes them.

        Raises:
            ConfigurationError: a file cannot be read, or has no certificate or key.
        """
        return client_context(
            ca=self.ca,
            cert=self.cert,
            key=self.key,
            key_password=self.key_password,
            verify=self.verify,
        )


@dataclass(frozen=True, slots=True)
class Server:
    """One address. `shown` stands in errors and logs; `url` has the password."""

    url: URL
    shown: str

    def __repr__(self) -> str:
        return f"Server({self.shown!r})"


def servers_of(
    urls: str | Sequence[str],
    *,
    user: str | None,
    password: str | None,
    auth: Auth,
    client_name: str,
    heartbeat_seconds: int,
) -> tuple[Server, ...]:
    """The addresses of one server or cluster: of each URL each host.

    Raises:
        ConfigurationError: a URL cannot be used.
    """
    given = [urls] if isinstance(urls, str) else list(urls)
    found: list[Server] = []
    for one in given:
        read = read_url(one)
        if read.scheme not in _PORTS:
            raise ConfigurationError(
                f"{str(read)!r} is no URL of RabbitMQ. Write amqp://user:password@host:5672/vhost, or amqps:// for TLS."
            )
        if read.settings:
            raise ConfigurationError(
                f"{str(read)!r}: RabbitBroker(...) takes settings as keyword arguments. Write RabbitBroker.from_url(...), or "
                "leave out what follows the question mark."
            )
        for text in read.hosts.split(","):
            host, port = _host(read, text)
            url = URL.build(
                scheme=read.scheme,
                user=user if user is not None else read.user or "guest",
                password=password if password is not None else read.password or "guest",
                host=host,
                port=port or _PORTS[read.scheme],
                path=f"/{quote(unquote(read.path), safe='')}",
                query={"heartbeat": str(heartbeat_seconds), "name": client_name, "auth": auth},
                encoded=False,
            )
            shown = f"{read.scheme}://{url.host}:{url.port}/{read.path}"
            found.append(Server(url, shown))
    if not found:
        raise ConfigurationError("RabbitBroker([]): give one URL or more.")
    return tuple(found)


def _host(url: ServerUrl, text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not host or (port and not port.isdecimal()):
        raise ConfigurationError(
            f"{str(url)!r}: {text!r} is no host, or its port is no number. Write host:5672, or host1,host2 for a cluster."
        )
    return host, int(port) if port else None


def settings_of(url: str) -> tuple[str, dict[str, object]]:
    """A URL without its query, and the query as keyword arguments of `RabbitBroker`.

    Raises:
        ConfigurationError: a setting is unknown or has a value that it cannot have.
    """
    found = read_settings(read_url(url), {**_SETTINGS, **_TLS})
    tls = {name: found.pop(name) for name in _TLS if name in found}
    if tls:
        found["tls"] = Tls(**tls)
    return url.partition("?")[0], found


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Refuse a value that is not among those known.

    Raises:
        ConfigurationError: it is not.
    """
    if value not in known:
        raise ConfigurationError(
            f"RabbitBroker({name}={value!r}): there are {', '.join(map(repr, known))}."
        )


def above_zero(**values: float) -> None:
    """Refuse values that are not above zero.

    Raises:
        ConfigurationError: one is not.
    """
    for name, value in values.items():
        if not value > 0:
            raise ConfigurationError(f"RabbitBroker({name}={value!r}): it must be above zero.")


_TLS: Final[Kinds] = {
    "ca": str,
    "cert": str,
    "key": str,
    "key_password": str,
    "verify": truth,
}
_SETTINGS: Final[Kinds] = {
    "auth": str,
    "client_name": str,
    "declare": str,
    "heartbeat_seconds": int,
    "max_body_bytes": int,
    "prefetch": int,
    "prefix": str,
    "queues": str,
    "timeout_seconds": float,
}

QUEUES: Final = get_args(Queues)
DECLARE: Final = get_args(Declare)
AUTH: Final = get_args(Auth)
