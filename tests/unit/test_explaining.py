"""What became of a message or a key, as storage and broker still know it."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec import structs

from headrace import (
    Command,
    DomainEvent,
    EventMap,
    Headrace,
    Limits,
    NotificationEvent,
    RequestMap,
    Subscription,
)
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.errors import ConfigurationError
from headrace.explaining import Explanation, explain
from headrace.handlers import Events
from headrace.storage import Failure, State, group_queue
from headrace.subscriptions import Retry
from tests.unit.flow import message


class Order(Command[None]):
    number: str = "o1"


class Ordered(NotificationEvent, type="shop.ordered.v1", topic="orders", key="number"):
    number: str


class Packed(NotificationEvent, type="shop.packed.v1", topic="parcels", key="number"):
    number: str


class Left(DomainEvent):
    number: str


class Refused(NotificationEvent, type="shop.refused.v1", topic="orders", key="number"):
    number: str


async def order(request: Order, events: Events) -> None:
    events.append(Ordered(request.number))


async def pack(event: Ordered, events: Events) -> None:
    if event.number.startswith("bad"):
        raise ValueError(f"no {event.number}")
    events.append(Packed(event.number))


async def count(event: Packed) -> None:
    pass


async def tell(event: Left) -> None:
    raise ValueError("nobody is there")


def shop(
    broker: MemoryBroker | None = None,
    *,
    retry: Retry = Retry(attempts=1),  # noqa: B008 - a frozen value
    **settings: object,
) -> Headrace:
    requests, events = RequestMap(), EventMap()
    requests.bind(Order, order)
    events.bind(Ordered, pack)
    events.bind(Packed, count)
    subscription = Subscription(group="packing", retry=retry)
    given: dict[str, object] = {"storage": MemoryStorage(), "broker": broker or MemoryBroker()}
    return Headrace(
        "shop",
        requests=requests,
        events=events,
        subscriptions=[subscription],
        **{**given, **settings},  # type: ignore[arg-type]
    )


async def ids_of(app: Headrace, topic: str) -> list[str]:
    broker = app.broker
    assert isinstance(broker, MemoryBroker)
    return [one.message.envelope.id for one in await broker.search(topic)]


async def test_a_handled_message_tells_its_way_and_what_it_caused() -> None:
    """Published, in the topic, handled by the group; its effect and its cause are linked (G13)."""
    app = shop()
    async with app:
        await app.send(Order("o1"))
        await app.settle(10)
        (ordered,) = await ids_of(app, "orders")
        (packed,) = await ids_of(app, "parcels")
        (life,) = (await explain(app, ordered)).messages
        assert (life.topic, life.key, life.source) == ("orders", "o1", "shop")
        assert life.sent is not None
        assert life.sent.where == "published"
        assert life.log is not None
        assert life.log.topic == "orders"
        assert [(one.group, one.where) for one in life.groups] == [("packing", "handled")]
        assert [one.id for one in life.effects] == [packed]
        assert [one.type for one in life.causes] == [""]
        assert "not stored" in life.causes[0].note
        (effect,) = (await explain(app, packed)).messages
        assert [one.id for one in effect.causes][:1] == [ordered]
        assert effect.causes[0].where.startswith("topic:orders/")


async def test_a_dead_letter_and_what_waits_behind_it_name_each_other() -> None:
    """The first says how many wait, each of these says behind which position (G9)."""
    app = shop()
    async with app:
        for _ in range(3):
            await app.send(Order("bad 1"))
        await app.settle(10)
        first, second, _ = await ids_of(app, "orders")
        (standing,) = (await explain(app, first)).messages[0].groups
        assert (standing.where, standing.attempts, standing.behind) == ("dead", 1, 2)
        assert standing.failure is not None
        assert standing.failure.message == "no bad 1"
        (held,) = (await explain(app, second)).messages[0].groups
        assert (held.where, held.blocked_by, held.behind) == ("held", standing.position, 1)
        (key,) = (await explain(app, "bad 1")).keys
        outbox, packing = key.queues
        assert not outbox.messages
        assert packing.blocked_by == standing.position
        assert [one.where for one in packing.messages] == ["dead", "held", "held"]
        assert packing.owner is not None
        assert len(key.log) == 3


async def test_a_message_that_is_not_published_yet_says_who_has_to() -> None:
    """Nobody relays: it is in the outbox, and the group cannot have it."""
    app = shop(roles={"send"})
    async with app:
        await app.send(Order("o1"))
        storage = app.storage
        assert storage is not None
        (stored,) = await storage.find(key="o1")
        (life,) = (await explain(app, stored.message.envelope.id)).messages
        assert life.sent is not None
        assert (life.sent.where, life.sent.owner) == ("ready", None)
        assert "start a process with the role 'relay'" in life.sent.why
        assert [one.where for one in life.groups] == ["unpublished"]


async def test_a_group_that_has_no_handler_for_the_type_passes_over_it() -> None:
    """It is no loss, and no mystery (G14)."""
    app = shop()
    async with app:
        await app.send(Order("o1"))
        await app.settle(10)
        storage, broker = app.storage, app.broker
        assert storage is not None
        assert isinstance(broker, MemoryBroker)
        (received,) = await broker.search("orders")
        other = structs.replace(
            received.message,
            envelope=structs.replace(received.message.envelope, id="other", type="shop.refused.v1"),
        )
        await broker.publish([other])
        (life,) = (await explain(app, "other")).messages
        assert [one.where for one in life.groups] == ["skipped"]


async def test_an_unread_message_says_how_many_come_before_it() -> None:
    """The group's position against the message's own."""
    broker = MemoryBroker()
    app = shop(broker, roles={"send", "relay"})
    async with app:
        for _ in range(2):
            await app.send(Order("o1"))
        await app.settle(10)
        _, second = await ids_of(app, "orders")
        (life,) = (await explain(app, second)).messages
        (standing,) = life.groups
        assert standing.where == "unread"
        assert "nobody reads it" in standing.why


async def test_only_an_inbox_remembers_and_says_so() -> None:
    """The message is gone everywhere, but its id was handled."""
    app = shop()
    async with app:
        await app.send(Order("o1"))
        await app.settle(10)
        (ordered,) = await ids_of(app, "orders")
        broker = MemoryBroker()
        later = shop(broker, storage=app.storage, roles={"send"})
        await broker.start(None)
        explanation = await explain(later, ordered)
        (life,) = explanation.messages
        assert life.envelope is None
        assert [(one.group, one.where) for one in life.groups] == [("packing", "handled")]
        assert any("stored nowhere any more" in note for note in explanation.notes)


async def test_nothing_known_is_an_answer_with_the_places_that_were_looked_at() -> None:
    """Neither an id nor a key: every keyed topic, with its owners."""
    app = shop()
    async with app:
        explanation = await explain(app, "nobody")
    assert not explanation.found
    assert [key.topic for key in explanation.keys] == ["orders", "parcels"]


async def test_a_broker_that_is_away_is_a_note() -> None:
    """What storage knows is told all the same (G13)."""
    app = shop()
    storage = app.storage
    assert storage is not None
    await storage.start("shop", partitions=8)
    (lease,) = (
        await storage.lease(group_queue("packing", "orders"), "o", partitions=1, seconds=9)
    ).held
    transaction = storage.transaction()
    transaction.park(
        lease,
        message(1, "k", topic="orders"),
        state=State.DEAD,
        attempts=3,
        failure=Failure("ValueError", "no"),
    )
    await transaction.commit()
    explanation: Explanation = await explain(app, "k")
    assert explanation.found
    assert any("broker could not be asked" in note for note in explanation.notes)


async def test_an_app_without_storage_remembers_nothing() -> None:
    """And says what to pass."""
    with pytest.raises(ConfigurationError, match="Pass storage="):
        await explain(shop(storage=None), "x")


async def test_a_message_that_waits_says_until_when_and_what_waits_behind_it() -> None:
    """Its next attempt, its last error, the process that will try it (G9)."""
    # Its stop would wait for what is in memory alone.
    retry = Retry(attempts=5, initial_seconds=600, max_seconds=600)
    app = shop(retry=retry, limits=Limits(drain_seconds=0.05))
    async with app:
        await app.send(Order("bad 1"))
        await app.send(Order("bad 1"))
        storage = app.storage
        assert storage is not None
        queue = group_queue("packing", "orders")
        async with asyncio.timeout(20):
            while len(await storage.find(queue=queue)) < 2:  # noqa: ASYNC110 - a storage tells nobody
                await asyncio.sleep(0.01)
        first, second = await ids_of(app, "orders")
        (waiting,) = (await explain(app, first)).messages[0].groups
        assert (waiting.where, waiting.behind) == ("waiting", 1)
        assert waiting.due_at is not None
        assert waiting.due_at > time.time() + 60
        assert waiting.owner is not None
        (held,) = (await explain(app, second)).messages[0].groups
        assert (held.where, held.blocked_by) == ("held", waiting.position)


async def test_deliveries_to_after_commit_handlers_are_told_too() -> None:
    """A domain event goes to no broker; its handler has a dead letter."""

    async def leave(request: Order, events: Events) -> None:
        events.append(Left(request.number))

    requests, events = RequestMap(), EventMap()
    requests.bind(Order, leave)
    events.bind(Left, tell, phase="after_commit")
    app = Headrace(
        "shop",
        requests=requests,
        events=events,
        storage=MemoryStorage(),
        after_commit=Subscription(retry=Retry(attempts=1)),
    )
    async with app:
        await app.send(Order("o1"))
        await app.settle(10)
        (letter,) = await app.dead_letters.list()
        (life,) = (await explain(app, letter.envelope.id)).messages
    assert (life.topic, life.sent, life.groups) == (None, None, ())
    (standing,) = life.handlers
    assert (standing.where, standing.position) == ("dead", letter.position)
    assert standing.handler is not None
    assert standing.handler.endswith("tell")


async def test_messages_of_one_request_are_linked_though_neither_caused_the_other() -> None:
    """They have the same correlation id."""
    app = shop()
    async with app:
        await app.send(Order("o1"), correlation_id="r1")
        await app.send(Order("o2"), correlation_id="r1")
        await app.settle(10)
        one, two = await ids_of(app, "orders")
        life = (await explain(app, one)).messages[0]
    assert two in [relative.id for relative in life.related]
    assert two not in [relative.id for relative in life.effects]
