"""What a server says of itself: whether it can be used at all, and how much it can lose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from redis.exceptions import ResponseError

from headrace.errors import BrokerUnavailable, ConfigurationError

if TYPE_CHECKING:
    from headrace.drivers.redis.link import Link

_OLDEST: Final = (6, 2)
_SECTIONS: Final = ("server", "persistence", "memory", "replication", "cluster")


@dataclass(frozen=True, slots=True)
class Server:
    """What matters here of a server's INFO and CONFIG."""

    version: str
    append_only: bool
    fsync: str | None
    eviction: str
    replicas: int
    replica: bool
    cluster: bool

    def warnings(self, *, durable: bool, min_replicas: int) -> list[str]:
        """How a confirmed message may be lost, a sentence each; nothing if the app asked for no durability."""
        if not durable:
            return []
        found: list[str] = []
        if not self.append_only:
            found.append(
                "This Redis server keeps no append-only file (appendonly no): a crash of the server loses what it confirmed "
                "since its last snapshot. Set 'appendonly yes', or say RedisBroker(durable=False) if that is meant."
            )
        elif self.fsync is None:
            found.append(
                "This Redis server does not tell its appendfsync setting (CONFIG GET is not allowed): unless it is 'always', "
                "a crash of the machine loses up to about a second of confirmed messages."
            )
        elif self.fsync != "always":
            lost = (
                "up to about a second"
                if self.fsync == "everysec"
                else "what the system had not written, often half a minute,"
            )
            found.append(
                f"This Redis server has appendfsync {self.fsync}: a crash of the machine (not of the server alone) loses "
                f"{lost} of confirmed messages. Set 'appendfsync always' if that is too much."
            )
        if self.replicas and not min_replicas:
            found.append(
                f"This Redis server has {self.replicas} replica(s) and copies to them later: a failover may lose messages that "
                "it confirmed. RedisBroker(min_replicas=1) waits until one has them."
            )
        return found


async def look_at(link: Link) -> Server:
    """Ask the server.

    Raises:
        BrokerUnavailable: it cannot be reached, or is a replica.
        ConfigurationError: it is too old, a cluster, or drops keys when its memory is full.
    """
    # One section a command: several in one came with Redis 7.
    *infos, fsync = await link.run(
        [*(("INFO", section) for section in _SECTIONS), ("CONFIG", "GET", "appendfsync")]
    )
    info: dict[str, str] = {}
    for reply in infos:
        if isinstance(reply, ResponseError):
            raise await link.refusal(reply)
        info |= _pairs(cast("bytes", reply).decode(errors="replace"))
    server = Server(
        version=info.get("redis_version", "0"),
        append_only=info.get("aof_enabled") == "1",
        fsync=_setting(fsync),
        eviction=info.get("maxmemory_policy", "noeviction"),
        replicas=int(info.get("connected_slaves", "0")),
        replica=info.get("role") == "slave",
        cluster=info.get("cluster_enabled") == "1",
    )
    _check(server, link.where)
    return server


def _check(server: Server, where: str) -> None:
    if _numbers(server.version) < _OLDEST:
        raise ConfigurationError(
            f"{where} is version {server.version}; Headrace needs Redis 6.2 or later, or Valkey."
        )
    if server.cluster:
        raise ConfigurationError(
            f"{where} runs in cluster mode, which this driver does not speak: take a single server, one with replicas and "
            "Sentinel, or a proxy that hides the cluster."
        )
    if server.eviction.startswith("allkeys"):
        raise ConfigurationError(
            f"{where} has maxmemory-policy {server.eviction}: when its memory is full it drops whole streams with messages "
            "that nobody has read. Set 'maxmemory-policy noeviction' (or a volatile-* one), or take another server for events."
        )
    if server.replica:
        raise BrokerUnavailable(
            f"{where} is a replica and takes no messages: give the address of the primary, or pass a client of Sentinel."
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _pairs(info: str) -> Mapping[str, str]:
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line and line[0] != "#")


def _setting(reply: object) -> str | None:
    if isinstance(reply, Mapping):  # RESP3
        values = list(cast("Mapping[bytes, bytes]", reply).values())
    elif isinstance(reply, list):
        values = cast("list[bytes]", reply)[1:]
    else:
        values = []
    return values[0].decode() if values else None
