"""Spans: what is drawn of a flow, how its parts hang together, and that nothing is paid without an SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from headrace import (
    Events,
    Headrace,
    NotificationEvent,
    RequestMediator,
    Retry,
    Subscription,
    Topic,
)
from headrace.causes import callers_trace
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.envelope import Envelope, Message, new_id, now
from headrace.errors import BrokerUnavailable
from tests.unit.heart import Announced, Join, Joined, Leave, make_app, raising
from tests.unit.spans import Collected

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Seated(NotificationEvent, type="meetings.seated.v1", topic="seats"):
    user: str = "u1"


def flow(*more: Any, storage: Any = None, broker: Any = None, **settings: Any) -> Headrace:
    """A command whose event is announced, and who hears of it."""

    async def announce(event: Joined, events: Events) -> None:
        events.append(Announced())

    return make_app(
        (Join, raising(Joined())),
        (Joined, announce),
        *more,
        storage=storage,
        broker=broker or MemoryBroker(),
        **settings,
    )


async def test_without_an_sdk_nothing_is_compiled_in() -> None:
    """Section 2: the source of the runners is that of an app that knows nothing of spans."""
    plain, watched = make_app((Join, raising(Joined()))), make_app((Join, raising(Joined())))
    Collected().watch(watched)
    async with plain, watched:
        sources = [app.parts.mediator._bodies[Join].__source__ for app in (plain, watched)]  # type: ignore[attr-defined]
        assert plain.telemetry.tracing is None
        assert plain.parts.mediator.middlewares == ()
    assert "around" not in sources[0]
    assert "around" in sources[1]


@pytest.mark.parametrize("storage", [None, MemoryStorage], ids=["without storage", "with storage"])
async def test_one_trace_shows_command_to_consumer(storage: Any) -> None:
    """Section 2: send, handle, publish, process and the handlers there are one tree."""
    told = Collected()

    async def seat(event: Announced) -> None: ...

    app = told.watch(flow((Announced, seat), storage=storage() if storage else None))
    async with app:
        await app.send(Join())
        await app.settle()
    assert told.path(told.one("handle seat")) == [
        *("send Join", "publish meetings", "process meetings", "handle seat")
    ]
    assert told.path(told.one("handle announce")) == ["send Join", "handle announce"]
    assert (
        len({span.context.trace_id for span in told.spans if span.name != "settle meetings"}) == 2
    )
    (receive,) = told.named("receive meetings")
    assert receive.links[0].context.span_id == told.one("publish meetings").context.span_id
    assert told.one("process meetings").links[0].context == receive.context


async def test_spans_follow_the_semantic_conventions() -> None:
    """Section 2: kinds and attributes of messaging spans."""
    told = Collected()

    async def seat(event: Announced) -> None: ...

    app = told.watch(flow((Announced, seat), storage=MemoryStorage()))
    async with app:
        await app.send(Join(), correlation_id="order-1")
        await app.settle()
    publish, process = told.one("publish meetings"), told.one("process meetings")
    common = {
        "headrace.app": "meetings",
        "messaging.system": "memory",
        "messaging.destination.name": "meetings",
        "messaging.message.id": publish.attributes["messaging.message.id"],  # type: ignore[index]
        "messaging.message.conversation_id": "order-1",
        "headrace.message.type": "meetings.announced.v1",
    }
    assert publish.attributes == {
        **common,
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
    }
    partition = process.attributes["messaging.destination.partition.id"]  # type: ignore[index]
    assert partition in set("01234567")
    assert process.attributes == {
        **common,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": "meetings",
        "messaging.destination.partition.id": partition,
        "headrace.message.attempt": 1,
        "headrace.message.outcome": "handled",
    }
    kinds = {span.name: span.kind for span in told.spans}
    assert kinds == {
        "send Join": SpanKind.INTERNAL,
        "handle handler": SpanKind.INTERNAL,
        "handle announce": SpanKind.INTERNAL,
        "handle seat": SpanKind.INTERNAL,
        "publish meetings": SpanKind.PRODUCER,
        "receive meetings": SpanKind.CLIENT,
        "process meetings": SpanKind.CONSUMER,
        "settle meetings": SpanKind.CLIENT,
    }


async def test_keys_are_left_out_unless_asked_for() -> None:
    """A key may be a name or an address; whoever wants keys in spans says so."""
    for keys in (False, True):
        told = Collected()
        app = told.watch(flow(storage=MemoryStorage()), keys=keys)
        async with app:
            await app.send(Join())
            await app.settle()
        publish = told.one("publish meetings")
        assert (publish.attributes or {}).get("headrace.message.key") == ("u1" if keys else None)


async def test_a_batch_has_a_span_of_its_own_linked_to_each_message() -> None:
    """Section 2: one call of the broker with several messages."""
    told = Collected()
    app = told.watch(
        make_app(
            (Join, raising(Announced("a"), Announced("b"))),
            storage=MemoryStorage(),
            broker=MemoryBroker(),
        )
    )
    async with app:
        await app.send(Join())
        await app.settle()
    call = next(s for s in told.named("publish meetings") if s.kind is SpanKind.CLIENT)
    messages = [s for s in told.named("publish meetings") if s.kind is SpanKind.PRODUCER]
    assert [link.context for link in call.links] == [span.context for span in messages]
    assert (call.attributes or {})["messaging.batch.message_count"] == 2
    assert call.parent is None
    assert [told.path(span) for span in messages] == [["send Join", "publish meetings"]] * 2


async def test_the_users_own_spans_nest_and_nested_sends_too() -> None:
    """Section 2: the context is OpenTelemetry's current one, also in consumed handlers."""
    told = Collected()
    tracer = told.tracers.get_tracer("user")

    async def seat(event: Announced, mediator: RequestMediator) -> None:
        with tracer.start_as_current_span("look for a chair"):
            await mediator.send(Leave())

    async def leave(request: Leave) -> str:
        with tracer.start_as_current_span("SELECT"):
            return "left"

    app = told.watch(flow((Announced, seat), (Leave, leave), storage=MemoryStorage()))
    async with app:
        with tracer.start_as_current_span("GET /join"):
            await app.send(Join())
        await app.settle()
    assert told.path(told.one("SELECT")) == [
        *("GET /join", "send Join", "publish meetings", "process meetings", "handle seat"),
        *("look for a chair", "send Leave", "handle leave", "SELECT"),
    ]


async def test_errors_are_in_the_spans_that_they_ended() -> None:
    """Section 2: error.type, the exception and the status."""
    told = Collected()

    async def join(request: Join) -> str:
        raise LookupError("nobody")

    app = told.watch(make_app((Join, join)))
    async with app:
        with pytest.raises(LookupError):
            await app.send(Join())
    for name in ("send Join", "handle join"):
        span = told.one(name)
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "LookupError"
        assert [event.name for event in span.events] == ["exception"]


async def test_each_attempt_is_a_span_with_its_outcome() -> None:
    """Section 2: retried, dead, and in the end handled, all in the trace of the message."""
    told = Collected()
    broken = True

    async def seat(event: Announced) -> None:
        if broken:
            raise LookupError("no chair")

    retry = Retry(attempts=2, initial_seconds=0.001)
    app = told.watch(
        flow(
            (Announced, seat),
            storage=MemoryStorage(),
            subscriptions=[Subscription(group="meetings", topics=["meetings"], retry=retry)],
        )
    )
    async with app:
        await app.send(Join())
        await app.settle()
        (letter,) = await app.dead_letters.list()
        broken = False
        await app.dead_letters.redrive(letter.position)
        await app.settle()
    tries = told.named("process meetings")
    assert [
        (
            (one.attributes or {})["headrace.message.outcome"],
            (one.attributes or {})["headrace.message.attempt"],
            (one.attributes or {}).get("error.type"),
        )
        for one in tries
    ] == [("retried", 1, "LookupError"), ("dead", 2, "LookupError"), ("handled", 1, None)]
    assert len({one.context.trace_id for one in tries}) == 1


async def test_messages_of_a_batch_have_spans_that_end_with_it() -> None:
    """Section 2: one that fails takes the batch back; what was undone says so, and is done again alone."""
    told = Collected()
    broken = True

    async def seat(event: Announced) -> None:
        if event.user == "b" and broken:
            raise LookupError("no chair")

    app = told.watch(
        make_app(
            (Join, raising(Announced("a"), Announced("b"))),
            (Announced, seat),
            storage=MemoryStorage(),
            broker=MemoryBroker(),
            topics=[Topic("meetings", partitions=1)],
            subscriptions=[
                Subscription(
                    group="meetings", topics=["meetings"], batch=10, retry=Retry(attempts=1)
                )
            ],
        )
    )
    async with app:
        await app.send(Join())
        await app.settle()
        broken = False
        first = outcomes(told)
        await app.send(Join())
        await app.settle()
    assert first == ["rolled back", "rolled back", "handled", "dead"]
    assert outcomes(told)[4:] in (["handled", "held"], ["held", "handled"])
    assert all(told.path(one)[0] == "send Join" for one in told.named("process meetings"))


def outcomes(told: Collected) -> list[object]:
    return [
        (span.attributes or {}).get("headrace.message.outcome")
        for span in told.named("process meetings")
    ]


async def test_a_repeat_is_seen_as_a_duplicate() -> None:
    """G7, G13: a repeat has no effect, and leaves a span."""
    told = Collected()

    async def seat(event: Announced) -> None: ...

    broker = MemoryBroker()
    app = told.watch(flow((Announced, seat), storage=MemoryStorage(), broker=broker))
    async with app:
        await app.send(Join())
        await app.settle()
        (received,) = [
            one
            for p in range(8)
            for one in await broker.read("other", "meetings", {p: None}, limit=5)
        ]
        await broker.publish([received.message])
        await app.settle()
    assert outcomes(told) == ["handled", "duplicate"]


async def test_after_commit_deliveries_continue_the_trace() -> None:
    """Section 2: a delivery that was stored continues the trace of the send, in whichever process it runs."""
    told = Collected()

    async def tidy(event: Joined) -> None: ...

    app = make_app((Join, raising(Joined())), storage=MemoryStorage())
    app._settings.events.bind(Joined, tidy, phase="after_commit")
    app = told.watch(app.variant(lambda settings: settings))
    async with app:
        await app.send(Join())
        await app.settle()
    assert told.path(told.one("handle tidy")) == [
        *("send Join", "process after-commit", "handle tidy")
    ]


async def carried_on(told: Collected | None) -> Envelope:
    """The envelope of what a service announces that heard a message with TRACEPARENT from elsewhere."""

    async def seat(event: Announced, events: Events) -> None:
        events.append(Joined())

    async def announce(event: Joined, events: Events) -> None:
        events.append(Seated())

    broker = MemoryBroker()
    app = make_app((Announced, seat), (Joined, announce), storage=MemoryStorage(), broker=broker)
    if told is not None:
        told.watch(app)
    arriving = Envelope(
        new_id(),
        "elsewhere",
        "meetings.announced.v1",
        now(),
        traceparent=TRACEPARENT,
        extensions={"tracestate": "vendor=7", "tenant": "t1"},
    )
    async with app:
        await broker.publish([Message("meetings", None, arriving, b'{"user":"u1"}')])
        await app.settle()
        for partition in range(8):
            for one in await broker.read("other", "seats", {partition: None}, limit=1):
                return one.message.envelope
    raise AssertionError("nothing was announced")


async def test_the_trace_of_a_message_goes_on_without_an_sdk() -> None:
    """Section 2: a service without OpenTelemetry does not cut the trace of those before and behind it."""
    envelope = await carried_on(None)
    assert envelope.traceparent == TRACEPARENT
    assert envelope.extensions == {"tracestate": "vendor=7", "tenant": "t1"}


async def test_the_trace_of_a_message_goes_on_with_the_spans_of_an_sdk() -> None:
    """Section 2: what comes from another producer is the parent of what is done with it."""
    told = Collected()
    envelope = await carried_on(told)
    publish = told.one("publish seats")
    trace_id, span_id = (f"{n:x}" for n in (publish.context.trace_id, publish.context.span_id))
    assert envelope.traceparent == f"00-{trace_id.zfill(32)}-{span_id.zfill(16)}-01"
    assert trace_id in TRACEPARENT
    assert envelope.extensions == {"tracestate": "vendor=7", "tenant": "t1"}
    assert told.path(publish) == ["?", "process meetings", "publish seats"]


async def test_a_send_continues_the_callers_trace_where_no_span_runs() -> None:
    """A web framework without instrumentation still knows the caller's header."""
    told = Collected()
    app = told.watch(make_app((Join, raising())))
    async with app:
        token = callers_trace.set(TRACEPARENT)
        await app.send(Join())
        callers_trace.reset(token)
    parent = told.one("send Join").parent
    assert parent is not None
    assert f"{parent.trace_id:x}" in TRACEPARENT


async def test_a_publish_that_fails_is_seen() -> None:
    """Section 2: the span of a message that the broker refused, and of a call that failed."""
    told = Collected()
    away = True

    class Away(MemoryBroker):
        async def publish(self, messages: Any) -> Any:
            if away:
                raise BrokerUnavailable("the broker is away")
            return await super().publish(messages)

    app = told.watch(flow(storage=MemoryStorage(), broker=Away()))
    async with app:
        await app.send(Join())
        while not told.named("publish meetings"):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        away = False
        await app.settle()
    first, *_, last = told.named("publish meetings")
    assert (first.attributes or {})["error.type"] == "headrace.errors.BrokerUnavailable"
    assert first.status.status_code is StatusCode.ERROR
    assert last.status.status_code is StatusCode.UNSET
    assert told.path(first) == told.path(last) == ["send Join", "publish meetings"]


class Failing(SpanProcessor):
    """A user's own processor: SDKs pass on what one raises to who starts or ends a span."""

    def __init__(self, at: str) -> None:
        self._at = at

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._at == "start":
            raise RuntimeError("no start")

    def on_end(self, span: Any) -> None:
        if self._at == "end":
            raise RuntimeError("no end")


@pytest.mark.parametrize("at", ["start", "end"])
async def test_what_an_sdk_raises_disturbs_nothing(
    at: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A send and a message succeed though a span processor fails; it is logged once (G4, G13)."""
    told = Collected()
    told.tracers.add_span_processor(Failing(at))
    heard: list[str] = []

    async def hear(event: Announced) -> None:
        heard.append(event.user)

    app = told.watch(flow((Announced, hear), storage=MemoryStorage()))
    async with app:
        assert await app.send(Join()) == "u1"
        await app.settle()
        assert (await app.status()).relay is not None
    assert heard == ["u1"]
    assert caplog.text.count("The OpenTelemetry SDK, or what is plugged into it") == 1


async def test_an_sdk_of_the_process_is_found() -> None:
    """Section 2: whoever sets the global providers, as every OpenTelemetry guide says, has to tell Headrace nothing."""
    told = Collected()
    before = trace._TRACER_PROVIDER
    trace._TRACER_PROVIDER = told.tracers
    try:
        async with make_app((Join, raising())) as app:
            await app.send(Join())
    finally:
        trace._TRACER_PROVIDER = before
    assert told.path(told.one("send Join")) == ["send Join"]
