"""python-cqrs: its EventProducer over its SQLAlchemy outbox, in batches of 500, a commit for each batch as it documents."""

import asyncio
import logging
from time import perf_counter

import cqrs
from cqrs.message_brokers.producer import EventProducer
from cqrs.message_brokers.protocol import Message, MessageBroker
from cqrs.outbox.sqlalchemy import Base, SqlAlchemyOutboxedEventRepository
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from benchmarks.peers.relaying import KEYS, TEXT, main


class Put(BaseModel, frozen=True):
    k: str
    text: str


class Nobody(MessageBroker):
    async def send_message(self, message: Message) -> None:
        """Confirm at once."""


async def measure(url: str, count: int, rounds: int) -> list[float]:
    cqrs.OutboxedEventMap.register("was-put", cqrs.NotificationEvent[Put])
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    found: list[float] = []
    for _ in range(rounds + 1):
        async with AsyncSession(engine) as session:
            repository = SqlAlchemyOutboxedEventRepository(session)
            for number in range(count):
                put = Put(k=f"k{number % KEYS}", text=TEXT)
                repository.add(
                    cqrs.NotificationEvent[Put](event_name="was-put", topic="puts", payload=put)
                )
            await repository.commit()
        async with AsyncSession(engine) as session:
            repository = SqlAlchemyOutboxedEventRepository(session)
            producer = EventProducer(Nobody(), repository)
            began, done = perf_counter(), 0
            async for batch in producer.event_batch_generator(500):
                for event in batch:
                    await producer.send_message(event)
                await repository.commit()
                done += len(batch)
                if done >= count:
                    break
            found.append((perf_counter() - began) / count)
    await engine.dispose()
    return found[1:]


if __name__ == "__main__":
    # Its import sets the level to DEBUG. A service in production undoes that.
    logging.getLogger("cqrs").setLevel(logging.WARNING)
    main(lambda *given: asyncio.run(measure(*given)))
