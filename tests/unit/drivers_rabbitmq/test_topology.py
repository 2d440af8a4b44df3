"""Exchanges and queues: made once, checked, and never taken for what they are not."""

from __future__ import annotations

import asyncio

import aiormq
import pytest

from headrace.broker import PARTITIONS, Reading, Topic
from headrace.drivers.rabbitmq.names import Names
from headrace.errors import (
    BrokerUnavailable,
    ConfigurationError,
    TopicMismatch,
    TopicNotFound,
)
from headrace.testing.conformance.samples import message
from tests.unit.drivers_rabbitmq.place import Place, read

READ = Reading("g", "orders")


async def test_another_app_finds_the_count(place: Place) -> None:
    """An app that gives no number of partitions finds the one that another app chose, whatever its queues (G6)."""
    first, second = place.broker(), place.broker(queues="quorum")
    await first.start(None)
    await second.start(None)
    await first.declare([Topic("orders", 5), Topic("plain")])
    await second.declare([Topic("orders"), Topic("plain")])
    assert await second.partitions("orders") == 5
    assert await second.partitions("plain") == PARTITIONS
    with pytest.raises(TopicMismatch, match=r"has 5 partitions and was declared with 4"):
        await second.declare([Topic("orders", 4)])


async def test_two_apps_that_make_a_topic_at_once_agree(place: Place) -> None:
    """Of apps that make a topic at the same time with different counts one succeeds, and all see its count (G6)."""
    brokers = [place.broker() for _ in range(4)]
    for broker in brokers:
        await broker.start(None)
    made = await asyncio.gather(
        *(broker.declare([Topic("orders", n + 1)]) for n, broker in enumerate(brokers)),
        return_exceptions=True,
    )
    assert sorted(type(one) is TopicMismatch for one in made) == [False, True, True, True]
    counts = {await broker.partitions("orders") for broker in brokers}
    assert counts == {[type(one) for one in made].index(type(None)) + 1}


async def test_looking_makes_nothing(place: Place) -> None:
    """Asking for a topic that does not exist leaves nothing on the server (G13)."""
    broker = place.broker()
    await broker.start(None)
    for _ in range(2):
        with pytest.raises(TopicNotFound, match="'orders'"):
            await broker.partitions("orders")
    async with aiormq.connect(place.url) as connection:
        channel = await connection.channel()
        with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
            await channel.queue_declare(place.names.record("orders"), passive=True)


async def test_checking_names_all_that_is_missing_and_how_to_make_it(place: Place) -> None:
    """With `declare="check"` nothing is made, and one error names each missing thing with its command (G13)."""
    checking, making = place.broker(declare="check"), place.broker()
    await checking.start(None)
    await making.start(None)
    with pytest.raises(TopicNotFound) as caught:
        await checking.declare([Topic("orders", 2)], [READ])
    text = str(caught.value)
    for name in (
        place.names.exchange("orders"),
        place.names.record("orders"),
        place.names.queue("g", "orders", 0),
        place.names.queue("g", "orders", 1),
    ):
        assert f"name='{name}'" in text
    assert text.count("rabbitmqadmin declare") == 6
    with pytest.raises(TopicNotFound):
        await checking.partitions("orders")
    await making.declare([Topic("orders", 2)])
    with pytest.raises(TopicNotFound, match=r"g\.orders\.1") as caught:
        await checking.declare([Topic("orders")], [READ])
    assert "type=direct" not in str(caught.value)
    await making.declare([], [READ])
    await checking.declare([Topic("orders"), Topic("orders", 2)], [READ])
    await checking.publish([message("k")])
    with pytest.raises(TopicMismatch, match="has 2 partitions"):
        await checking.declare([Topic("orders", 3)], [READ])


async def test_queues_made_otherwise_are_a_mismatch(place: Place) -> None:
    """A queue or an exchange that was made with other settings is refused with the server's words (G13)."""
    classic, quorum = place.broker(), place.broker(queues="quorum")
    await classic.start(None)
    await quorum.start(None)
    await classic.declare([Topic("orders", 1)], [READ])
    with pytest.raises(TopicMismatch, match="x-queue-type"):
        await quorum.declare([Topic("orders")], [READ])
    async with aiormq.connect(place.url) as connection:
        channel = await connection.channel()
        await channel.exchange_declare(
            place.names.exchange("other"), exchange_type="fanout", durable=True
        )
        await channel.queue_declare(place.names.record("strange"), durable=True)
    place.topics |= {"other", "strange"}
    with pytest.raises(TopicMismatch, match="type"):
        await classic.declare([Topic("other", 1)])
    with pytest.raises(TopicMismatch, match="not made by Headrace"):
        await classic.declare([Topic("strange", 1)])


async def test_any_name_is_a_name_of_its_own(place: Place) -> None:
    """Topics and groups of any letters, also those that the server keeps for itself, work and stay apart (G6)."""
    broker = place.broker()
    await broker.start(None)
    names = ["+", "ä", "ae", "a b/c", "amq.direct", "🔑", "A", "a"]
    await broker.declare([Topic(name, 1) for name in names], [Reading(n, n) for n in names])
    for name in names:
        await broker.publish([message("k", name.encode(), topic=name)])
    for name in names:
        found = await read(broker, 1, group=name, topic=name)
        assert [one.message.data for one in found] == [name.encode()]


@pytest.mark.parametrize(
    ("group", "topic"), [("g", ""), ("", "t"), ("g", "ü" * 50), ("g" * 255, "t")]
)
def test_names_that_cannot_be_are_refused(group: str, topic: str) -> None:
    """An empty name, and one that is too long for the protocol, is an error that says so (G12)."""
    with pytest.raises(ConfigurationError, match=r"is empty|at most"):
        assert Names().exchange(topic) == Names().queue(group, topic, 0)


def test_reserved_names_are_escaped() -> None:
    """A topic that begins like the server's own exchanges gets another name (G12)."""
    assert Names().exchange("amq.direct") == "+61mq.direct"
    assert Names("my-").exchange("amq.direct") == "my-amq.direct"
    assert Names().queue("a.b", "c.d", 3) == "a+2Eb.c.d.3"


async def test_a_virtual_host_that_is_not_there_is_told_in_words(place: Place) -> None:
    """What the client shows of it is the address of an object (G13)."""
    broker = place.broker(url=f"{place.url.rstrip('/')}/no-such-host")
    with pytest.raises(
        BrokerUnavailable, match=r"the server refuses the virtual host: .*virtual\s"
    ) as told:
        await broker.start(None)
    assert "object at" not in str(told.value)
