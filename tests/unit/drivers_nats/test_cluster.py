"""Three servers that keep three copies: one may die at any time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nats
import pytest

from engines.process import Command, Process, free_port
from headrace.broker import Reading, Topic
from headrace.drivers.nats import NatsBroker, Streams
from headrace.errors import HeadraceError
from headrace.testing.conformance.samples import message
from tests.unit.drivers_nats.place import new_server

MESSAGES = 300


class Cluster:
    """Three servers in one cluster."""

    def __init__(self, folder: Path) -> None:
        program = new_server().program()
        assert program is not None
        self.ports = [free_port() for _ in range(3)]
        routes = [free_port() for _ in range(3)]
        every = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        self._commands: list[Command] = []
        for n, (port, route) in enumerate(zip(self.ports, routes, strict=True)):
            file = folder / f"{n}.conf"
            file.write_text(
                f'listen: "127.0.0.1:{port}"\nserver_name: s{n}\n'
                f'jetstream {{ store_dir: "{folder / str(n)}" }}\n'
                f'cluster {{ name: c, listen: "127.0.0.1:{route}", routes: [{every}] }}\n'
            )
            self._commands.append(Command([program, "-c", file], folder, folder / f"{n}.log"))
        self._running = [Process(command) for command in self._commands]

    @property
    def urls(self) -> list[str]:
        return [f"nats://127.0.0.1:{port}" for port in self.ports]

    def kill(self, number: int) -> None:
        self._running[number].kill()

    def start(self, number: int) -> None:
        self._running[number] = Process(self._commands[number])

    def close(self) -> None:
        for process in self._running:
            process.stop()


async def _started(cluster: Cluster) -> NatsBroker:
    broker = NatsBroker(cluster.urls, streams=Streams(replicas=3), timeout_seconds=3)
    while True:
        try:
            await broker.start(None)
            await broker.declare([Topic("orders", 1)], [Reading("g", "orders")])
            return broker
        except HeadraceError:  # it has no leader yet
            await broker.stop()
            await asyncio.sleep(0.1)


async def _leader(cluster: Cluster) -> int:
    """The number of the server that leads the stream."""
    client = await nats.connect(cluster.urls)
    try:
        info = await client.jsm().stream_info("orders")
    finally:
        await client.close()
    assert info.cluster is not None
    return int((info.cluster.leader or "s0")[1:])


@pytest.mark.timeout(120)
async def test_a_leader_that_dies_loses_nothing(tmp_path: Path) -> None:
    """While leaders are killed and come back, publishing and reading go on: nothing lost, in order."""
    cluster = Cluster(tmp_path)
    try:
        async with asyncio.timeout(100):
            writer, reader = await _started(cluster), await _started(cluster)

            async def publish() -> None:
                for number in range(MESSAGES):
                    if number in (100, 200):
                        leader = await _leader(cluster)
                        await asyncio.to_thread(cluster.kill, leader)
                        asyncio.get_running_loop().call_later(1, cluster.start, leader)
                    while True:
                        try:
                            if not await writer.publish([message("k", b"%d" % number)]):
                                break
                        except ConnectionError:
                            pass
                        await asyncio.sleep(0.02)

            publishing = asyncio.create_task(publish())
            found: list[int] = []
            after: str | None = None
            while len(found) < MESSAGES:
                try:
                    for each in await reader.read("g", "orders", {0: after}, limit=50):
                        found.append(int(each.message.data))
                        after = each.position
                except ConnectionError:
                    pass
                await asyncio.sleep(0.01)
            await publishing
            firsts = list(dict.fromkeys(found))
            assert firsts == list(range(MESSAGES))
            await writer.stop()
            await reader.stop()
    finally:
        cluster.close()
