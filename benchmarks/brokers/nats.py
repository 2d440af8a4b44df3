"""NATS JetStream: nats-py by hand, a window of a batch, and fetches of a batch with an acknowledgement for each message."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api
from nats.js.client import JetStreamContext

from benchmarks.brokers.by_hand import GROUP, Opened, headers_of, quietly
from benchmarks.storage.by_hand import BATCH, Row
from benchmarks.storage.consumers import PARTITIONS, Taken
from headrace.broker import stable_hash
from headrace.drivers.nats import NatsBroker
from headrace.drivers.nats.names import Names


class Hand:
    def __init__(self, client: Client, topic: str) -> None:
        self._topic = topic
        self._js = client.jetstream()
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._taken: Sequence[Msg] = ()

    async def make(self) -> None:
        await self._js.add_stream(name=self._topic, subjects=[f"{self._topic}.*"])
        config = api.ConsumerConfig(ack_policy=api.AckPolicy.EXPLICIT, max_ack_pending=4 * BATCH)
        self._subscription = await self._js.pull_subscribe(
            f"{self._topic}.*", durable=GROUP, stream=self._topic, config=config
        )

    async def publish(self, rows: Sequence[Row]) -> None:
        confirmations = []
        for _, _, key, packed, body in rows:
            headers = headers_of(packed)
            headers["Nats-Msg-Id"] = headers["ce-id"]
            partition = stable_hash(key) % PARTITIONS
            confirmations.append(
                await self._js.publish_async(f"{self._topic}.{partition}", body, headers=headers)
            )
        await asyncio.gather(*confirmations)

    async def resume(self) -> None:
        pass

    async def read(self) -> Sequence[Taken]:
        assert self._subscription is not None
        self._taken = await self._subscription.fetch(BATCH, timeout=30)
        return [
            Taken(int(one.subject.rpartition(".")[2]), (one.headers or {})["ce-id"], one.data)
            for one in self._taken
        ]

    async def settle(self) -> None:
        for one in self._taken:
            await one.ack()

    async def pause(self) -> None:
        pass


@asynccontextmanager
async def opened(url: str, topic: str) -> AsyncGenerator[Opened]:
    """Driver and client by hand on the server at `url`."""
    prefix = f"bench-{secrets.token_hex(4)}-"
    broker = NatsBroker(url, prefix=prefix, synced=True)
    client = await nats.connect(url)
    hand = Hand(client, f"{prefix}hand")
    await hand.make()
    try:
        yield Opened(broker, hand, "ce-", f"nats-py {version('nats-py')}")
    finally:
        js, names = client.jetstream(), Names(prefix)
        await quietly(
            lambda: js.delete_stream(f"{prefix}hand"),
            lambda: js.delete_stream(names.stream(topic)),
            lambda: js.delete_key_value(names.bucket),
        )
        await client.close()
