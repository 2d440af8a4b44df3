"""The relay: everything committed is published, in order per key, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from msgspec import structs

from headrace.broker import BrokerGuarantees, Reading, Rejected, Topic
from headrace.envelope import Message
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicMismatch, TopicNotFound
from headrace.limits import Limits
from headrace.relay import Relay
from headrace.storage import State, outbox_queue
from headrace.telemetry import Count
from tests.unit.flow import FAST, Clock, FlakyBroker, Setting, message, number, until

QUEUE = outbox_queue("test")


class OneByOne(FlakyBroker):
    """A broker that stores what it can of a batch, so that the relay must not rely on it."""

    max_body_bytes: int | None = None

    @property
    def guarantees(self) -> BrokerGuarantees:
        return BrokerGuarantees(
            durable=False, ordered_batch=False, max_body_bytes=self.max_body_bytes
        )


class Outbox(Setting):
    """A setting with a relay."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self.relays: list[Relay] = []

    async def __aexit__(self, *error: object) -> None:
        self.storage.down = False
        for relay in self.relays:
            await relay.stop()
        await super().__aexit__(*error)

    async def commit(self, *messages: Message) -> None:
        transaction = self.storage.transaction()
        transaction.enqueue(messages)
        await transaction.commit()

    def relay(
        self,
        *,
        owner: str = "one",
        limits: Limits = FAST,
        now: Callable[[], float] | None = None,
        topics: Sequence[Topic] = (),
    ) -> Relay:
        relay = Relay(
            self.storage,
            self.broker,
            "test",
            owner=owner,
            partitions=4,
            limits=limits,
            telemetry=self.telemetry,
            topics={topic.name: topic for topic in topics},
            **({"now": now} if now is not None else {}),
        )
        self.relays.append(relay)
        return relay

    async def stored(self, topic: str = "t") -> list[int]:
        """What the topic has, in order per partition."""
        count = await self.broker.partitions(topic)
        found = await self.broker.read("g", topic, dict.fromkeys(range(count)), limit=10_000)
        return [number(one.message) for one in found]


@pytest.fixture
async def one() -> AsyncIterator[Outbox]:
    async with Outbox() as outbox:
        yield outbox


async def test_what_was_committed_is_published_in_order(one: Outbox) -> None:
    """Committed messages are published in commit order and leave the outbox (G5, G6)."""
    await one.commit(message(1), message(2))
    await one.commit(message(3))
    relay = one.relay()
    relay.start()
    await until(lambda: not one.storage.rows(QUEUE))
    assert await one.stored() == [1, 2, 3]
    assert one.telemetry.counts[Count.PUBLISHED] == relay.status.published == 3


async def test_a_wake_up_spares_the_wait(one: Outbox) -> None:
    """A hint after a commit sets the relay going at once, without waiting for its poll (G6)."""
    relay = one.relay(limits=Limits(poll_seconds=3600))
    relay.start()
    await until(lambda: len(relay.status.partitions) == 4)
    await one.commit(message(1))
    relay.wake()
    await until(lambda: one.broker.published == [1])


async def test_a_lost_wake_up_costs_only_time(one: Outbox) -> None:
    """Without any hint the relay looks by itself (G6)."""
    relay = one.relay()
    relay.start()
    await until(lambda: one.storage.calls["ready"] >= 2)
    await one.commit(message(1))
    await until(lambda: one.broker.published == [1])


async def test_a_batch_is_one_wait(one: Outbox) -> None:
    """A backlog is published `batch` rows at a time, each with one call, and one deletion."""
    await one.commit(*[message(n) for n in range(10)])
    one.relay(limits=Limits(batch=4, poll_seconds=3600)).start()
    await until(lambda: len(one.broker.published) == 10)
    assert [len(batch) for batch in one.broker.batches] == [4, 4, 2]
    await until(lambda: one.storage.calls["delete"] == 3)


async def test_without_ordered_batches_a_key_is_sent_one_by_one(one: Outbox) -> None:
    """A message is not sent before the earlier ones of its key are confirmed (G6)."""
    one.broker.__class__ = OneByOne
    await one.commit(
        message(1, "a"), message(2, "a"), message(3, "b"), message(4, None), message(5, None)
    )
    one.relay().start()
    await until(lambda: not one.storage.rows(QUEUE))
    assert one.broker.batches == [[1, 3, 4, 5], [2]]


class AwayFor(FlakyBroker):
    """A broker that cannot take the messages of one topic for now, and says so."""

    away = "t"

    async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
        later = [i for i, m in enumerate(messages) if m.topic == self.away]
        await super().publish([m for i, m in enumerate(messages) if i not in later])
        return [Rejected(i, "no queue is bound to it.", final=False) for i in later]


async def test_what_is_taken_later_stays_and_starves_nobody(
    one: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that the broker cannot take for now stays, unburnt; its topic pauses while others flow (G5, G6, G13)."""
    one.broker.__class__ = AwayFor
    await one.broker.declare([Topic("other", 1)])
    await one.commit(
        message(1, "a"), message(2, "a"), structs.replace(message(3, "a"), topic="other")
    )
    relay = one.relay()
    relay.start()
    await until(lambda: one.broker.published == [3])
    await until(lambda: relay.status.paused_topics == ("t",))
    assert [(row.state, row.attempts) for row in one.storage.rows(QUEUE)] == [(State.READY, 0)] * 2
    assert "no queue is bound to it" in caplog.text
    one.broker.__class__ = FlakyBroker
    await until(lambda: not one.storage.rows(QUEUE))
    assert await one.stored() == [1, 2]
    assert relay.status.paused_topics == ()


async def test_an_outage_of_the_broker_burns_no_attempt(
    one: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    """While the broker is away the relay pauses, counted and logged once; then all flows in order (G6, G13)."""
    one.broker.failures = 4
    await one.commit(message(1), message(2))
    relay = one.relay()
    relay.start()
    await until(lambda: one.broker.tries >= 2)
    assert relay.status.last_error is not None
    assert {row.attempts for row in one.storage.rows(QUEUE)} == {0}
    await until(lambda: not one.storage.rows(QUEUE))
    assert one.broker.published == [1, 2]
    assert one.telemetry.counts[Count.RELAY_PAUSED] == 1
    assert caplog.text.count("is paused by BrokerUnavailable") == 1
    await until(lambda: relay.status.last_error is None)


async def test_an_outage_of_the_storage_repeats_but_never_reorders(one: Outbox) -> None:
    """If confirmed rows could not be deleted, they are published again, from the oldest on (G5, G6)."""
    one.storage.faults["delete"] = 1
    await one.commit(message(1), message(2))
    one.relay().start()
    await until(lambda: not one.storage.rows(QUEUE))
    assert one.broker.published == [1, 2, 1, 2]


async def test_what_the_broker_refuses_is_a_dead_letter(
    one: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused message is a dead letter with its reason; later ones of its key are held, others flow (G5, G6)."""
    one.broker.__class__ = OneByOne
    one.broker.refused = {2}
    await one.commit(message(1, "a"), message(2, "a"), message(3, "a"), message(4, "b"))
    one.relay().start()
    await until(lambda: 4 in one.broker.published and bool(one.storage.rows(QUEUE, State.DEAD)))
    await one.commit(message(5, "a"), message(6, "b"))
    await until(lambda: 6 in one.broker.published)
    dead, *held = one.storage.rows(QUEUE)
    assert (dead.state, dead.attempts) == (State.DEAD, 1)
    assert dead.failure is not None
    assert dead.failure.message == "refused by the test."
    assert [number(row.message) for row in held] == [3, 5]
    assert one.telemetry.counts[Count.PUBLISH_REJECTED] == 1
    assert "will never accept" in caplog.text


async def test_a_redrive_publishes_a_held_key_in_order(one: Outbox) -> None:
    """After a redrive the dead letter comes first, then what was held behind it (G9)."""
    one.broker.__class__ = OneByOne
    one.broker.refused = {1}
    await one.commit(message(1), message(2), message(3))
    relay = one.relay()
    relay.start()
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)))
    one.broker.refused.clear()
    await one.storage.redrive([row.position for row in one.storage.rows(QUEUE)])
    relay.wake()
    await until(lambda: not one.storage.rows(QUEUE))
    assert one.broker.published == [1, 2, 3]


async def test_a_body_beyond_the_brokers_limit_is_never_offered(one: Outbox) -> None:
    """A message that is too large is a dead letter, and none of its key passes it in the same batch (G6)."""

    class Small(OneByOne):
        max_body_bytes = 20

    one.broker.__class__ = Small
    large = message(2, "a", data=b'{"n":2,"filler":"' + b"x" * 50 + b'"}')
    await one.commit(message(1, "a"), large, message(3, "a"), message(4, "b"))
    one.relay().start()
    await until(lambda: bool(one.storage.rows(QUEUE, State.DEAD)))
    await until(lambda: sorted(one.broker.published) == [1, 4])
    assert [number(row.message) for row in one.storage.rows(QUEUE)] == [2, 3]


async def test_a_missing_topic_does_not_stop_the_others(one: Outbox) -> None:
    """A topic that cannot be had is paused alone, counted, tried again, and in order (G6)."""

    class Forgetful(FlakyBroker):
        missing = True

        async def publish(self, messages: Sequence[Message]) -> Sequence[Rejected]:
            if self.missing and any(m.topic == "lost" for m in messages):
                raise TopicNotFound("somebody deleted the topic 'lost'")
            return await super().publish(messages)

    one.broker.__class__ = Forgetful
    await one.commit(message(1, topic="lost"), message(2), message(3, topic="lost"), message(4))
    relay = one.relay()
    relay.start()
    await until(lambda: one.broker.published == [2, 4])
    await until(lambda: relay.status.paused_topics == ("lost",))
    await one.commit(message(5))
    await until(lambda: one.broker.published == [2, 4, 5])
    assert one.telemetry.counts[Count.RELAY_PAUSED] == 1
    Forgetful.missing = False
    await until(lambda: not one.storage.rows(QUEUE))
    assert await one.stored("lost") == [1, 3]


async def test_topics_are_made_as_the_app_declares_them(one: Outbox) -> None:
    """A topic that the relay meets for the first time gets the app's partitions."""
    await one.commit(message(1, topic="new"), message(2, topic="other"))
    one.relay(topics=[Topic("new", partitions=3)]).start()
    await until(lambda: not one.storage.rows(QUEUE))
    assert await one.broker.partitions("new") == 3
    assert await one.broker.partitions("other") == 8


async def test_a_topic_of_other_partitions_is_paused(one: Outbox) -> None:
    """A topic whose partitions disagree with the app's settings waits, visibly; others flow (G6, G13)."""
    await one.broker.declare([Topic("theirs", partitions=2)])
    await one.commit(message(1, topic="theirs"), message(2))
    relay = one.relay(topics=[Topic("theirs", partitions=3)])
    relay.start()
    await until(lambda: one.broker.published == [2])
    assert relay.status.paused_topics == ("theirs",)


async def test_a_relay_that_slept_publishes_nothing_more() -> None:
    """When a wave outlasts the lease, the rest is left to the next owner (G6)."""
    clock = Clock()
    async with Outbox(clock=clock) as one:
        one.broker.__class__ = OneByOne

        async def sleep() -> None:
            clock.at += 20.0

        one.broker.before_publish = sleep
        await one.commit(message(1), message(2))
        relay = one.relay(now=clock, limits=Limits(poll_seconds=3600))
        relay.start()
        await until(lambda: bool(one.broker.batches))
        assert relay.status.partitions == ()
        assert one.telemetry.counts[Count.LEASE_LOST] == 4
        await relay.stop()
        assert one.broker.batches == [[1]]
        assert one.storage.calls["delete"] == 0


async def test_stopping_ends_the_batch_and_gives_the_partitions_back(one: Outbox) -> None:
    """A stop waits for the publishing that runs; what was confirmed is deleted (G10)."""
    entered, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        await go.wait()

    one.broker.before_publish = wait
    await one.commit(message(1))
    relay = one.relay()
    relay.start()
    await entered.wait()
    stopping = asyncio.create_task(relay.stop())
    await asyncio.sleep(0)
    go.set()
    await stopping
    assert one.storage.rows(QUEUE) == []
    assert not relay.status.running
    grant = await one.storage.lease(QUEUE, "next", partitions=4, seconds=15)
    assert [lease.unclean for lease in grant.held] == [False] * 4


async def test_two_relays_share_the_outbox_and_keep_order(one: Outbox) -> None:
    """Two relays publish each message once, in order per key (G6)."""
    limits = Limits(poll_seconds=0.01, lease_seconds=0.15, batch=7)
    first, second = one.relay(owner="one", limits=limits), one.relay(owner="two", limits=limits)
    first.start()
    await one.commit(*[message(n, f"key {n % 10}") for n in range(100)])
    second.start()
    await until(lambda: len(first.status.partitions) == len(second.status.partitions) == 2)
    await one.commit(*[message(n, f"key {n % 10}") for n in range(100, 200)])
    await until(lambda: not one.storage.rows(QUEUE))
    assert sorted(one.broker.published) == list(range(200))
    for key in range(10):
        numbers = [n for n in one.broker.published if n % 10 == key]
        assert numbers == sorted(numbers)


async def test_the_backlog_can_be_seen(one: Outbox) -> None:
    """The relay tells what waits in the outbox (G13)."""
    await one.commit(message(1), message(2))
    assert (await one.relay().backlog()).ready == 2


@pytest.mark.parametrize("error", [BrokerUnavailable, ConfigurationError, TopicMismatch])
async def test_a_topic_that_cannot_be_made_does_not_stop_the_others(
    one: Outbox, error: type[Exception]
) -> None:
    """A topic that the broker refuses to make (its name, no right to it) is paused alone (G6)."""

    class Refusing(FlakyBroker):
        refusing = True

        async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
            if self.refusing and any(topic.name == "bad" for topic in topics):
                raise error("the server does not want the topic 'bad'")
            await super().declare(topics, readings)

    one.broker.__class__ = Refusing
    await one.commit(message(1, topic="bad"), message(2), message(3, topic="bad"), message(4))
    relay = one.relay()
    relay.start()
    await until(lambda: one.broker.published == [2, 4])
    assert relay.status.paused_topics == ("bad",)
    Refusing.refusing = False
    await until(lambda: not one.storage.rows(QUEUE))
    assert await one.stored("bad") == [1, 3]


async def test_a_broker_that_makes_no_topic_at_all_is_an_outage(one: Outbox) -> None:
    """When a second topic cannot be made either, the relay waits as a whole, and asks for no third one (G9)."""

    class Away(FlakyBroker):
        asked = 0
        away = True

        async def declare(self, topics: Sequence[Topic], readings: Sequence[Reading] = ()) -> None:
            if self.away:
                Away.asked += 1
                raise BrokerUnavailable("nobody listens")
            await super().declare(topics, readings)

    one.broker.__class__ = Away
    await one.commit(*(message(n, topic=f"t{n}") for n in range(4)))
    relay = one.relay()
    relay.start()
    await until(lambda: relay.status.last_error is not None)
    assert Away.asked == 2
    Away.away = False
    await until(lambda: not one.storage.rows(QUEUE))
    assert sorted(one.broker.published) == [0, 1, 2, 3]
