"""Streams as topics: made, found, checked."""

from __future__ import annotations

import pytest
from nats.js.api import RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError

from headrace.broker import Reading, Topic
from headrace.drivers.nats import Streams
from headrace.errors import BrokerUnavailable, ConfigurationError, TopicMismatch, TopicNotFound
from headrace.testing.conformance.samples import bodies, message, numbered
from tests.unit.drivers_nats.place import Place, read, ready


async def test_a_topic_is_a_stream_of_subjects(place: Place) -> None:
    """The stream has a subject for each partition, the settings asked for, and keeps messages in files."""
    streams = Streams(retention_seconds=3600, max_bytes=10_000_000, duplicate_window_seconds=30)
    broker = place.broker(streams=streams)
    await broker.start(None)
    await broker.declare([Topic("a.b", 2)])
    async with place.client() as client:
        config = (await client.jsm().stream_info(f"{place.prefix}a=2Eb")).config
    assert config.subjects == [f"{place.prefix}a=2Eb.0", f"{place.prefix}a=2Eb.1"]
    assert (config.storage, config.retention) == ("file", "limits")
    assert (config.max_age, config.max_bytes, config.duplicate_window) == (3600, 10_000_000, 30)


async def test_what_is_missing_is_said_in_commands(place: Place) -> None:
    """With declare="check" nothing is made, and the error has the command for each stream and for the bucket."""
    broker = place.broker(declare="check")
    await broker.start(None)
    with pytest.raises(TopicNotFound) as caught:
        await broker.declare([Topic("a", 2), Topic("b")], [Reading("g", "a")])
    text = str(caught.value)
    assert (
        f'nats stream add {place.prefix}a --subjects="{place.prefix}a.0,{place.prefix}a.1"' in text
    )
    assert f"{place.prefix}b.7" in text
    assert f"nats kv add {place.prefix}headrace_positions" in text
    with pytest.raises(TopicNotFound):
        await broker.partitions("a")
    await ready(place.broker(), "a", 2)
    await broker.declare([Topic("a", 2)], [Reading("g", "a")])


async def test_another_app_finds_the_count(place: Place) -> None:
    """The number of partitions is the server's: another app learns it, and cannot ask for another one."""
    await ready(place.broker(), "orders", 5)
    other = place.broker()
    await other.start(None)
    assert await other.partitions("orders") == 5
    with pytest.raises(TopicMismatch, match="has 5 partitions"):
        await other.declare([Topic("orders", 4)])
    with pytest.raises(ConfigurationError, match="1 partition"):
        await other.declare([Topic("none", 0)])


@pytest.mark.parametrize(
    ("subjects", "retention", "says"),
    [
        (["orders.*"], "limits", "no partitions"),
        (["orders.0", "orders.2"], "limits", "no partitions"),
        (["orders.0"], "workqueue", "retention 'limits'"),
    ],
)
async def test_a_stream_of_somebody_else_is_refused(
    place: Place, subjects: list[str], retention: str, says: str
) -> None:
    """A stream of the topic's name that is no log of partitions is not taken for one."""
    config = StreamConfig(
        name=f"{place.prefix}orders",
        subjects=[f"{place.prefix}{subject}" for subject in subjects],
        retention=RetentionPolicy(retention),
    )
    async with place.client() as client:
        await client.jetstream().add_stream(config)
    broker = place.broker()
    await broker.start(None)
    with pytest.raises(TopicMismatch, match=says):
        await broker.declare([Topic("orders")])


async def test_subjects_that_another_stream_has_are_refused(place: Place) -> None:
    """When another stream already has a topic's subjects, the error says so."""
    async with place.client() as client:
        name = f"{place.prefix}all"
        await client.jetstream().add_stream(name=name, subjects=[f"{place.prefix}orders.>"])
    broker = place.broker()
    await broker.start(None)
    with pytest.raises(TopicMismatch, match="another stream"):
        await broker.declare([Topic("orders")])


async def test_replicas_need_a_cluster(place: Place) -> None:
    """Three copies on a server that is alone are an error, not one copy."""
    broker = place.broker(streams=Streams(replicas=3))
    assert await broker.start(None) == ()
    with pytest.raises(ConfigurationError, match="replicas=3"):
        await broker.declare([Topic("orders")])


async def test_a_stream_made_anew_begins_anew(place: Place) -> None:
    """When somebody deletes a stream and makes it again, positions of the old one skip nothing of the new one."""
    broker = await ready(place.broker())
    await broker.publish(numbered(5))
    old = await read(broker, 5)
    after = dict.fromkeys(range(3)) | {old[-1].partition: old[-1].position}
    await broker.settle("g", "orders", {old[-1].partition: old[-1].position})
    async with place.client() as client:
        await client.jsm().delete_stream(f"{place.prefix}orders")
    with pytest.raises(TopicNotFound):
        await broker.publish([message()])
    await broker.declare([Topic("orders", 3)])
    await broker.publish(numbered(7))
    assert bodies(e.message for e in await read(broker, 7, after)) == [b"%d" % n for n in range(7)]


async def test_check_makes_no_bucket_later_either(place: Place) -> None:
    """With declare="check" a bucket that somebody deleted is missed, not made, when positions are written (G13)."""
    maker = await ready(place.broker())
    await maker.publish(numbered(1))
    checking = place.broker(declare="check")
    await checking.start(None)
    found = await read(checking, 1)
    bucket = f"KV_{place.prefix}headrace_positions"
    async with place.client() as client:
        await client.jsm().delete_stream(bucket)
        await checking.settle("g", "orders", {found[0].partition: found[0].position})
        with pytest.raises(BrokerUnavailable, match="headrace_positions"):
            await checking.release("g", "orders", range(3))
        with pytest.raises(NotFoundError):
            await client.jsm().stream_info(bucket)
