"""Telemetry: what is counted, by which labels, and how counts are written."""

import asyncio
import logging
from typing import Any

import pytest

from headrace import DomainEvent, EventHandler, Events, Limits, Retry, Subscription
from headrace.consumer.dedup_window import DedupWindow
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.envelope import Envelope, Message
from headrace.telemetry import Count, Telemetry, read, total, written
from tests.unit.heart import Announced, Join, Joined, make_app, raising

HERE = __name__


def by(telemetry: Telemetry, what: Count) -> dict[tuple[tuple[str, str], ...], int]:
    return {labels: n for (count, labels), n in telemetry.labelled.items() if count is what}


def test_a_snapshot_has_totals_and_their_parts() -> None:
    """Section 2: what a process tells of itself is plain data, ready for JSON."""
    telemetry = Telemetry("meetings")
    telemetry.count(Count.PUBLISHED, 12, topic="meetings")
    telemetry.count(Count.PUBLISHED, 3, topic="rooms")
    telemetry.count(Count.DRAIN_CUT)
    assert telemetry.snapshot() == {
        "headrace.drain.cut": 1,
        "headrace.relay.published": 15,
        "headrace.relay.published{topic=meetings}": 12,
        "headrace.relay.published{topic=rooms}": 3,
    }


def test_counts_are_totalled_over_the_labels_that_are_not_named() -> None:
    """A question names the labels that it asks for."""
    telemetry = Telemetry("meetings")
    for group, topic in (("a", "x"), ("a", "y"), ("b", "x")):
        telemetry.count(Count.CONSUMED, group=group, topic=topic)
    counts = telemetry.snapshot()
    assert total(counts, Count.CONSUMED) == 3
    assert total(counts, Count.CONSUMED, group="a") == 2
    assert total(counts, Count.CONSUMED, group="b", topic="y") == 0


@pytest.mark.parametrize(
    "labels", [(), (("topic", "a,b"), ("type", "x}y{z")), (("group", "a\\"), ("topic", "b=c,"))]
)
def test_what_is_written_is_read_back(labels: tuple[tuple[str, str], ...]) -> None:
    """Topics and groups may have any name."""
    assert read(written("headrace.relay.published", labels)) == ("headrace.relay.published", labels)


async def test_sends_are_not_counted_unless_asked() -> None:
    """Section 5: what is not used costs nothing; the generated source has no trace of it."""
    app = make_app((Join, raising(Joined())), (Joined, raising()))
    async with app:
        await app.send(Join())
        bodies = app._parts.mediator._bodies
        source: str = bodies[Join].__source__  # type: ignore[attr-defined]
    assert "around" not in source
    assert "raised" not in source
    assert "failed" not in source
    assert app.telemetry.snapshot() == {}


async def test_observed_sends_are_counted_by_request_handler_and_event() -> None:
    """Section 2: `observe_sends` gives the rates of every arrow of the flow."""

    async def join(request: Join, events: Events) -> str:
        events.extend([Joined(), Joined()])
        return "yes"

    class Greet(EventHandler[Joined]):
        async def handle(self, event: Joined) -> None: ...

    app = make_app((Join, join), (Joined, Greet))
    app.telemetry.observe_sends = True
    async with app:
        assert await app.send(Join()) == "yes"
    here = "test_observed_sends_are_counted_by_request_handler_and_event.<locals>"
    handler, greet = f"{HERE}.{here}.join", f"{HERE}.{here}.Greet"
    request, event = "tests.unit.heart.Join", "tests.unit.heart.Joined"
    assert by(app.telemetry, Count.SENT) == {(("request", request),): 1}
    assert by(app.telemetry, Count.HANDLED) == {
        (("handler", handler), ("message", request)): 1,
        (("handler", greet), ("message", event)): 2,
    }
    assert by(app.telemetry, Count.RAISED) == {(("event", event), ("handler", handler)): 2}


async def test_a_handler_that_is_only_counted_has_nothing_around_it() -> None:
    """Section 5: without an SDK its runner grows one number, and no coroutine is in between."""
    app = make_app((Join, raising(Joined())), (Joined, raising()))
    app.telemetry.observe_sends = True
    async with app:
        source: str = app._parts.mediator._bodies[Join].__source__  # type: ignore[attr-defined]
    assert "around" not in source
    assert source.count("[0] += 1") == 1
    assert app.telemetry.snapshot() == {}  # what never ran is not told of


async def test_counts_go_on_when_an_app_is_started_again() -> None:
    """They are those of the app, not of what was compiled at one start of it."""
    app = make_app((Join, raising(Joined())), (Joined, raising()))
    app.telemetry.observe_sends = True
    for _ in range(2):
        async with app:
            await app.send(Join())
    assert app.telemetry.counts == {Count.SENT: 2, Count.HANDLED: 4, Count.RAISED: 2}
    assert list(by(app.telemetry, Count.SENT).values()) == [2]


def test_a_cell_and_what_is_added_are_one_count() -> None:
    """With the same labels or with others; whoever reads sees their sum."""
    telemetry = Telemetry("meetings")
    cell = telemetry.cell(Count.SENT, (("request", "a"),))
    assert cell is telemetry.cell(Count.SENT, (("request", "a"),))
    cell[0] += 2
    telemetry.count(Count.SENT, request="a")
    telemetry.count(Count.SENT)
    assert telemetry.snapshot() == {
        "headrace.request.sent": 4,
        "headrace.request.sent{request=a}": 3,
    }


async def test_observed_failures_are_counted_by_handler_and_error() -> None:
    """Section 2: who failed, on what, with which error."""

    async def greet(event: Joined) -> None:
        raise LookupError("nobody")

    app = make_app((Join, raising(Joined())), (Joined, greet))
    app.telemetry.observe_sends = True
    async with app:
        with pytest.raises(LookupError):
            await app.send(Join())
    (((_, handler), *_),) = [
        sorted(labels, key=lambda one: one[0] != "handler")
        for labels in by(app.telemetry, Count.HANDLER_FAILED)
    ]
    assert handler.endswith("greet")
    assert by(app.telemetry, Count.SEND_FAILED) == {
        (("error", "LookupError"), ("request", "tests.unit.heart.Join")): 1
    }


async def test_a_variant_of_an_app_observes_as_the_app_does() -> None:
    """A worker and a harness run a variant of the app: what it was told to count, they count."""
    app = make_app((Join, raising()))
    app.telemetry.observe_sends = True
    app.telemetry.count(Count.DRAIN_CUT)
    twin = app.variant(lambda settings: settings)
    assert twin.telemetry.observe_sends
    assert twin.telemetry.snapshot() == {}


async def test_the_flow_is_counted_by_topic_group_and_type() -> None:
    """Section 2: rates of topics and consumers are known without asking for more."""
    failures = 1

    async def seat(event: Announced) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise LookupError("no chair")

    app = make_app(
        (Join, raising(Announced())),
        (Announced, seat),
        storage=MemoryStorage(),
        broker=MemoryBroker(),
    )
    async with app:
        await app.send(Join())
        await app.settle()
    counts = app.telemetry
    labels = (("group", "meetings"), ("topic", "meetings"), ("type", "meetings.announced.v1"))
    assert by(counts, Count.PUBLISHED) == {labels[1:]: 1}
    assert by(counts, Count.CONSUMED) == {labels: 1}
    assert by(counts, Count.RETRIED) == {(("error", "LookupError"), *labels): 1}
    ((failed, amount),) = by(counts, Count.HANDLER_FAILED).items()
    assert dict(failed)["handler"].endswith("seat")
    assert amount == 1
    assert counts.counts[Count.HANDLED] == 0


async def test_a_handler_that_takes_too_long_has_failed() -> None:
    """Section 2: a time-out cancels the handler, and is a failure of it like any other."""

    async def seat(event: Announced) -> None:
        await asyncio.Event().wait()

    app = make_app(
        (Join, raising(Announced())),
        (Announced, seat),
        storage=MemoryStorage(),
        broker=MemoryBroker(),
        subscriptions=[
            Subscription(topics=["meetings"], timeout_seconds=0.01, retry=Retry(attempts=1))
        ],
    )
    async with app:
        await app.send(Join())
        await app.settle()
    ((failed, amount),) = by(app.telemetry, Count.HANDLER_FAILED).items()
    assert dict(failed)["error"] == "headrace.errors.HandlerTimeout"
    assert dict(failed)["handler"].endswith("seat")
    assert amount == 1


async def test_a_handler_that_ends_as_cancelled_by_itself_has_failed() -> None:
    """Section 2: it counts an attempt, and so it counts as a failure."""

    async def seat(event: Announced) -> None:
        raise asyncio.CancelledError

    app = make_app(
        (Join, raising(Announced())),
        (Announced, seat),
        storage=MemoryStorage(),
        broker=MemoryBroker(),
        subscriptions=[Subscription(topics=["meetings"], retry=Retry(attempts=1))],
    )
    async with app:
        await app.send(Join())
        await app.settle()
    ((failed, amount),) = by(app.telemetry, Count.HANDLER_FAILED).items()
    assert (dict(failed)["error"], amount) == ("headrace.errors.HandlerCancelled", 1)


async def test_a_handler_that_is_stopped_has_not_failed() -> None:
    """Section 2: whoever cancels a send knows that; nothing is wrong with the handler."""
    begun = asyncio.Event()

    async def join(request: Join) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    app = make_app((Join, join))
    app.telemetry.observe_sends = True
    async with app:
        sending = asyncio.ensure_future(app.send(Join()))
        await begun.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert by(app.telemetry, Count.HANDLER_FAILED) == {}


async def test_after_commit_deliveries_are_counted_by_handler() -> None:
    """Section 2: a delivery's topic is no topic of a broker, so its handler stands for it."""

    class Left(DomainEvent):
        user: str = "u1"

    async def tidy(event: Left) -> None: ...

    app = make_app((Join, raising(Joined())), storage=MemoryStorage())
    app._settings.events.bind(Joined, tidy, phase="after_commit")  # type: ignore[arg-type]
    app = app.variant(lambda settings: settings)
    async with app:
        await app.send(Join())
        await app.settle()
    ((labels, amount),) = by(app.telemetry, Count.CONSUMED).items()
    assert dict(labels)["handler"].endswith("tidy")
    assert dict(labels)["group"] == "meetings"
    assert amount == 1


def message(at: str) -> Message:
    envelope = Envelope("1", "meetings", "meetings.announced.v1", at)
    return Message("meetings", None, envelope, b"{}")


def test_a_message_older_than_the_inbox_is_counted_and_said_once(caplog: Any) -> None:
    """G7, G13: what the inbox may have forgotten cannot be recognised as a repeat; that is visible."""
    telemetry = Telemetry("meetings")
    window = DedupWindow("seating", telemetry, 14 * 24 * 3600.0)
    labels = (("group", "seating"), ("topic", "meetings"))
    with caplog.at_level(logging.WARNING, "headrace"):
        window.look(
            [message("2001-01-31T12:00:00Z"), message("2001-01-31T12:00:00.5+02:00")], labels
        )
        window.look([message("2001-02-01T12:00:00Z")], labels)
    assert telemetry.labelled[Count.DEDUP_WINDOW_MISSED, labels] == 3
    assert len(caplog.records) == 1
    assert "inbox_retention_seconds" in caplog.text


def test_a_message_within_the_inbox_is_not_counted() -> None:
    """Messages of now, of no time and of a time that nobody can read are no concern."""
    telemetry = Telemetry("meetings")
    window = DedupWindow("seating", telemetry, Limits().inbox_retention_seconds)
    window.look([message(at) for at in ("", "2999-12-31T23:59:60Z", "2001-12-31T23:59:60Z")], ())
    DedupWindow("seating", telemetry, None).look([message("2001-02-01T12:00:00Z")], ())
    assert telemetry.snapshot() == {}
