"""The Redis driver: topics as Redis Streams, on Redis 6.2 or later and on Valkey."""

from __future__ import annotations

from headrace.errors import MissingExtra

try:
    from headrace.drivers.redis.broker import RedisBroker
    from headrace.drivers.redis.settings import Tls
except ModuleNotFoundError as error:
    raise MissingExtra.of(__name__, "redis", error.name or "redis") from error

__all__ = ["RedisBroker", "Tls"]
