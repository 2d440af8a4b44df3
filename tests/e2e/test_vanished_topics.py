"""A topic that somebody deletes on a real server while apps use it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

import engines
from headrace import Command, Events, Headrace, Limits, Module, NotificationEvent
from headrace.assembly.urls import broker_from
from headrace.broker import Reading, Topic
from headrace.errors import TopicNotFound
from tests.e2e.leftovers import remove

TOPIC = f"vanishing-{secrets.token_hex(3)}"
LIMITS = Limits(poll_seconds=0.1)


class Say(Command[None]):
    text: str


class Said(NotificationEvent, type="test.said.v1", topic=TOPIC, key="text"):
    text: str


@dataclass
class Heard:
    texts: list[str] = field(default_factory=list)


speaking = Module("speaking")
hearing = Module("hearing")


@speaking.handler
async def say(request: Say, events: Events) -> None:
    events.append(Said(request.text))


@hearing.handler
async def hear(event: Said, heard: Heard) -> None:
    heard.texts.append(event.text)


# Not Kafka: librdkafka up to 2.16 may crash when a topic is deleted that it fetches (librdkafka issue 5280), as on Tansu.
@pytest.fixture(params=["rabbitmq", "nats", "redis"])
def broker(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A kind of broker and its URL."""
    try:
        url = engines.shared(request.param).url
    except engines.EngineMissing as error:
        pytest.skip(f"{request.param}: {error}")
    yield request.param, url
    asyncio.run(remove(request.param, url, TOPIC, ["hearing"]))


async def until_heard(heard: Heard, text: str) -> None:
    async with asyncio.timeout(30):
        while text not in heard.texts:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


async def test_a_group_declares_anew_what_was_deleted(broker: tuple[str, str]) -> None:
    """A consumer whose topic was deleted makes it again by itself, and misses nothing that is published then (G5, G13)."""
    heard = Heard()
    hearer = Headrace(
        "hearing",
        modules=[hearing],
        providers=[heard],
        storage="memory://",
        broker=broker[1],
        limits=LIMITS,
    )
    speaker = Headrace(
        "speaking", modules=[speaking], storage="memory://", broker=broker[1], limits=LIMITS
    )
    async with hearer, speaker:
        await speaker.send(Say("before"))
        await until_heard(heard, "before")
        await remove(*broker, TOPIC, ["hearing"])
        await made_again(broker[1])
        await speaker.send(Say("after"))
        await until_heard(heard, "after")
        assert heard.texts == ["before", "after"]


async def made_again(url: str) -> None:
    """Wait until all that the group needs is there."""
    watcher = broker_from(f"{url}?declare=check")
    await watcher.start(None)
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    await watcher.declare([Topic(TOPIC)], [Reading("hearing", TOPIC)])
                except TopicNotFound:
                    await asyncio.sleep(0.05)
                else:
                    return
    finally:
        await watcher.stop()
