"""Topics are made or checked, and what is missing is named with what makes it."""

from __future__ import annotations

import asyncio
import shlex

import pytest

from headrace.broker import Reading, Topic
from headrace.errors import ConfigurationError, TopicMismatch, TopicNotFound
from headrace.testing.conformance.samples import numbered
from tests.unit.drivers_redis.place import Place


async def test_a_check_names_what_makes_the_topic(place: Place) -> None:
    """With `declare="check"` nothing is made, and the commands in the error make exactly what is missing."""
    broker = place.broker(declare="check")
    await broker.start(None)
    wanted = [Topic("orders", 2), Topic("invoices")]
    with pytest.raises(TopicNotFound, match="the topic 'orders', the topic 'invoices'") as caught:
        await broker.declare(wanted)
    async with place.client() as client:
        assert [key async for key in client.scan_iter(f"{place.prefix}:*")] == []
        _, *commands = str(caught.value).splitlines()
        for command in commands:
            await client.execute_command(*shlex.split(command))
    await broker.declare(wanted, [Reading("g", "orders")])
    assert await broker.partitions("orders") == 2
    assert await broker.publish(numbered(3)) == []


async def test_a_check_names_a_stream_that_is_gone(place: Place) -> None:
    """A topic with a stream missing is told from one that is whole, and made whole where it may be."""
    maker, checker = place.broker(), place.broker(declare="check")
    await maker.start(None)
    await checker.start(None)
    await maker.declare([Topic("orders", 2)])
    await checker.declare([Topic("orders")])
    async with place.client() as client:
        await client.delete(f"{place.prefix}:{{orders}}:1")
    with pytest.raises(TopicNotFound, match=r"the stream 'test-\w+:\{orders\}:1'"):
        await checker.declare([Topic("orders")])
    await maker.declare([Topic("orders")])
    await checker.declare([Topic("orders")])


async def test_two_apps_that_make_a_topic_agree(place: Place) -> None:
    """Of several apps that make one topic at once with different counts one wins, and each other is told (G6)."""
    brokers = [place.broker() for _ in range(4)]
    for broker in brokers:
        await broker.start(None)
    answers = await asyncio.gather(
        *(b.declare([Topic("orders", n)]) for n, b in enumerate(brokers, 1)), return_exceptions=True
    )
    count = await brokers[0].partitions("orders")
    for number, answer in enumerate(answers, 1):
        assert answer is None if number == count else isinstance(answer, TopicMismatch)


async def test_a_mismatch_makes_nothing(place: Place) -> None:
    """When one of several topics cannot be declared none is made."""
    broker = place.broker()
    await broker.start(None)
    await broker.declare([Topic("orders", 2)])
    for wrong in (Topic("orders", 3), Topic("third", 0)):
        with pytest.raises((TopicMismatch, ConfigurationError)):
            await broker.declare([Topic("second", 1), wrong])
    with pytest.raises(TopicNotFound):
        await broker.partitions("second")
