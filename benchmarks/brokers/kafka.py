"""Kafka: confluent-kafka by hand, its own partitioner in C, one callback for all records, batches of `consume`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from time import monotonic
from urllib.parse import parse_qsl, urlencode, urlsplit

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.brokers.by_hand import GROUP, Opened, headers_of, quietly
from benchmarks.storage.by_hand import BATCH, Row
from benchmarks.storage.consumers import PARTITIONS, Taken
from headrace.drivers.kafka import KafkaBroker


class Hand:
    def __init__(self, config: Mapping[str, str], topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                **{k: v for k, v in config.items() if not k.startswith("fetch.")},
                "enable.idempotence": True,
                "linger.ms": 0,
                "partitioner": "murmur2_random",
            }
        )
        self.consumer = Consumer(
            {
                **config,
                "group.id": f"{topic}.{GROUP}",
                "enable.auto.commit": False,
            }
        )
        self._all = [TopicPartition(topic, p, 0) for p in range(PARTITIONS)]
        self.consumer.assign(self._all)
        self._after: dict[int, int] = {}
        self._settle_at = 0.0

    async def publish(self, rows: Sequence[Row]) -> None:
        failed: list[object] = []

        def confirmed(error: object, _record: object) -> None:
            if error is not None:
                failed.append(error)

        for _, _, key, headers, body in rows:
            self._producer.produce(
                self._topic,
                value=body,
                key=key,
                headers=headers_of(headers),  # type: ignore[arg-type]
                on_delivery=confirmed,
            )
        self._producer.flush()
        if failed:
            raise RuntimeError(f"not confirmed: {failed[0]}")

    async def resume(self) -> None:
        self.consumer.resume(self._all)

    async def read(self) -> Sequence[Taken]:
        taken: list[Taken] = []
        while not taken:
            # It waits in C, which holds the loop up: so short, and only as long as nothing is there.
            for record in self.consumer.consume(BATCH, 0.002):
                headers = {k: v.decode() for k, v in record.headers() or () if isinstance(v, bytes)}
                partition, body = record.partition() or 0, record.value() or b""
                taken.append(Taken(partition, headers["ce_id"], bytes(body)))
                self._after[partition] = (record.offset() or 0) + 1
            if not taken:
                await asyncio.sleep(0)
        return taken

    async def settle(self) -> None:
        # Once a second, as the driver does: a commit for each read is what the broker would spend its time on.
        now = monotonic()
        if now < self._settle_at:
            return
        self._settle_at = now + 1.0
        self.consumer.commit(
            offsets=[TopicPartition(self._topic, p, at) for p, at in self._after.items()],
            asynchronous=True,
        )

    async def pause(self) -> None:
        self.consumer.pause(self._all)


@asynccontextmanager
async def opened(url: str, topic: str) -> AsyncGenerator[Opened]:
    """Driver and client by hand on the servers at `url`."""
    prefix = f"bench-{secrets.token_hex(4)}."
    # Settings of the client that stand in the URL are for both.
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    config = {"bootstrap.servers": parts.netloc}
    config |= {k.removeprefix("config."): v for k, v in given.items() if k.startswith("config.")}
    admin = AdminClient({"bootstrap.servers": parts.netloc})
    (made,) = admin.create_topics([NewTopic(f"{prefix}hand", PARTITIONS, 1)]).values()
    await asyncio.to_thread(made.result, 10)
    hand = Hand(config, f"{prefix}hand")
    try:
        yield Opened(
            KafkaBroker.from_url(
                parts._replace(query=urlencode({**given, "prefix": prefix})).geturl()
            ),
            hand,
            "ce_",
            f"confluent-kafka {version('confluent-kafka')}",
        )
    finally:
        hand.consumer.close()
        gone = admin.delete_topics([f"{prefix}hand", f"{prefix}{topic}"])
        for one in gone.values():
            await quietly(lambda one=one: asyncio.to_thread(one.result, 10))  # type: ignore[misc]
