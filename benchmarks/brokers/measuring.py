"""The figures of one broker: publish, read and settle, a relay from PostgreSQL, a consumer with inbox, each against by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from time import perf_counter
from typing import Final, Protocol

from benchmarks.brokers import kafka, nats, rabbitmq, redis, sql
from benchmarks.brokers.by_hand import HandClient, Opened
from benchmarks.storage.app import NAME, PARTITIONS, TOPIC, app_on
from benchmarks.storage.by_hand import BATCH, Row, drain, hand_outbox
from benchmarks.storage.consumers import HandConsumer, consumed, hand_consumer, messages
from benchmarks.storage.databases import Bench
from benchmarks.storage.null_broker import Timed
from benchmarks.timing import Comparison, in_turns
from headrace import Topic
from headrace.broker import Broker, Reading


class Open(Protocol):
    def __call__(self, url: str, topic: str, /) -> AbstractAsyncContextManager[Opened]: ...


BROKERS: Final[Mapping[str, Open]] = {
    "kafka": kafka.opened,
    "rabbitmq": rabbitmq.opened,
    "nats": nats.opened,
    "redis": redis.opened,
    "sql": sql.opened,
}
LABELS: Final[Mapping[str, str]] = {
    "publish": "publish, 500 with one wait",
    "read": "read and settle",
    "relay": "relay from PostgreSQL",
    "bare": "consume without inbox, 1 a transaction",
    "consume": "consume with inbox, 100 a transaction",
}
AIM: Final = 0.7
"""Of the rate by hand, for relays and consumers."""
AIMED: Final = ("relay", "consume", "bare")
_CONSUMED_TOGETHER: Final = 100


@dataclass(frozen=True, slots=True)
class Work:
    """How much is done for one broker.

    Args:
        count: messages of a sample, a multiple of 500.
        rounds: samples of each side.
    """

    count: int = 3_000
    rounds: int = 5


async def measure(
    bench: Bench, opening: Open, url: str, work: Work
) -> tuple[Mapping[str, Comparison], str]:
    """All figures of a broker, in seconds for each message, and the name of the client by hand."""
    # Each kind of work on topics of its own: what one leaves there, the next is not to read.
    async with opening(url, TOPIC) as opened:
        publish, read = await _driver(bench, opened, work)
    async with opening(url, TOPIC) as opened:
        relay = await _relay(bench, opened, work)
    async with opening(url, TOPIC) as opened:
        consume = await _consume(bench, opened, work, inbox=True)
    found = {"publish": publish, "read": read, "relay": relay, "consume": consume}
    if not opened.broker.guarantees.in_storage:
        async with opening(url, TOPIC) as opened:
            found["bare"] = await _consume(bench, opened, work, inbox=False)
    return found, opened.client


async def _driver(bench: Bench, opened: Opened, work: Work) -> tuple[Comparison, Comparison]:
    """The driver alone: both sides publish what the other kind of sample then reads."""
    broker, count = opened.broker, work.count
    storage = bench.storage()
    await storage.start(NAME, partitions=PARTITIONS)
    await broker.start(storage)
    try:
        await broker.declare([Topic(TOPIC, partitions=PARTITIONS)], [Reading(NAME, TOPIC)])
        reader = _Reader(broker)
        published: tuple[list[float], list[float]] = ([], [])

        async def by_hand() -> float:
            rows = await _rows(bench, opened, count)
            began = perf_counter()
            for start in range(0, count, BATCH):
                await opened.hand.publish(rows[start : start + BATCH])
            published[0].append((perf_counter() - began) / count)
            seconds = await _read_by_hand(opened.hand, None, count)
            await opened.hand.pause()
            return seconds

        async def driver() -> float:
            made = messages(count)
            began = perf_counter()
            for start in range(0, count, BATCH):
                if rejected := await broker.publish(made[start : start + BATCH]):
                    raise RuntimeError(f"the broker rejected {rejected[0]}")
            published[1].append((perf_counter() - began) / count)
            return await reader.read(count)

        await by_hand()
        await driver()
        published[0].clear()
        published[1].clear()
        read = await in_turns(by_hand, driver, work.rounds)
        reader.end()
        return Comparison(*published), read
    finally:
        await broker.stop()
        await storage.stop()


class _Reader:
    """Reads as a consumer does: woken, reads what is there, settles it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._after: dict[int, str | None] = dict.fromkeys(range(PARTITIONS))
        self._woken = asyncio.Event()
        self._end = broker.listen(NAME, TOPIC, self._woken.set)

    async def read(self, count: int) -> float:
        done, began = 0, perf_counter()
        async with asyncio.timeout(120):
            while done < count:
                self._woken.clear()
                found = await self._broker.read(NAME, TOPIC, self._after, limit=BATCH)
                if not found:
                    await self._woken.wait()
                    continue
                done += len(found)
                news = {one.partition: one.position for one in found}
                self._after.update(news)
                await self._broker.settle(NAME, TOPIC, news)
        seconds = (perf_counter() - began) / count
        # What the driver would fetch ahead of the next sample is not to be in it.
        await self._broker.release(NAME, TOPIC, range(PARTITIONS))
        return seconds

    def end(self) -> None:
        """Listen no more."""
        self._end()


async def _rows(bench: Bench, opened: Opened, count: int) -> list[Row]:
    """Rows as the relay by hand has them, without the database in what is timed."""
    await bench.fill_by_hand(count, TOPIC, opened.prefix)
    rows: list[Row] = []
    async with hand_outbox(bench) as outbox:
        while len(rows) < count:
            some = await outbox.oldest()
            await outbox.delete([row[0] for row in some])
            rows += some
    return rows


async def _read_by_hand(hand: HandClient, consumer: HandConsumer | None, count: int) -> float:
    done, began = 0, perf_counter()
    async with asyncio.timeout(120):
        await hand.resume()
        while done < count:
            page = await hand.read()
            if consumer is not None:
                await consumer.handle(page)
            await hand.settle()
            done += len(page)
    return (perf_counter() - began) / count


async def _relay(bench: Bench, opened: Opened, work: Work) -> Comparison:
    broker = Timed(opened.broker)
    async with hand_outbox(bench) as outbox, app_on(bench.storage(), broker, "relay"):

        async def by_hand() -> float:
            await bench.fill_by_hand(work.count, TOPIC, opened.prefix)
            seconds = await drain(outbox, work.count, opened.hand.publish)
            await _read_by_hand(opened.hand, None, work.count)
            return seconds

        async def relay() -> float:
            broker.expect(work.count)
            await bench.fill(work.count)
            return await broker.relayed()

        await by_hand()
        await relay()
        return await in_turns(by_hand, relay, work.rounds)


async def _consume(bench: Bench, opened: Opened, work: Work, *, inbox: bool) -> Comparison:
    broker = Timed(opened.broker)
    # A transaction for each message takes ten times as long as one for a hundred.
    count = work.count if inbox else work.count // 5
    batch = _CONSUMED_TOGETHER if inbox else 0
    async with (
        hand_consumer(bench, batch) as consumer,
        app_on(
            bench.storage() if inbox else consumer.engine, broker, "consume", batch=batch or 1
        ) as app,
    ):

        async def by_hand() -> float:
            rows = await _rows(bench, opened, count)
            for start in range(0, count, BATCH):
                await opened.hand.publish(rows[start : start + BATCH])
            return await _read_by_hand(opened.hand, consumer, count)

        async def headrace() -> float:
            await broker.publish_all(messages(count))
            return await consumed(app, broker, count)

        await by_hand()
        await headrace()
        return await in_turns(by_hand, headrace, work.rounds)
