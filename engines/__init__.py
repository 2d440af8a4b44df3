"""Real servers for tests, benchmarks, the demo and fault runs: found, started, installed, stopped in one place.

    engines.shared("postgresql").url        one that others use too; take a name of your own on it
    engines.shared("mariadb").fresh_database()
    engines.private("nats", folder)         one of your own: start, stop, kill, pause, restart it
    engines.MockKafka()                     a cluster that errs as it is told

`python -m engines` prints what there is. All listen on 127.0.0.1 only, and only processes started here are ended here.
"""

from __future__ import annotations

from engines.databases import Database
from engines.finding import BROKERS, NAMES, STORAGES, Engine, private, shared
from engines.kafka_mock import MockKafka
from engines.missing import EngineMissing
from engines.server import Server

__all__ = [
    "BROKERS",
    "NAMES",
    "STORAGES",
    "Database",
    "Engine",
    "EngineMissing",
    "MockKafka",
    "Server",
    "private",
    "shared",
]
