"""The Redis driver: topics as Redis Streams, on Redis 6.2 or later and on Valkey."""

from __future__ import annotations

from headrace.drivers.redis.broker import RedisBroker
from headrace.drivers.redis.settings import Tls

__all__ = ["RedisBroker", "Tls"]
