"""What readers of the Kafka driver see: positions, memory, wake-ups, lost logs."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from confluent_kafka import Consumer, TopicPartition

from engines import MockKafka
from engines.kafka_mock import TOPIC_AUTHORIZATION_FAILED
from headrace.broker import Reading, Topic
from headrace.drivers.kafka import KafkaBroker, fetcher
from headrace.drivers.kafka.fetcher import Fetcher
from headrace.errors import BrokerUnavailable, ConfigurationError
from headrace.telemetry import LogEvent
from headrace.testing.conformance.samples import message, numbered
from tests.unit.drivers_kafka.place import Place, Proxy, read


async def ready(place: Place, partitions: int = 1, **settings: object) -> KafkaBroker:
    broker = place.broker(**settings)
    await broker.start(None)
    await broker.declare([Topic("orders", partitions)], [Reading("g", "orders")])
    return broker


def committed(place: Place, partition: int = 0) -> int:
    consumer = Consumer({"bootstrap.servers": place.servers, "group.id": f"{place.prefix}g"})
    try:
        asked = [TopicPartition(f"{place.prefix}orders", partition)]
        return consumer.committed(asked, timeout=10)[0].offset
    finally:
        consumer.close()


async def test_what_is_settled_is_committed_for_other_tools(place: Place) -> None:
    """Within a second or so the servers know how far the group came, under its name (G13)."""
    broker = await ready(place)
    await broker.publish(numbered(5))
    found = await read(broker, 5, {0: None})
    await broker.settle("g", "orders", {0: found[2].position})
    async with asyncio.timeout(10):
        while await asyncio.to_thread(committed, place) != 3:  # noqa: ASYNC110 - the servers tell nobody
            await asyncio.sleep(0.1)


async def test_a_release_commits_at_once(place: Place) -> None:
    """When `release` returns, another process that knows no position goes on behind what was settled (G8)."""
    broker = await ready(place)
    await broker.publish(numbered(5))
    found = await read(broker, 5, {0: None})
    await broker.settle("g", "orders", {0: found[2].position})
    await broker.release("g", "orders", [0])
    assert await asyncio.to_thread(committed, place) == 3
    other = await ready(place)
    rest = await read(other, 2, {0: None})
    assert [each.message.data for each in rest] == [b"3", b"4"]


async def test_a_stop_commits_at_once(place: Place) -> None:
    """What was settled a moment before `stop` is known to the servers when it returns (G10)."""
    broker = await ready(place)
    await broker.publish(numbered(2))
    found = await read(broker, 2, {0: None})
    await broker.settle("g", "orders", {0: found[1].position})
    await broker.stop()
    assert await asyncio.to_thread(committed, place) == 2


async def test_going_back_reads_again(place: Place) -> None:
    """A position before what was read already gives the messages behind it, in order (G8)."""
    broker = await ready(place)
    await broker.publish(numbered(6))
    found = await read(broker, 6, {0: None})
    await read(broker, 2, {0: found[3].position})
    again = await read(broker, 5, {0: found[0].position})
    assert [each.message.data for each in again] == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_listener_is_woken_by_other_processes_at_once(place: Place) -> None:
    """A message of another client wakes a listener long before a poll would find it (G6)."""
    broker, other = await ready(place), await ready(place)
    woken = asyncio.Event()
    end = broker.listen("g", "orders", woken.set)
    await broker.publish([message()])
    position = (await read(broker, 1, {0: None}))[0].position
    seconds: list[float] = []
    for _ in range(5):
        woken.clear()
        await other.publish([message()])
        start = time.monotonic()
        async with asyncio.timeout(5):
            await woken.wait()
        seconds.append(time.monotonic() - start)
        position = (await read(broker, 1, {0: position}))[-1].position
    end()
    assert min(seconds) < 0.1


async def test_memory_is_bounded_while_nobody_goes_on(place: Place) -> None:
    """Of a long backlog a reader that does not go on keeps no more than its share in memory (G11)."""
    broker = await ready(place, buffer_bytes=1024 * 1024)
    body = b"x" * 10_000
    for _ in range(8):
        assert not await broker.publish([message(data=body) for _ in range(100)])
    await read(broker, 20, {0: None})
    feeds = broker._readers["g"]._feeds.values()
    fetched = -1
    while fetched != sum(feed.size for feed in feeds):
        fetched = sum(feed.size for feed in feeds)
        await asyncio.sleep(0.3)
    assert fetched < 4 * 1024 * 1024
    position: str | None = None
    seen = 0
    async with asyncio.timeout(20):
        while seen < 800:
            for each in await broker.read("g", "orders", {0: position}, limit=50):
                position, seen = each.position, seen + 1
            await asyncio.sleep(0)
    assert seen == 800


async def test_a_blocked_loop_slows_fetching() -> None:
    """While a handler blocks the loop, no more than a part of `buffer_bytes` piles up before it; then reading goes on (G11)."""
    with MockKafka() as cluster:
        place = Place(cluster.servers)
        cluster.topic(f"{place.prefix}orders", partitions=1)
        # The library keeps next to nothing itself, so that what it hands out shows.
        small = {"fetch.message.max.bytes": 65_536, "queued.max.messages.kbytes": 64}
        broker = await ready(place, buffer_bytes=1024 * 1024, config=small)
        for _ in range(40):
            assert not await broker.publish([message(data=bytes(10_000)) for _ in range(10)])
        position, seen = "0", 1
        await broker.read("g", "orders", {0: position}, limit=1)
        time.sleep(1.0)  # noqa: ASYNC251 - the loop is to be blocked
        await asyncio.sleep(0)
        (feed,) = broker._readers["g"]._feeds.values()
        assert 0 < feed.size < 1024 * 1024
        async with asyncio.timeout(20):
            while seen < 400:
                for each in await broker.read("g", "orders", {0: position}, limit=50):
                    position, seen = each.position, seen + 1
                await asyncio.sleep(0)
        await place.close(remove=False)


async def test_a_reader_that_stands_still_takes_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While nobody goes on, the looks for callbacks bring one record at most; then all comes, once and in order (G8, G11)."""
    monkeypatch.setattr(fetcher, "_IDLE_SECONDS", 0.01)
    with MockKafka() as cluster:
        place = Place(cluster.servers)
        cluster.topic(f"{place.prefix}orders", partitions=1)
        broker = await ready(place, buffer_bytes=256 * 1024)
        for _ in range(40):
            assert not await broker.publish([message(data=bytes(10_000)) for _ in range(10)])
        await read(broker, 6, {0: None})
        (feed,) = broker._readers["g"]._feeds.values()
        await asyncio.sleep(0.5)
        before = feed.size
        await asyncio.sleep(0.5)
        assert feed.size == before
        position: str | None = None
        found: list[str] = []
        async with asyncio.timeout(20):
            while len(found) < 400:
                found += [
                    each.position
                    for each in await broker.read("g", "orders", {0: position}, limit=5)
                ]
                position = found[-1] if found else None
                await asyncio.sleep(0.002)
        assert found == [str(number) for number in range(400)]
        await place.close(remove=False)


async def test_a_partition_that_stands_still_does_not_stop_others(place: Place) -> None:
    """A partition whose messages nobody takes is paused, and the others flow to their end (G8, G11)."""
    broker = await ready(place, 2, buffer_bytes=512 * 1024)
    body = b"x" * 10_000
    for _ in range(6):
        assert not await broker.publish([message(str(n), body) for n in range(100)])
    total = await broker.backlog("g", "orders", {1: None})
    after: dict[int, str | None] = {0: None, 1: None}
    seen = 0
    async with asyncio.timeout(30):
        while seen < total:
            for each in await broker.read("g", "orders", after, limit=50):
                if each.partition == 1:
                    after[1], seen = each.position, seen + 1
            await asyncio.sleep(0)
    assert seen == total
    assert await read(broker, 1, {0: None})


async def test_a_cut_connection_is_made_again(place: Place, proxy: Proxy) -> None:
    """Messages published while connections are cut again and again are read once each, in order (G5, G6)."""
    broker = await ready(place)
    sent = numbered(40)

    async def publish() -> None:
        for start in range(0, 40, 4):
            while True:
                try:
                    if not await broker.publish(sent[start : start + 4]):
                        break
                except BrokerUnavailable:
                    await asyncio.sleep(0.01)

    async def cut() -> None:
        while True:
            await asyncio.sleep(0.05)
            proxy.cut()

    cutting = asyncio.create_task(cut())
    try:
        async with asyncio.timeout(30):
            await publish()
    finally:
        cutting.cancel()
    found = [each.message.data for each in await read(broker, 40, {0: None})]
    first = list(dict.fromkeys(found))
    assert first == [each.data for each in sent]


async def test_a_server_that_hangs_is_noticed(place: Place, proxy: Proxy) -> None:
    """While the server answers nothing, `backlog` and `partitions` raise within their time-out, and work again after (G5)."""
    broker = await ready(place, timeout_seconds=1.0)
    proxy.hold()
    async with asyncio.timeout(10):
        with pytest.raises(BrokerUnavailable):
            await broker.backlog("g", "orders", {0: "0"})
    proxy.let()
    await broker.publish(numbered(2))
    assert await broker.backlog("g", "orders", {0: "0"}) == 1


async def test_a_position_that_is_gone_goes_to_the_earliest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A position that the servers do not have, as after retention, is told, and reading goes on at the earliest (G13)."""
    with MockKafka() as cluster:
        place = Place(cluster.servers)
        cluster.topic(f"{place.prefix}orders", partitions=1)
        broker = await ready(place)
        await broker.publish(numbered(3))
        with caplog.at_level(logging.WARNING, "headrace.kafka"):
            found = await read(broker, 3, {0: "1000"})
        assert [each.message.data for each in found] == [b"0", b"1", b"2"]
        assert "cannot go on at offset 1001" in caplog.text
        (gone,) = [one for one in caplog.records if "cannot go on" in one.getMessage()]
        assert vars(gone)["headrace"] == {
            "event": LogEvent.KAFKA_POSITION_GONE,
            "group": "g",
            "topic": f"{place.prefix}orders",
            "partition": 0,
            "position": 1001,
        }
        rest = await read(broker, 2, {0: found[0].position})
        assert [each.message.data for each in rest] == [b"1", b"2"]
        await place.close(remove=False)


async def test_servers_that_are_away_are_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    """`read` gives what it has, and raises `BrokerUnavailable` when there is nothing and no server answers (G13)."""
    with MockKafka() as cluster:
        place = Place(cluster.servers)
        cluster.topic(f"{place.prefix}orders", partitions=1)
        broker = await ready(place, timeout_seconds=1.0)
        await broker.publish(numbered(1))
        position = (await read(broker, 1, {0: None}))[0].position
        cluster.down()
        async with asyncio.timeout(20):

            async def read_on() -> None:
                while True:
                    await broker.read("g", "orders", {0: position}, limit=1)
                    await asyncio.sleep(0.02)

            with pytest.raises(BrokerUnavailable, match="no Kafka server answered"):
                await read_on()
        cluster.up()
        while True:
            try:
                if not await broker.publish(numbered(1)):
                    break
            except BrokerUnavailable:
                await asyncio.sleep(0.02)
        assert len(await read(broker, 1, {0: position})) == 1
        await place.close(remove=False)
    # The client library calls it an error; it goes on by itself, so for people it is a warning.
    told = [record for record in caplog.records if record.name == "headrace.kafka"]
    assert {record.levelname for record in told} == {"WARNING"}
    assert {vars(record)["headrace"]["event"] for record in told} == {LogEvent.KAFKA_CLIENT}


async def test_a_topic_that_may_not_be_read_says_so() -> None:
    """Where the servers refuse a topic, the error names it and what they say."""
    with MockKafka() as cluster:
        place = Place(cluster.servers)
        cluster.topic(f"{place.prefix}orders", partitions=1)
        broker = await ready(place)
        cluster.topic_error(f"{place.prefix}orders", TOPIC_AUTHORIZATION_FAILED)
        other = place.broker()
        await other.start(None)
        with pytest.raises(BrokerUnavailable, match=r"orders.*authorization failed"):
            await other.partitions("orders")
        assert await broker.partitions("orders") == 1
        await place.close(remove=False)


async def test_a_consumer_that_ended_is_made_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the thread that fetches meets an error that nobody foresaw, it is logged, and the next read begins again (G13)."""
    broker = await ready(place)
    await broker.publish(numbered(3))
    found = await read(broker, 3, {0: None})
    with monkeypatch.context() as patch:

        def surprise(*_: object) -> None:
            raise RuntimeError("out of the blue")

        patch.setattr(Fetcher, "_poll", surprise)
        async with asyncio.timeout(10):
            while not broker._readers["g"].ended:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    await broker.publish(numbered(1))
    rest = await read(broker, 1, {0: found[-1].position})
    assert rest[0].position == "3"
    assert "is made anew" in caplog.text


async def test_a_refused_consumer_setting_is_told_each_time(place: Place) -> None:
    """A setting that only consumers have and the client refuses: every read says so, none looks like an empty topic (G13)."""
    broker = await ready(place, config={"check.crcs": "perhaps"})
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="refuses its settings"):
            await broker.read("g", "orders", {0: None}, limit=1)


async def test_a_released_partition_that_was_paused_is_read_again(place: Place) -> None:
    """A partition that was given up while its buffer was overfull is fetched when it comes back (G8, G11)."""
    broker = await ready(place, partitions=2, buffer_bytes=600_000)
    await broker.publish(
        [message(key, bytes(50_000)) for key in "abcdefghijklmnop" for _ in range(8)]
    )
    after: dict[int, str | None] = {0: None, 1: None}
    await read(broker, 2, after)
    feeds = broker._readers["g"]._feeds
    full = next(iter(feeds))
    async with asyncio.timeout(20):
        while not feeds[full].paused:
            # The other one is hungry all the time.
            found = await broker.read("g", "orders", after, limit=100_000)
            after |= {e.partition: e.position for e in found if e.partition != full[1]}
            await asyncio.sleep(0.01)
    await broker.release("g", "orders", [full[1]])
    first = await read(broker, 1, {full[1]: None})
    assert first[0].position == "0"
