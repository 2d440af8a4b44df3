"""Publishing past the outbox, inside a unit of work under the harness, is an error that names the line."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from typing import Any

import aio_pika
import aiokafka
import aiormq.channel
import confluent_kafka
import nats.aio.client
import nats.js
import pytest
import redis.asyncio

from headrace import Headrace
from headrace.drivers.memory import MemoryBroker
from headrace.envelope import Envelope, Message
from headrace.errors import OutboxBypassed
from headrace.testing import Harness
from headrace.testing.bypass import CLIENTS
from tests.unit.heart import Announced, Find, Join, make_app, raising

MESSAGE = Message("t", None, Envelope("1", "s", "t", ""), b"{}")


def bare(kind: Any) -> Any:
    """A client that was never connected: the call is refused before it would matter."""
    return object.__new__(kind)


CALLS: dict[str, Callable[[], Any]] = {
    "AIOKafkaProducer.send": lambda: bare(aiokafka.AIOKafkaProducer).send("t", b""),
    "AIOKafkaProducer.send_and_wait": lambda: bare(aiokafka.AIOKafkaProducer).send_and_wait("t"),
    "Producer.produce": lambda: confluent_kafka.Producer({"log_level": 0}).produce("t", b""),
    "Exchange.publish": lambda: bare(aio_pika.Exchange).publish(None, "k"),
    "Channel.basic_publish": lambda: bare(aiormq.channel.Channel).basic_publish(b""),
    "Client.publish": lambda: nats.aio.client.Client().publish("s", b""),
    "JetStreamContext.publish": lambda: bare(nats.js.JetStreamContext).publish("s", b""),
    "StreamCommands.xadd": lambda: redis.asyncio.Redis().xadd("s", {"a": "b"}),
    "PubSubCommands.publish": lambda: redis.asyncio.Redis().publish("c", "m"),
}


def app_that(call: Callable[[], Any], **settings: Any) -> Headrace:
    async def handler(request: Join) -> str:
        answer = call()
        if inspect.isawaitable(answer):
            await answer
        return "sent"

    return make_app((Join, handler), **{"storage": "memory://", "broker": "memory://", **settings})


@pytest.mark.parametrize("name", CALLS)
async def test_well_known_clients_are_watched(name: str) -> None:
    """A call inside a unit is refused, with the client's method and the line in the message."""
    async with Harness(app_that(CALLS[name])) as h:
        with pytest.raises(OutboxBypassed, match=re.escape(name)) as refusal:
            await h.send(Join())
    assert re.search(
        rf"{re.escape(__file__)}:\d+, inside the unit of work of Join", str(refusal.value)
    )


async def test_the_apps_own_broker_is_watched() -> None:
    """app.broker.publish in a handler is refused: on the app as it was made, and on its running twin."""
    broker = MemoryBroker()
    original = app_that(lambda: broker.publish([MESSAGE]), broker=broker)
    async with Harness(original) as h:
        with pytest.raises(OutboxBypassed, match=r"MemoryBroker\.publish"):
            await h.send(Join())
    twins: list[Headrace] = []

    def publish() -> Any:
        assert twins[0].broker is not None
        return twins[0].broker.publish([MESSAGE])

    async with Harness(app_that(publish)) as h:
        twins.append(h.app)
        with pytest.raises(OutboxBypassed, match=r"RecordingBroker\.publish"):
            await h.send(Join())


async def test_a_call_is_seen_where_it_is_made() -> None:
    """What a handler leaves to a task is refused at the call, so that the line can be named."""
    client = redis.asyncio.Redis()

    def later() -> Any:
        return asyncio.ensure_future(client.xadd("s", {"a": "b"}))

    async with Harness(app_that(later)) as h:
        with pytest.raises(OutboxBypassed, match=__file__):
            await h.send(Join())


async def test_headrace_itself_may_publish() -> None:
    """The relay, and an app without storage after its handlers have succeeded, are no bypass."""
    for storage in ("memory://", None):
        app = make_app(
            (Join, raising(Announced("u1"))), (Find, raising()), storage=storage, broker="memory://"
        )
        async with Harness(app) as h:
            await h.send(Join())
            await h.settle()
            assert h.published(Announced) == [Announced("u1")]


async def test_outside_of_units_anybody_may_publish() -> None:
    """A test's own code, outside of units of work, is not held up."""
    broker = MemoryBroker()
    async with Harness(app_that(lambda: None, broker=broker)) as h:
        await broker.start(None)
        assert await broker.publish([]) == ()
        assert await h.send(Join()) == "sent"


async def test_a_test_may_allow_it() -> None:
    """Harness(bypass=True) watches nothing."""
    broker = MemoryBroker()
    await broker.start(None)
    async with Harness(app_that(lambda: broker.publish([]), broker=broker), bypass=True) as h:
        assert await h.send(Join()) == "sent"


async def test_everything_is_put_back() -> None:
    """After the last harness has ended, in whatever order, clients and brokers are what they were."""
    broker = MemoryBroker()
    before = _methods()
    one, other = (Harness(app_that(lambda: None, broker=broker)) for _ in range(2))
    await one.__aenter__()
    await other.__aenter__()
    assert _methods() != before
    await one.__aexit__(None, None, None)
    assert _methods() != before
    await other.__aexit__(None, None, None)
    assert _methods() == before
    assert "publish" not in vars(broker)
    producer = confluent_kafka.Producer({"log_level": 0})
    producer.produce("t", b"")
    producer.purge()


def _methods() -> list[object]:
    import sys

    found: list[object] = []
    for module, name, methods in CLIENTS:
        kind = getattr(sys.modules.get(module), name, None)
        found += [vars(kind).get(method) for method in methods] if kind is not None else []
    return found
