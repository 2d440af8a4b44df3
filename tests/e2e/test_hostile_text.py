"""Text from outside that a database cannot keep, in errors that are to be kept."""

from __future__ import annotations

import asyncio

import pytest

from headrace import (
    Command,
    Events,
    Headrace,
    Module,
    NotificationEvent,
    Retry,
    Subscription,
)
from tests.servers import engine


class Name(Command[None]):
    name: str


class Named(NotificationEvent, type="test.named.v1", topic="names", key="name"):
    name: str


class OddError(Exception):
    """An error of a library that fails at telling what it is."""

    def __str__(self) -> str:
        raise KeyError("text")


names = Module("names", subscriptions=[Subscription(topics=("names",), retry=Retry(attempts=1))])


@names.handler
async def name(request: Name, events: Events) -> None:
    events.append(Named(request.name))


@names.handler
async def refuse(event: Named) -> None:
    if event.name == "odd":
        raise OddError
    if event.name != "good":
        raise ValueError("a\x00b")


@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
async def test_an_error_that_quotes_hostile_text_becomes_a_dead_letter(where: str) -> None:
    """One that could not be stored would stop its partition for ever; what people write is kept too (G9, G14)."""
    storage, drop = engine(where).fresh_database()
    app = Headrace("names", modules=[names], storage=storage, broker="memory://")
    try:
        async with app:
            for each in ("nul", "odd", "good"):
                await app.send(Name(each))
            await app.settle()
            letters = await app.dead_letters.list()
            said = {one.failure.message for one in letters if one.failure is not None}
            assert said == {"a\\x00b", "<str() of it raised KeyError>"}
            await app.dead_letters.drop(letters[0].position, reason="a\x00b", by="\x00")
            assert len(await app.dead_letters.list()) == 1
    finally:
        await asyncio.to_thread(drop)
