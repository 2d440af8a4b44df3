"""A consumer with inbox, and one business insert a message, against the same by hand on SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from msgspec.json import Decoder
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from benchmarks.storage.app import BODY, INSERT, NAME, PARTITIONS, TOPIC, WasPut, app_on
from benchmarks.storage.databases import KEYS, Bench
from benchmarks.storage.null_broker import Timed
from benchmarks.timing import Comparison, in_turns
from headrace import Headrace, Topic
from headrace.broker import partition_of
from headrace.drivers.memory import MemoryBroker
from headrace.envelope import Envelope, Message, new_id, now
from headrace.telemetry import Count

# The size of the batch is the size of the list: one statement for all of them.
_INBOX: Final = text(
    "INSERT INTO hand_inbox (id) SELECT unnest(CAST(:ids AS text[])) ON CONFLICT DO NOTHING RETURNING id"
)
_POSITION: Final = text("UPDATE hand_position SET position = :to WHERE partition = :p")
Kind = tuple[int, bool]
"""Messages of one transaction (0 is one without an inbox), and whether each has a session of its own by hand too."""

_decode: Final = Decoder(WasPut).decode


@dataclass(frozen=True, slots=True)
class Taken:
    """A message as a consumer by hand has it."""

    partition: int
    id: str
    body: bytes


def messages(count: int, topic: str = TOPIC) -> list[Message]:
    """Messages of 1 KiB, with the attributes that those of an app have."""
    made: list[Message] = []
    for number in range(count):
        key = f"k{number % KEYS}"
        envelope = Envelope(
            id=new_id(),
            source=NAME,
            type="bench.was-put.v1",
            time=now(),
            subject=key,
            datacontenttype="application/json",
            partitionkey=key,
            correlationid=new_id(),
            causationid=new_id(),
        )
        made.append(Message(topic, key, envelope, BODY))
    return made


class HandConsumer:
    """Handles pages of messages as one writes it by hand: partitions side by side, in transactions of some messages.

    Args:
        engine: with a connection for each partition.
        batch: messages of one transaction; 0 for one for each message, without an inbox.
        positions: keep the position in the database, as who reads a log does without a broker that remembers it.
        apart: a session for each message of a transaction, so that none sees or loses what another has loaded, as
            Headrace gives its handlers; False for one session for all of them.
    """

    def __init__(
        self, engine: AsyncEngine, batch: int, *, positions: bool = False, apart: bool = True
    ) -> None:
        self.engine = engine
        self._apart = apart and batch > 1
        self._batch = batch
        self._positions = positions

    async def handle(self, page: Sequence[Taken]) -> None:
        """Handle these and commit."""
        parts: dict[int, list[Taken]] = {}
        for one in page:
            parts.setdefault(one.partition, []).append(one)
        handle = self._with_inbox if self._batch else self._alone
        if len(parts) == 1:
            await handle(page)
        else:
            await asyncio.gather(*map(handle, parts.values()))

    async def _alone(self, taken: Sequence[Taken]) -> None:
        for one in taken:
            event = _decode(one.body)
            async with AsyncSession(self.engine) as session, session.begin():
                await session.execute(INSERT, {"k": event.k})

    async def _with_inbox(self, taken: Sequence[Taken]) -> None:
        for start in range(0, len(taken), self._batch):
            some = taken[start : start + self._batch]
            if self._apart:
                await self._each_in_a_session(some)
                continue
            async with AsyncSession(self.engine) as session, session.begin():
                found = await session.execute(_INBOX, {"ids": sorted(one.id for one in some)})
                new = set(found.scalars())
                for one in some:
                    if one.id in new:
                        event = _decode(one.body)
                        await session.execute(INSERT, {"k": event.k})
                if self._positions:
                    last = some[-1]
                    await session.execute(_POSITION, {"to": last.id, "p": last.partition})

    async def _each_in_a_session(self, some: Sequence[Taken]) -> None:
        async with self.engine.begin() as connection:
            found = await connection.execute(_INBOX, {"ids": sorted(one.id for one in some)})
            new = set(found.scalars())
            for one in some:
                if one.id in new:
                    event = _decode(one.body)
                    async with AsyncSession(
                        connection, join_transaction_mode="rollback_only"
                    ) as session:
                        await session.execute(INSERT, {"k": event.k})
            if self._positions:
                last = some[-1]
                await connection.execute(_POSITION, {"to": last.id, "p": last.partition})


@asynccontextmanager
async def hand_consumer(
    bench: Bench, batch: int, *, positions: bool = False, apart: bool = True
) -> AsyncGenerator[HandConsumer]:
    """A consumer by hand on an engine of its own."""
    engine = create_async_engine(bench.url, pool_size=PARTITIONS)
    try:
        yield HandConsumer(engine, batch, positions=positions, apart=apart)
    finally:
        await engine.dispose()


async def consumed(app: Headrace, broker: Timed, count: int) -> float:
    """Let an app read and wait until so many more messages are handled and committed. Returns the seconds for each."""
    wanted = app.telemetry.counts[Count.CONSUMED] + count
    began = perf_counter()
    broker.read_from_now_on()
    async with asyncio.timeout(120):
        while app.telemetry.counts[Count.CONSUMED] < wanted:  # noqa: ASYNC110 - a count tells nobody
            await asyncio.sleep(0.001)
    taken = perf_counter() - began
    broker.read_no_more()
    return taken / count


async def from_memory(
    bench: Bench, *, batches: Mapping[int, int], rounds: int
) -> Mapping[Kind, Comparison]:
    """Seconds for each message that a broker in memory has, by hand and through a consumer.

    Args:
        bench: where inbox and effects go.
        batches: messages of one transaction (0 for one for each message, without an inbox), and how many a sample has then.
        rounds: samples of each side.
    """
    found: dict[Kind, Comparison] = {}
    kinds = [
        (batch, apart) for batch in batches for apart in ((True, False) if batch > 1 else (True,))
    ]
    for batch, apart in kinds:
        count = batches[batch]
        memory = MemoryBroker()
        await memory.start(None)
        await memory.declare([Topic(TOPIC, partitions=PARTITIONS)])
        broker = Timed(memory)
        async with (
            hand_consumer(bench, batch, positions=True, apart=apart) as hand,
            app_on(
                bench.storage() if batch else hand.engine, broker, "consume", batch=batch or 1
            ) as app,
        ):
            page = max(500, batch * PARTITIONS)

            async def by_hand(
                count: int = count, page: int = page, hand: HandConsumer = hand
            ) -> float:
                taken = [
                    Taken(partition_of(one, PARTITIONS), one.envelope.id, one.data)
                    for one in messages(count)
                ]
                began = perf_counter()
                for start in range(0, count, page):
                    await hand.handle(taken[start : start + page])
                return (perf_counter() - began) / count

            async def consumer(
                count: int = count, broker: Timed = broker, app: Headrace = app
            ) -> float:
                await broker.publish_all(messages(count))
                return await consumed(app, broker, count)

            await by_hand()
            await consumer()
            found[batch, apart] = await in_turns(by_hand, consumer, rounds)
        await memory.stop()
    return found
