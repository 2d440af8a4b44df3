"""NATS JetStream: a stream for each topic, a subject for each partition."""

from __future__ import annotations

from headrace.drivers.nats.broker import NatsBroker
from headrace.drivers.nats.settings import Auth, Streams, Tls

__all__ = ["Auth", "NatsBroker", "Streams", "Tls"]
