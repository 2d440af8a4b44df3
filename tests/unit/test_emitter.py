"""The emitter: breadth first, notifications out of the process, circles and unhandled events shown."""

import logging
from typing import Any

import pytest

from headrace import DomainEvent, Envelope, EventDispatcher, EventEmitter, EventMap, Events, Limits
from headrace.broker import Topic
from headrace.container.dishka import DishkaContainer
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.envelope import Message
from headrace.errors import (
    ConfigurationError,
    EncodeError,
    EventCycle,
    EventNotHandled,
    MessageTooLarge,
)
from headrace.telemetry import Count
from tests.unit.heart import (
    Announced,
    Greeted,
    Join,
    Joined,
    Log,
    Seated,
    by_hand,
    make_app,
    raising,
)


class Scoped:
    """With it in a handler, every send is a unit of work."""


def tree(scoped: bool) -> list[tuple[type, Any]]:
    """Joined a raises Greeted a1 and a2, and so on: two generations to tell breadth first from depth first."""

    async def join(request: Join, log: Log, events: Events) -> str:
        events.extend([Joined("a"), Joined("b")])
        return ""

    async def join_in_unit(request: Join, log: Log, scoped: Scoped, events: Events) -> str:
        return await join(request, log, events)

    async def joined(event: Joined, log: Log, events: Events) -> None:
        log.append(event)
        events.extend([Greeted(f"{event.user}1"), Greeted(f"{event.user}2")])

    async def greeted(event: Greeted, log: Log, events: Events) -> None:
        log.append(event)
        events.append(Seated(event.user))

    async def seated(event: Seated, log: Log) -> None:
        log.append(event)

    first = join_in_unit if scoped else join
    return [(Join, first), (Joined, joined), (Greeted, greeted), (Seated, seated)]


@pytest.mark.parametrize("scoped", [False, True])
async def test_breadth_first(scoped: bool) -> None:
    """G2: follow-ups join the end of the queue: a whole generation runs before the next begins."""
    log = Log()
    await by_hand(*tree(scoped), providers=(log, Scoped)).send(Join())
    generations = [Joined(u) for u in ("a", "b")], ["a1", "a2", "b1", "b2"]
    assert log == [
        *generations[0],
        *(Greeted(u) for u in generations[1]),
        *(Seated(u) for u in generations[1]),
    ]


@pytest.mark.parametrize("scoped", [False, True])
async def test_follow_ups_of_several_handlers_keep_their_order(scoped: bool) -> None:
    """G2: the follow-ups of an event's handlers are dispatched in the order the handlers ran."""
    log = Log()

    async def greeted(event: Greeted) -> None:
        log.append(event.user)

    async def join(request: Join, scoped: Scoped, events: Events) -> str:
        events.append(Joined())
        return ""

    mediator = by_hand(
        (Join, join if scoped else raising(Joined())),
        (Joined, raising(Greeted("1"), Greeted("2"))),
        (Joined, raising(Greeted("3"))),
        (Greeted, greeted),
        providers=(Scoped,),
    )
    await mediator.send(Join())
    assert log == ["1", "2", "3"]


@pytest.mark.parametrize("scoped", [False, True])
async def test_a_circle_of_follow_ups_shows_its_chain(scoped: bool) -> None:
    """G2: a chain of follow-ups deeper than the limit raises EventCycle, which shows the chain."""

    async def join(request: Join, scoped: Scoped, events: Events) -> str:
        events.append(Joined())
        return ""

    mediator = by_hand(
        (Join, join if scoped else raising(Joined())),
        (Joined, raising(Greeted())),
        (Greeted, raising(Joined())),
        providers=(Scoped,),
        cycle_depth=30,
    )
    with pytest.raises(
        EventCycle, match=r"30 generations deep: \.\.\. -> .*Joined -> Greeted -> Joined"
    ):
        await mediator.send(Join())


@pytest.mark.parametrize("scoped", [False, True])
@pytest.mark.parametrize(("depth", "fits"), [(4, False), (5, True)])
async def test_a_chain_as_deep_as_the_limit_passes(scoped: bool, depth: int, fits: bool) -> None:
    """G2: a chain of exactly as many follow-ups as the limit passes, with a unit of work or without; one more does not."""

    async def join(request: Join, scoped: Scoped, events: Events) -> str:
        events.append(Joined("5"))
        return ""

    async def joined(event: Joined, events: Events) -> None:
        if event.user != "0":
            events.append(Joined(str(int(event.user) - 1)))

    mediator = by_hand(
        (Join, join if scoped else raising(Joined("5"))),
        (Joined, joined),
        providers=(Scoped,),
        cycle_depth=depth,
    )
    if fits:
        await mediator.send(Join())
    else:
        with pytest.raises(EventCycle):
            await mediator.send(Join())


async def test_unhandled_warns_once_per_type_and_counts_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Section 1: a domain event without a handler is logged once per type and counted each time."""
    async with make_app((Join, raising(Joined(), Joined(), Greeted()))) as app:
        with caplog.at_level(logging.WARNING, "headrace"):
            await app.send(Join())
            await app.send(Join())
        assert app.telemetry.counts[Count.EVENT_UNHANDLED] == 6
    assert [r.getMessage().split()[0] for r in caplog.records] == ["Joined", "Greeted"]


async def test_unhandled_may_be_an_error_or_silence(caplog: pytest.LogCaptureFixture) -> None:
    """Section 1: the app may ask for an error, or for silence, which still counts."""
    async with make_app((Join, raising(Joined())), unhandled="error") as app:
        with pytest.raises(EventNotHandled, match="Joined was raised"):
            await app.send(Join())
    with caplog.at_level(logging.WARNING, "headrace"):
        async with make_app((Join, raising(Joined())), unhandled="ignore") as app:
            await app.send(Join())
            assert app.telemetry.counts[Count.EVENT_UNHANDLED] == 1
    assert not caplog.records


async def test_a_notification_without_a_broker_says_what_to_pass() -> None:
    """G13: raising a notification in an app without a broker is an error, with or without storage."""
    for storage in (None, MemoryStorage()):
        async with make_app((Join, raising(Announced())), storage=storage) as app:
            with pytest.raises(ConfigurationError, match="has no broker"):
                await app.send(Join())


class RecordingBroker(MemoryBroker):
    """Notes each batch that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Message]] = []

    async def publish(self, messages: Any) -> Any:
        self.batches.append(list(messages))
        return await super().publish(messages)


async def test_without_storage_notifications_go_out_after_all_handlers() -> None:
    """G5: without storage notifications are published in one batch after all handlers succeeded, in the order raised."""
    broker = RecordingBroker()

    async def joined(event: Joined, events: Events) -> None:
        assert not broker.batches
        events.append(Announced("2"))

    async with make_app(
        (Join, raising(Announced("1"), Joined())), (Joined, joined), broker=broker
    ) as app:
        await app.send(Join())
        assert [[m.key for m in batch] for batch in broker.batches] == [["1", "2"]]


async def test_without_storage_a_failed_send_publishes_nothing() -> None:
    """G5: without storage a send that failed publishes nothing."""
    broker = RecordingBroker()

    async def joined(event: Joined) -> None:
        raise KeyError

    async with make_app(
        (Join, raising(Announced(), Joined())), (Joined, joined), broker=broker
    ) as app:
        with pytest.raises(KeyError):
            await app.send(Join())
        assert not broker.batches


async def test_without_storage_a_deleted_topic_is_made_again() -> None:
    """G5: without storage a notification is not lost because somebody has deleted its topic meanwhile."""
    broker = RecordingBroker()
    async with make_app((Join, raising(Announced("1"))), broker=broker) as app:
        await app.send(Join())
        topic = broker.batches[0][0].topic
        del broker._topics[topic]
        await app.send(Join())
        found = await broker.read("g", topic, dict.fromkeys(range(8)), limit=10)
        assert [each.message for each in found] == broker.batches[-1]


async def test_a_body_over_the_limit_fails_the_send_before_the_commit() -> None:
    """G6: the size of a notification is checked by send; nothing of the unit is committed."""
    async with make_app(
        (Join, raising(Announced("fine"), Announced("u" * 100))),
        storage=MemoryStorage(),
        broker="memory://",
        limits=Limits(body_bytes=64),
    ) as app:
        with pytest.raises(MessageTooLarge, match=r"meetings\.announced\.v1.*the limit is 64"):
            await app.send(Join())
        await app.settle()
        assert app.telemetry.counts[Count.PUBLISHED] == 0


async def test_a_body_that_cannot_be_written_fails_the_send() -> None:
    """G4: a notification that cannot be encoded fails the send before the commit."""
    async with make_app(
        (Join, raising(Announced(object()))),  # type: ignore[arg-type]
        storage=MemoryStorage(),
        broker="memory://",
    ) as app:
        with pytest.raises(Exception, match=r"key user gave|cannot be written"):
            await app.send(Join())


async def test_an_encode_error_is_raised_by_send() -> None:
    """G4: a field that JSON does not know is an EncodeError of the send."""

    class Odd(DomainEvent):
        pass

    from headrace import Event, notification

    class Foreign(Event):
        def __init__(self) -> None:
            self.thing = object()

    declared = notification(type="x.v1", topic="meetings")(Foreign)
    async with make_app(
        (Join, raising(declared())), storage=MemoryStorage(), broker="memory://"
    ) as app:
        with pytest.raises(EncodeError, match="Foreign"):
            await app.send(Join())


async def test_the_brokers_own_limit_counts_too() -> None:
    """G6: the smaller of the app's and the broker's limit for bodies holds."""
    dispatcher = EventDispatcher(EventMap(), DishkaContainer())

    class Small(MemoryBroker):
        @property
        def guarantees(self) -> Any:
            from headrace.broker import BrokerGuarantees

            return BrokerGuarantees(durable=False, ordered_batch=True, max_body_bytes=10)

    assert EventEmitter(dispatcher, Small()).body_bytes == 10
    assert EventEmitter(dispatcher, Small(), body_bytes=5).body_bytes == 5


async def test_emit_by_hand_runs_handlers_and_follow_ups() -> None:
    """Section 2: EventEmitter.emit works by hand, without a mediator."""
    log = Log()

    async def greeted(event: Greeted) -> None:
        log.append(event)

    events = EventMap()
    events.bind(Joined, raising(Greeted("x")))
    events.bind(Greeted, greeted)
    await EventEmitter(EventDispatcher(events, DishkaContainer())).emit([Joined()])
    assert log == [Greeted("x")]


async def test_envelopes_of_a_chain_share_the_correlation_and_name_their_cause() -> None:
    """Section 3: correlation and metadata flow from the request through events to notifications; each names its cause."""
    broker, seen = RecordingBroker(), list[Envelope]()

    async def join(request: Join, envelope: Envelope, events: Events) -> str:
        seen.append(envelope)
        events.append(Joined())
        return ""

    async def joined(event: Joined, envelope: Envelope, events: Events) -> None:
        seen.append(envelope)
        events.append(Announced())

    await broker.start(None)
    await broker.declare([Topic("meetings")])
    mediator = by_hand((Join, join), (Joined, joined), broker=broker)
    await mediator.send(Join(), correlation_id="order-7", metadata={"tenant": "t1"})
    ((sent,),) = broker.batches
    request, event, out = seen[0], seen[1], sent.envelope
    assert [e.correlationid for e in (request, event, out)] == ["order-7"] * 3
    assert [e.metadata for e in (request, event, out)] == [{"tenant": "t1"}] * 3
    assert (request.causationid, event.causationid, out.causationid) == (None, request.id, event.id)
    assert (out.type, out.subject, out.partitionkey, out.datacontenttype) == (
        "meetings.announced.v1",
        "u1",
        "u1",
        "application/json",
    )
    await broker.stop()
