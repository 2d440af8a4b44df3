"""`kafka://user:password@h1:9092,h2?setting=value` as arguments of a `KafkaBroker`."""

from __future__ import annotations

from typing import Final

from headrace.drivers.kafka.settings import Sasl, Tls
from headrace.errors import ConfigurationError
from headrace.urls import Kinds, read_settings, read_url, truth

_SETTINGS: Final[Kinds] = {
    "client_name": str,
    "prefix": str,
    "declare": str,
    "replication": int,
    "publish_seconds": float,
    "timeout_seconds": float,
    "max_body_bytes": int,
    "buffer_bytes": int,
    "idempotence": truth,
}
_TLS: Final[Kinds] = {
    "ca": str,
    "cert": str,
    "key": str,
    "key_password": str,
    "verify": truth,
}
_FREE: Final = "config."


def from_url(url: str) -> tuple[str, dict[str, object]]:
    """The servers and the keyword arguments.

    Raises:
        ConfigurationError: the URL has a setting that there is none of, or a value that cannot be used.
    """
    read = read_url(url)
    if read.scheme not in ("kafka", "kafkas"):
        raise ConfigurationError(f"{str(read)!r}: the scheme is kafka:// or, with TLS, kafkas://.")
    if not read.hosts or read.path:
        raise ConfigurationError(
            f"{str(read)!r}: write servers and nothing else, such as {read.scheme}://kafka1:9092,kafka2:9092."
        )
    free = {n: v for n, v in read.settings.items() if n.startswith(_FREE)}
    known = {n: v for n, v in read.settings.items() if n not in free}
    kinds: Kinds = {**_SETTINGS, **_TLS, "mechanism": str, f"{_FREE}NAME": str}
    found = read_settings(read, kinds, known)
    tls = {name: found.pop(name) for name in _TLS if name in found}
    if tls and read.scheme != "kafkas":
        raise ConfigurationError(
            f"{str(read)!r} has {', '.join(sorted(tls))}, which is about TLS: write kafkas://."
        )
    if read.scheme == "kafkas":
        found["tls"] = Tls(**tls)
    mechanism = found.pop("mechanism", None)
    if read.login is not None:
        found["sasl"] = Sasl(read.user or "", read.password or "", str(mechanism or "PLAIN"))
    elif mechanism is not None:
        raise ConfigurationError(
            f"{str(read)!r} has mechanism={mechanism!r} and nobody to log in: write {read.scheme}://user:password@host."
        )
    if free:
        found["config"] = {name.removeprefix(_FREE): value for name, value in free.items()}
    return read.hosts, found
