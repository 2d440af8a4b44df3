"""NATS JetStream: a stream for each topic, a subject for each partition."""

from __future__ import annotations

from headrace.errors import MissingExtra

try:
    from headrace.drivers.nats.broker import NatsBroker
    from headrace.drivers.nats.settings import Auth, Streams, Tls
except ModuleNotFoundError as error:
    raise MissingExtra.of(__name__, "nats", error.name or "nats") from error

__all__ = ["Auth", "NatsBroker", "Streams", "Tls"]
