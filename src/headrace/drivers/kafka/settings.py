"""What a `KafkaBroker` was given, checked, and what the client library is told for it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from headrace.errors import ConfigurationError
from headrace.telemetry import Logbook, LogEvent

Value = str | int | float | bool | Callable[..., object]
"""A setting of librdkafka: text, a number, a truth value, or a callback such as `oauth_cb`."""

_ROOM_FOR_HEADERS: Final = 50_000
"""Bytes of a record beside the body: key, attributes, framing. Metadata is at most 8 KiB, so this is ample."""

_SERVERS_LARGEST: Final = 1_048_588
"""What a Kafka server accepts unless a topic says otherwise: its default `message.max.bytes`."""

_REFUSED: Final[Mapping[str, str]] = {
    "bootstrap.servers": "the servers are the first argument",
    "group.id": "groups are named by subscriptions",
    "group.instance.id": "leases in storage decide who reads, not Kafka's groups",
    "enable.idempotence": "use idempotence=, which also tells the relay",
    "enable.gapless.guarantee": "a message must not pass an earlier one of its key that failed",
    "acks": "a confirmed message must be stored as durably as the topic is",
    "request.required.acks": "a confirmed message must be stored as durably as the topic is",
    "message.timeout.ms": "a message that timed out in the queue would be passed by later ones of its key; use publish_seconds=",
    "delivery.timeout.ms": "a message that timed out in the queue would be passed by later ones of its key; use publish_seconds=",
    "retries": "a message that is not retried would be passed by later ones of its key",
    "message.send.max.retries": "a message that is not retried would be passed by later ones of its key",
    "queuing.strategy": "messages must leave in the order published",
    "message.max.bytes": "use max_body_bytes=, which is also checked before the commit",
    "transactional.id": "the outbox and the inbox take the place of Kafka's transactions",
    "isolation.level": "messages of aborted transactions must not be handled",
    "enable.auto.commit": "only what a group has settled is committed",
    "enable.auto.offset.store": "only what a group has settled is committed",
    "auto.offset.reset": "a lost position is told and read from the earliest retained message",
    "enable.partition.eof": "the driver uses these events itself",
    "allow.auto.create.topics": "topics are made by declare, with the right number of partitions",
    "delivery.report.only.error": "every confirmation is waited for",
    "error_cb": "errors are raised as BrokerUnavailable and logged",
    "on_delivery": "every confirmation is waited for",
    "on_commit": "the driver waits for it when it stops",
    "logger": "records go to the logger 'headrace.kafka': set its level and handlers",
}
_VARYING: Final = re.compile(r"^\w+ \[\S+\]|\(after .*\)")
_REPEAT_SECONDS: Final = 30.0
_MOST_TOLD: Final = 100

_OF_PRODUCERS: Final = ("queue.buffering.", "batch.", "linger.ms", "compression.", "sticky.", "partitioner")  # fmt: skip
_OF_CONSUMERS: Final = ("fetch.", "queued.", "max.partition.", "check.crcs", "session.", "heartbeat.", "max.poll.")  # fmt: skip


class _WorthTelling(logging.Filter):
    """What people need to see of the client library's log.

    Each client tells of each failed connection, several times a second while a server is away: one warning in half a minute
    is enough. And each producer warns that the gapless guarantee is experimental, which the tests of this driver watch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if hasattr(record, "headrace"):
            return True  # the driver's own
        record.headrace = {"event": LogEvent.KAFKA_CLIENT.value}
        text = record.getMessage()
        if "enable.gapless.guarantee is experimental" in text:
            return False
        if not text.startswith(("FAIL", "ERROR")):
            return True
        # It connects again by itself, and whoever has to wait for it says so.
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        what = _VARYING.sub("", text)
        if record.created - self._told.get(what, 0.0) < _REPEAT_SECONDS:
            return False
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told[what] = record.created
        return True


LOG: Final = Logbook("headrace.kafka")
"""What the driver has to say."""

LOGGER: Final = LOG.logger
"""Where the client library's own log goes."""
LOGGER.addFilter(_WorthTelling())


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS.

    Args:
        ca: file of the certificates to trust. Default None: those of the system.
        cert: file of the client's certificate, for servers that ask for one. Default None.
        key: file of its private key. Default None.
        key_password: of that file. Default None. Never shown.
        verify: check the server's certificate and name; default True. False is for tests: anybody can listen.
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    key_password: str | None = field(default=None, repr=False)
    verify: bool = True

    def config(self) -> dict[str, Value]:
        """The client library's settings for it."""
        found: dict[str, Value] = {"enable.ssl.certificate.verification": self.verify}
        if not self.verify:
            found["ssl.endpoint.identification.algorithm"] = "none"
        for name, value in (
            ("ssl.ca.location", self.ca),
            ("ssl.certificate.location", self.cert),
            ("ssl.key.location", self.key),
        ):
            if value is not None:
                found[name] = str(value)
        if self.key_password is not None:
            found["ssl.key.password"] = self.key_password
        return found


@dataclass(frozen=True, slots=True)
class Sasl:
    """Who logs in, and how.

    Args:
        user: its name.
        password: its password. Never shown.
        mechanism: `PLAIN` (the default; use it over TLS), `SCRAM-SHA-256` or `SCRAM-SHA-512`. For `OAUTHBEARER` and `GSSAPI`
            leave `sasl` out and set `config={"sasl.mechanism": ..., "oauth_cb": ...}`.
    """

    user: str
    password: str = field(repr=False)
    mechanism: str = "PLAIN"

    def config(self) -> dict[str, Value]:
        """The client library's settings for it."""
        return {
            "sasl.mechanism": self.mechanism,
            "sasl.username": self.user,
            "sasl.password": self.password,
        }


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a `KafkaBroker`, which documents them."""

    servers: tuple[str, ...]
    tls: Tls | None = None
    sasl: Sasl | None = None
    client_name: str = "headrace"
    prefix: str = ""
    declare: Literal["make", "check"] = "make"
    replication: int | None = None
    topic_config: Mapping[str, str] = field(default_factory=dict[str, str])
    publish_seconds: float = 10.0
    timeout_seconds: float = 5.0
    max_body_bytes: int = 950_000
    buffer_bytes: int = 32 * 1024 * 1024
    idempotence: bool = True
    config: Mapping[str, Value] = field(default_factory=dict[str, Value], repr=False)

    def __post_init__(self) -> None:
        if not self.servers or not all(self.servers):
            raise ConfigurationError(
                f"KafkaBroker({list(self.servers)}): name a server at least, such as 'kafka1:9092'."
            )
        if self.declare not in ("make", "check"):
            raise ConfigurationError(
                f"KafkaBroker(declare={self.declare!r}): give 'make' (topics that are missing are made) or 'check'."
            )
        for name in ("publish_seconds", "timeout_seconds", "max_body_bytes", "buffer_bytes"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(
                    f"KafkaBroker({name}={getattr(self, name)!r}): give more than 0."
                )
        if self.replication is not None and self.replication < 1:
            raise ConfigurationError(
                f"KafkaBroker(replication={self.replication}): give 1 or more, or None for the servers' default."
            )
        for name in self.config:
            if name in _REFUSED:
                raise ConfigurationError(
                    f"KafkaBroker(config={{{name!r}: ...}}): this setting cannot be changed: {_REFUSED[name]}."
                )

    @property
    def where(self) -> str:
        """The servers, for messages to people."""
        return ",".join(self.servers)

    def client(self) -> dict[str, Value]:
        """What every client is told."""
        found: dict[str, Value] = {
            "bootstrap.servers": self.where,
            "client.id": self.client_name,
            # A request that hangs is given up and repeated on a new connection.
            "socket.timeout.ms": max(2000, int(self.timeout_seconds * 1000)),
            "socket.connection.setup.timeout.ms": max(1000, int(self.timeout_seconds * 1000)),
            "socket.keepalive.enable": True,
            "socket.nagle.disable": True,
            "reconnect.backoff.ms": 100,
            "reconnect.backoff.max.ms": 2_000,
        }
        security = ("SASL_" if self._logs_in else "") + ("SSL" if self.tls else "PLAINTEXT")
        if security != "PLAINTEXT":
            found["security.protocol"] = security
        for part in (self.tls, self.sasl):
            if part is not None:
                found |= part.config()
        return {**found, **self.config}

    def admin(self) -> dict[str, Value]:
        """What a client for topology is told: nothing that is only for producers or consumers."""
        return {
            name: value
            for name, value in self.client().items()
            if not name.startswith(_OF_PRODUCERS + _OF_CONSUMERS)
        }

    def producer(self) -> dict[str, Value]:
        """What a producer is told.

        Order (G6): with idempotence the servers refuse a record whose predecessor in its partition is missing, however
        often connections break; an infinite message time-out means that no record leaves the queue unsent; and with the
        gapless guarantee an error that cannot be retried stops the whole producer instead of letting later ones pass.
        """
        own: dict[str, Value] = {
            "acks": "all",
            "message.timeout.ms": 0,
            "message.max.bytes": self.record_bytes,
            # A batch is handed over at once and then waited for: lingering would only add to the wait.
            "linger.ms": 0,
            "queue.buffering.max.kbytes": 64 * 1024,
        }
        if self.idempotence:
            own |= {"enable.idempotence": True, "enable.gapless.guarantee": True}
        return own | _without(self.client(), _OF_CONSUMERS)

    def consumer(self, group: str) -> dict[str, Value]:
        """What a consumer of a group is told."""
        own: dict[str, Value] = {
            "group.id": f"{self.prefix}{group}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "allow.auto.create.topics": False,
            "fetch.message.max.bytes": 1024 * 1024,
            # How long a server holds an empty answer back; new messages end it at once. A partition that joins waits for it.
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 100,
            # The library stops fetching when so much waits. Its own pause of a second then would halve the speed.
            "queued.max.messages.kbytes": max(1024, self.buffer_bytes // 2048),
            "queued.min.messages": 10_000,
            "fetch.queue.backoff.ms": 5,
            # No group is joined; the library lets a commit wait so long for servers that are away, also when it is closed.
            "session.timeout.ms": max(1000, int(self.timeout_seconds * 1000)),
            "heartbeat.interval.ms": 500,
        }
        return own | _without(self.client(), _OF_PRODUCERS)

    @property
    def record_bytes(self) -> int:
        """The largest record: a body and what stands around it."""
        return self.max_body_bytes + _ROOM_FOR_HEADERS

    def new_topic_config(self) -> dict[str, str]:
        """Settings of topics that are made: the user's, and room for the largest record."""
        found = dict(self.topic_config)
        if self.record_bytes > _SERVERS_LARGEST:
            found.setdefault("max.message.bytes", str(self.record_bytes))
        return found

    @property
    def _logs_in(self) -> bool:
        return self.sasl is not None or any(
            name in self.config for name in ("sasl.mechanism", "sasl.mechanisms")
        )


def servers_of(given: str | Sequence[str]) -> tuple[str, ...]:
    """Hosts with ports: `h1:9092,h2` or a sequence of such; the port is 9092 where none is given."""
    parts = given.split(",") if isinstance(given, str) else list(given)
    return tuple(_with_port(part.strip()) for part in parts if part.strip())


def _with_port(server: str) -> str:
    last = server.rpartition("]")[2]  # an IPv6 address has colons of its own
    return server if ":" in last else f"{server}:9092"


def _without(config: dict[str, Value], prefixes: tuple[str, ...]) -> dict[str, Value]:
    return {name: value for name, value in config.items() if not name.startswith(prefixes)}
