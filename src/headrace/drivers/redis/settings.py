"""How to reach a Redis server: TLS, the parts of a URL, and the connections that redis-py makes of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from headrace.errors import ConfigurationError
from headrace.urls import Kinds, ServerUrl, read_settings, read_url, truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a connection is encrypted and who is believed.

    Args:
        ca: file of the certificates to trust; default None: those of the system.
        cert: file of the client's own certificate, for servers that ask for one; default None.
        key: file of its private key; default None: it is in `cert`.
        key_password: of that file; default None. Never shown.
        verify: check the server's certificate; default True. False lets anybody in between read and change everything.
        check_hostname: and that it is for this host; default True. False is for certificates that name no host.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    key_password: str | None = field(default=None, repr=False)
    verify: bool = True
    check_hostname: bool = True

    def __post_init__(self) -> None:
        if self.key is not None and self.cert is None:
            raise ConfigurationError(
                f"Tls(key={str(self.key)!r}) has no cert: give both, or neither."
            )


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and who asks; never shows the password."""

    host: str
    port: int
    db: int
    secure: bool
    username: str | None
    password: str | None

    def __repr__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' if self.secure else ''}://{host}:{self.port}/{self.db}"


def address_of(url: str) -> Address:
    """The parts of a URL such as `rediss://user:password@host:6379/0`.

    Raises:
        ConfigurationError: it is none, or has settings (those are for `RedisBroker.from_url`).
    """
    read = read_url(url)
    if read.scheme not in ("redis", "rediss"):
        raise ConfigurationError(
            f"the URL of a Redis server begins with redis:// or rediss:// (TLS), not {read.scheme + '://'!r}."
        )
    if read.settings:
        raise ConfigurationError(
            "RedisBroker takes settings as keyword arguments; RedisBroker.from_url(url) reads them from the query of a URL."
        )
    if "," in read.hosts:
        raise ConfigurationError(
            "a Redis URL names one server. For Sentinel pass the client: "
            "RedisBroker(Sentinel([...]).master_for('name'))."
        )
    host, port = _host(read)
    db = read.path.strip("/") or "0"
    if not db.isascii() or not db.isdigit():
        raise ConfigurationError(
            f"{str(read)!r}: the path of a Redis URL is the number of a database: write 'redis://{host}:{port}/0'."
        )
    return Address(host, port, int(db), read.scheme == "rediss", read.user, read.password)


def _host(url: ServerUrl) -> tuple[str, int]:
    found = _HOST.fullmatch(url.hosts)
    if found is None:
        raise ConfigurationError(
            f"{str(url)!r}: {url.hosts!r} is no host, or its port is no number. Write 'redis://host:6379/0'."
        )
    return found["v6"] or found["name"] or "127.0.0.1", int(found["port"] or 6379)


def connections(
    address: Address,
    *,
    tls: Tls | None,
    client_name: str,
    timeout_seconds: float,
) -> Callable[[], Connection]:
    """What makes a connection to the server, not connected yet.

    redis-py is told to repeat nothing by itself: only the relay knows where to begin again (G6).
    """
    options: dict[str, object] = {
        "host": address.host,
        "port": address.port,
        "db": address.db,
        "username": address.username,
        "password": address.password,
        "client_name": client_name,
        "socket_connect_timeout": timeout_seconds,
        "socket_keepalive": True,
        "socket_read_size": _READ_BYTES,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if address.secure:
        tls = tls or Tls()
        options |= {
            "ssl_ca_certs": _text(tls.ca),
            "ssl_certfile": _text(tls.cert),
            "ssl_keyfile": _text(tls.key),
            "ssl_password": tls.key_password,
            "ssl_cert_reqs": "required" if tls.verify else "none",
            "ssl_check_hostname": tls.verify and tls.check_hostname,
        }
    kind = cast("Callable[..., Connection]", SSLConnection if address.secure else Connection)
    return lambda: kind(**options)


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


_READ_BYTES: Final = 256 * 1024  # an answer of hundreds of messages in few pieces


def settings_of(url: str) -> tuple[str, dict[str, object]]:
    """A URL without its query, and the keyword arguments of `RedisBroker` that the query holds.

    Raises:
        ConfigurationError: a setting is unknown or has a value that cannot be used.
    """
    found = read_settings(read_url(url), {**_SETTINGS, **_TLS})
    tls = {name: found.pop(name) for name in _TLS if name in found}
    if tls:
        found["tls"] = Tls(**tls)
    return url.partition("?")[0], found


_HOST: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>\d{1,5}))?")
_TLS: Final[Kinds] = {
    "ca": str,
    "cert": str,
    "key": str,
    "key_password": str,
    "verify": truth,
    "check_hostname": truth,
}
_SETTINGS: Final[Kinds] = {
    "client_name": str,
    "prefix": str,
    "declare": str,
    "durable": truth,
    "retention_seconds": float,
    "timeout_seconds": float,
    "max_connections": int,
    "max_body_bytes": int,
    "min_replicas": int,
}
