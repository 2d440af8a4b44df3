"""A primary, a replica and a Sentinel: what was confirmed by both outlives a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.asyncio.sentinel import Sentinel

from engines.process import Command, Process, free_port
from headrace.broker import Reading, Topic
from headrace.drivers.redis import RedisBroker
from headrace.envelope import Message
from headrace.errors import BrokerUnavailable
from headrace.testing.conformance.samples import numbered
from tests.unit.drivers_redis.place import server


@pytest.fixture
def sentinel_port(tmp_path: Path) -> Iterator[int]:
    """The port of a Sentinel that watches a primary and its replica, named `shop`."""
    program = str(type(server()).program())
    primary, replica, sentinel = free_port(), free_port(), free_port()
    with ExitStack() as stack:

        def run(port: int, *options: str) -> None:
            folder = tmp_path / str(port)
            folder.mkdir()
            config = folder / "redis.conf"
            config.write_text(
                "\n".join((f"port {port}", "bind 127.0.0.1", f"dir {folder}", *options))
            )
            argv = [program, str(config)]
            if port == sentinel:
                argv.append("--sentinel")
            stack.callback(Process(Command(argv, folder, folder / "log")).stop)

        durable = ('save ""', "appendonly yes", "appendfsync always", "repl-diskless-sync-delay 0")
        run(primary, *durable)
        run(replica, *durable, f"replicaof 127.0.0.1 {primary}")
        run(
            sentinel,
            f"sentinel monitor shop 127.0.0.1 {primary} 1",
            "sentinel down-after-milliseconds shop 500",
        )
        yield sentinel


async def publish(broker: RedisBroker, message: Message) -> None:
    """As the relay does: again and again until it is confirmed."""
    while True:
        try:
            assert await broker.publish([message]) == []
            return
        except BrokerUnavailable:
            await asyncio.sleep(0.05)


async def test_a_failover_loses_nothing_that_a_replica_has(sentinel_port: int) -> None:
    """With `min_replicas` and a client of Sentinel, publishing goes on after a failover and nothing is lost (G5)."""
    sentinel = Sentinel([("127.0.0.1", sentinel_port)], socket_timeout=1.0)
    client = sentinel.master_for("shop")
    broker = RedisBroker(client, min_replicas=1, timeout_seconds=2.0)
    first, second, third = numbered(3)
    try:
        async with asyncio.timeout(45):
            while True:
                try:
                    await broker.start(None)
                    break
                except BrokerUnavailable:
                    await asyncio.sleep(0.05)
            await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
            await publish(broker, first)
            before = await sentinel.discover_master("shop")
            while True:
                try:
                    await sentinel.sentinels[0].execute_command("SENTINEL", "FAILOVER", "shop")
                    break
                except Exception:  # it has not seen the replica yet
                    await asyncio.sleep(0.1)
            await publish(broker, second)
            while await sentinel.discover_master("shop") == before:  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.05)
            await publish(broker, third)
            found = await broker.read("g", "orders", {0: None}, limit=100)
    finally:
        await broker.stop()
        await client.aclose()
        for each in sentinel.sentinels:
            await each.aclose()
    bodies = [each.message.data for each in found]
    assert list(dict.fromkeys(bodies)) == [b"0", b"1", b"2"]
