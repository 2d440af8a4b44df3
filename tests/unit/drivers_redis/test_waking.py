"""Listeners are woken by whoever writes, soon, and every time."""

from __future__ import annotations

import asyncio

from headrace.broker import Topic
from headrace.testing.conformance.samples import message
from tests.unit.drivers_redis.place import Place


async def test_every_message_is_found_soon_without_polling(place: Place) -> None:
    """A reader that only reads when it is woken finds each message of another process, within milliseconds."""
    reader, writer = place.broker(), place.broker()
    await reader.start(None)
    await writer.start(None)
    await writer.declare([Topic("orders", 4)])
    woken = asyncio.Event()
    reader.listen("g", "orders", woken.set)
    after: dict[int, str | None] = dict.fromkeys(range(4))
    seen: list[bytes] = []
    clock = asyncio.get_running_loop().time
    took: list[float] = []
    async with asyncio.timeout(20):
        for number in range(100):
            began = clock()
            await writer.publish([message(f"k{number % 9}", str(number).encode())])
            while len(seen) <= number:
                await woken.wait()
                woken.clear()
                for each in await reader.read("g", "orders", after, limit=100):
                    after[each.partition] = each.position
                    seen.append(each.message.data)
            took.append(clock() - began)
    assert seen == [str(number).encode() for number in range(100)]
    assert sorted(took)[50] < 0.05


async def test_topics_are_added_and_taken_away(place: Place) -> None:
    """A topic that is listened to later, even one that does not exist yet, is heard; one that ended is not."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("first", 1)])
    first, second = asyncio.Event(), asyncio.Event()
    end = broker.listen("g", "first", first.set)
    await broker.publish([message(topic="first")])
    await asyncio.wait_for(first.wait(), 5)
    broker.listen("g", "second", second.set)
    end()
    first.clear()
    await broker.declare([Topic("second", 1)])
    await broker.publish([message(topic="first")])
    await broker.publish([message(topic="second")])
    await asyncio.wait_for(second.wait(), 10)
    assert not first.is_set()


async def test_a_topic_that_is_missing_silences_no_other(place: Place) -> None:
    """While a topic that is listened to does not exist, the listeners of others are woken."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("first", 1)])
    woken = asyncio.Event()
    broker.listen("g", "missing", lambda: None)
    broker.listen("g", "first", woken.set)
    await broker.publish([message(topic="first")])
    await asyncio.wait_for(woken.wait(), 5)
