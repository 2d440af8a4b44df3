"""Metrics: what collectors get, by the names of the table, with the attributes of the table."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.metrics import _internal

from headrace import Events, Headrace, Retry, Subscription
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.telemetry import Count
from headrace.telemetry.names import COUNTERS, LABELS, METRICS, SPANS, Attribute
from tests.unit.heart import Announced, Find, Join, Joined, make_app, raising
from tests.unit.spans import Collected


def shop(told: Collected, *, retry: Retry | None = None, **settings: Any) -> Headrace:
    async def announce(event: Joined, events: Events) -> None:
        events.append(Announced())

    async def seat(event: Announced) -> None:
        if retry is not None:
            raise LookupError("no chair")

    subscription = Subscription(group="seating", topics=["meetings"], retry=retry or Retry())
    app = make_app(
        (Join, raising(Joined())),
        (Joined, announce),
        (Announced, seat),
        storage=MemoryStorage(),
        broker=MemoryBroker(),
        subscriptions=[subscription],
        **settings,
    )
    return told.watch(app)


def labelled(found: dict[Any, Any]) -> list[tuple[dict[str, Any], Any]]:
    return [
        ({name: value for name, value in key if name != "headrace.app"}, number)
        for key, number in found.items()
    ]


async def test_counts_are_collected_with_their_labels_as_attributes() -> None:
    """Section 2: published, consumed, retried, dead, duplicates."""
    told = Collected()
    async with shop(told) as app:
        await app.send(Join())
        await app.settle()
        announced = {
            "messaging.destination.name": "meetings",
            "headrace.message.type": "meetings.announced.v1",
        }
        assert labelled(told.numbers("headrace.relay.published")) == [(announced, 1)]
        assert labelled(told.numbers("headrace.consumer.handled")) == [
            (
                {
                    "messaging.destination.name": "meetings",
                    "messaging.consumer.group.name": "seating",
                    "headrace.message.type": "meetings.announced.v1",
                },
                1,
            )
        ]
        assert told.numbers("headrace.consumer.dead") == {}
        assert labelled(told.numbers("headrace.drain.cut")) == [({}, 0)]


async def test_what_has_no_labels_is_the_rest() -> None:
    """A part of a count with labels and one without add up to its total."""
    told = Collected()
    app = told.watch(make_app((Join, raising())))
    async with app:
        app.telemetry.count(Count.RELAY_PAUSED, topic="meetings")
        app.telemetry.count(Count.RELAY_PAUSED, 2)
        found = labelled(told.numbers("headrace.relay.paused"))
    assert found == [({"messaging.destination.name": "meetings"}, 1), ({}, 2)]


async def test_durations_are_histograms_in_seconds() -> None:
    """Section 2: of sends, handlers, the broker and the processing of messages."""
    told = Collected()
    async with shop(told) as app:
        await app.send(Join())
        await app.settle()
    assert labelled(told.numbers("headrace.send.duration")) == [
        ({"headrace.request": "tests.unit.heart.Join"}, 1)
    ]
    assert len(told.numbers("headrace.handle.duration")) == 3
    operations = labelled(told.numbers("messaging.client.operation.duration"))
    assert {of["messaging.operation.name"] for of, _ in operations} == {
        *("publish", "receive", "settle")
    }
    assert labelled(told.numbers("messaging.process.duration")) == [
        (
            {
                "messaging.system": "memory",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": "meetings",
                "messaging.consumer.group.name": "seating",
                "headrace.message.type": "meetings.announced.v1",
                "headrace.message.outcome": "handled",
            },
            1,
        )
    ]


async def test_failures_have_the_type_of_their_error() -> None:
    """Section 2: durations and counts of what failed tell by what."""
    told = Collected()

    async def find(request: Find) -> str:
        raise LookupError("nobody")

    app = told.watch(make_app((Find, find)))
    async with app:
        with pytest.raises(LookupError):
            await app.send(Find())
    ((send, _),) = labelled(told.numbers("headrace.send.duration"))
    ((handle, _),) = labelled(told.numbers("headrace.handle.duration"))
    assert send["error.type"] == handle["error.type"] == "LookupError"


async def test_gauges_tell_backlogs_lag_and_ownership() -> None:
    """Section 2: read by a task of the app; callbacks do no I/O, and a stopped app has no gauges."""
    told = Collected()
    app = shop(told, retry=Retry(attempts=1))
    async with app:
        await app.send(Join())
        await app.settle()
        metering = app.telemetry.metering
        assert metering is not None
        from headrace.assembly.gauges import Gauges

        storage = app.storage
        assert storage is not None
        metering.gauges = Gauges(app.parts, storage, metering).read(await app.status())
        messages = {
            (of["headrace.queue"], of["headrace.queue.state"]): number
            for of, number in labelled(told.numbers("headrace.queue.messages"))
        }
        assert messages["group:seating/meetings", "dead"] == 1
        assert messages["outbox:meetings", "ready"] == 0
        assert labelled(told.numbers("headrace.consumer.lag")) == [
            (
                {
                    "messaging.consumer.group.name": "seating",
                    "messaging.destination.name": "meetings",
                },
                0,
            )
        ]
        owned = {
            of["headrace.queue"]: number
            for of, number in labelled(told.numbers("headrace.lease.owned"))
        }
        assert owned == {"outbox:meetings": 8, "group:seating/meetings": 8}
        unowned = labelled(told.numbers("headrace.lease.unowned"))
        assert {number for _, number in unowned} == {0}
        assert told.numbers("headrace.queue.oldest_age")
    assert told.numbers("headrace.queue.messages") == {}
    assert told.numbers("headrace.relay.published") != {}


async def test_gauges_are_read_by_the_app_itself() -> None:
    """Section 2: a small background task, only where a meter provider is set."""
    told = Collected()
    async with shop(told):
        while not told.numbers("headrace.queue.messages"):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
    async with shop(Collected()) as app:
        app.telemetry.use()
    async with make_app((Join, raising()), storage=MemoryStorage()) as plain:
        assert plain.telemetry.metering is None


async def test_two_apps_of_a_process_share_the_instruments() -> None:
    """A provider keeps one instrument of a name: every app is in it, also one that starts again."""
    told = Collected()
    one, two = shop(told), told.watch(make_app((Join, raising()), name="rooms"))
    for _ in range(2):
        async with one, two:
            await one.send(Join())
            await two.send(Join())
            await one.settle()
    found = told.numbers("headrace.send.duration")
    assert {dict(key)["headrace.app"]: number for key, number in found.items()} == {
        "meetings": 2,
        "rooms": 2,
    }
    published = told.numbers("headrace.relay.published")
    assert sum(published.values()) == 2


async def test_a_meter_provider_of_the_process_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 2: the global provider, as every OpenTelemetry guide sets it up."""
    told = Collected()
    monkeypatch.setattr(_internal, "_METER_PROVIDER", told.meters)
    assert metrics.get_meter_provider() is told.meters
    async with make_app((Join, raising())) as app:
        await app.send(Join())
    assert sum(told.numbers("headrace.send.duration").values()) == 1


def test_the_table_is_whole() -> None:
    """Section 2: every count and every label has its name; every name of OpenTelemetry is used by a span or a metric."""
    assert set(COUNTERS) == set(Count)
    used = {attribute for one in (*SPANS, *METRICS) for attribute in one.attributes}
    assert used | {Attribute.APP} == set(Attribute)
    assert set(LABELS.values()) <= used
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))


async def test_spans_and_metrics_have_no_attributes_but_those_of_the_table() -> None:
    """Section 2: the table is what goes out."""
    told = Collected()
    app = shop(told, retry=Retry(attempts=2, initial_seconds=0.001))
    app.telemetry.use(tracer_provider=told.tracers, meter_provider=told.meters, keys=True)
    app.telemetry.observe_sends = True
    async with app:
        await app.send(Join())
        await app.settle()
        kinds = {(span.operation, span.kind): set(span.attributes) for span in SPANS}
        for span in told.spans:
            allowed = kinds[span.name.partition(" ")[0], span.kind.name]
            assert set(span.attributes or {}) <= allowed, span.name
        for metric in METRICS:
            for key in told.numbers(metric.name):
                assert {name for name, _ in key} <= {*metric.attributes, "headrace.app"}, (
                    metric.name
                )
