"""The kinds of servers, by name. Storages come first, then brokers."""

from __future__ import annotations

from collections.abc import Mapping

from engines.kinds.kafka import Kafka
from engines.kinds.mariadb import Mariadb
from engines.kinds.nats import Nats
from engines.kinds.postgresql import Postgresql
from engines.kinds.rabbitmq import Rabbitmq
from engines.kinds.redis import Redis
from engines.server import Server

KINDS: Mapping[str, type[Server]] = {
    kind.name: kind for kind in (Postgresql, Mariadb, Redis, Rabbitmq, Nats, Kafka)
}
