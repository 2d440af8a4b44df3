"""Wiring faults: all of them together, each with the place of its registration, before anything starts (G12)."""

import inspect
from collections.abc import Sequence
from typing import Any, Literal, NewType, Protocol

import pytest

from headrace import (
    Command,
    Event,
    EventMap,
    Headrace,
    NotificationEvent,
    RequestHandler,
    RequestMap,
    Subscription,
    notification,
)
from headrace.drivers.memory import MemoryStorage
from headrace.errors import WiringError
from headrace.responses import agree
from tests.unit.heart import Announced, Greeted, Join, Joined, Leave, raising


def line() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def faults(
    requests: RequestMap | None = None, events: EventMap | None = None, **settings: Any
) -> tuple[str, ...]:
    with pytest.raises(WiringError) as raised:
        Headrace("m", requests=requests, events=events, **settings).check()
    return raised.value.faults


def only(*found: str) -> str:
    assert len(found) == 1, found
    return found[0]


async def test_all_faults_are_reported_together_before_anything_starts() -> None:
    """G12: start raises one WiringError that numbers every fault, and neither storage nor broker was started."""

    class Watched(MemoryStorage):
        started = False

        async def start(self, app: str, *, partitions: int) -> Sequence[str]:
            self.started = True
            return await super().start(app, partitions=partitions)

    async def needs(request: Leave, missing: "Nowhere") -> str:  # type: ignore[name-defined]  # noqa: F821
        return ""

    async def wrong(request: Join, log: list[int]) -> int:
        return 1

    requests, events, storage = RequestMap(), EventMap(), Watched()
    requests.bind(Join, wrong)  # type: ignore[arg-type]
    requests.bind(Join, raising())
    requests.bind(Leave, needs)
    events.bind(Announced, raising())
    app = Headrace("m", requests=requests, events=events, storage=storage)
    with pytest.raises(WiringError) as raised:
        await app.start()
    text = str(raised.value)
    assert "nothing was started" in text
    for expected in (
        "Join has two handlers",
        "'Nowhere'",
        "declares the response str",
        "nothing provides list",
        "has no broker",
    ):
        assert expected in text
    assert f"  {len(raised.value.faults)}. " in text
    assert not storage.started
    assert not app.running


def test_two_handlers_of_a_request_are_shown_with_their_lines() -> None:
    """G12: a second handler for a request is a fault with the places of both bindings."""
    requests = RequestMap()
    requests.bind(Join, raising())
    first = line() - 1
    requests.bind(Join, raising())
    fault = only(*faults(requests))
    assert f"test_wiring.py:{first})" in fault
    assert f"test_wiring.py:{first + 2})" in fault


def test_a_handler_bound_twice_to_an_event_is_a_fault() -> None:
    """G12: the same handler bound twice to the same event is a fault; to an event and its base it is none."""
    handler = raising()
    events = EventMap()
    events.bind(Joined, handler)
    events.bind(Event, handler)
    Headrace("m", events=events).check()
    events.bind(Joined, handler)
    assert "twice" in only(*faults(events=events))


def test_a_class_bound_as_request_and_as_event() -> None:
    """G12: a foreign class bound as a request and as an event is a fault."""

    class Foreign:
        pass

    requests, events = RequestMap(), EventMap()
    requests.bind(Foreign, raising())  # type: ignore[call-overload]
    events.bind(Foreign, raising())
    assert "as a request" in only(*faults(requests, events))


def test_a_response_that_disagrees_names_both_types() -> None:
    """G12: a handler that surely answers something else than its request declares is a fault, class or function."""

    class Wrong(RequestHandler[Join, int]):
        async def handle(self, request: Join) -> int:
            return 1

    async def wrong(request: Leave) -> None: ...

    requests = RequestMap()
    requests.bind(Join, Wrong)  # type: ignore[type-var]
    requests.bind(Leave, wrong)  # type: ignore[arg-type]
    first, second = faults(requests)
    assert "Join declares the response str" in first
    assert "answers int" in first
    assert "answers None" in second


def test_a_narrower_answer_is_no_fault() -> None:
    """G12: an answer that a type checker allows, such as a subclass, is no fault."""

    class Ask(Command[Sequence[int] | None]):
        pass

    async def answer(request: Ask) -> list[bool]:
        return []

    requests = RequestMap()
    requests.bind(Ask, answer)
    Headrace("m", requests=requests).check()


class Proto(Protocol):
    def method(self) -> None: ...


UserId = NewType("UserId", str)


@pytest.mark.parametrize(
    ("declared", "answered", "fine"),
    [
        (object, int, True),
        (int, bool, True),
        (bool, int, False),
        (float, int, True),
        (int, float, False),
        (str | None, str, True),
        (str | None, None, True),
        (str, str | None, False),
        (str | int, int | str, True),
        (None, type(None), True),
        (None, int, False),
        (int, None, False),
        (Any, None, True),
        (str, Any, True),
        (Sequence[int], list[int], True),
        (list[int], list[str], False),
        (list[int], list[bool], True),
        (list[Any], list[str], True),
        (list[str], list, True),
        (dict[str, int], list[int], False),
        (Proto, int, True),
        (str, UserId, True),
        (int, UserId, False),
        (str, Literal["a", "b"], True),
        (Literal["a"], str, True),
    ],
)
def test_agreement_of_responses(declared: object, answered: object, fine: bool) -> None:
    """G12: only answers that surely disagree with the declared response are faults."""
    assert agree(declared, answered) is fine


def test_a_return_annotation_that_does_not_resolve_is_a_fault_among_others() -> None:
    """G12: a return annotation that does not resolve at run time is reported with its place, together with the others."""

    async def unresolved(request: Join) -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
        ...

    requests = RequestMap()
    requests.bind(Join, unresolved)
    requests.bind(Leave, raising())
    requests.bind(Leave, raising())
    found = faults(requests)
    assert len(found) == 2
    assert any("Nowhere" in f and "test_wiring.py:" in f for f in found)


def test_notifications_need_a_broker() -> None:
    """G12: notifications that are bound or declared in raises= need a broker; the fault tells what to pass."""
    requests = RequestMap()
    requests.bind(Join, raising(), raises=[Announced])
    fault = only(*faults(requests))
    assert "Announced is a notification" in fault
    assert '"memory://"' in fault


def test_two_types_with_one_literal() -> None:
    """G12: two notification classes with one type literal are a fault that names both."""

    class Other(NotificationEvent, type="meetings.announced.v1", topic="meetings"):
        pass

    events = EventMap()
    events.bind(Announced, raising())
    events.bind(Other, raising())
    fault = only(*faults(events=events, broker="memory://"))
    assert "'meetings.announced.v1'" in fault
    assert "Announced" in fault
    assert "Other" in fault


def test_a_subclass_of_a_notification_without_a_type_is_one_fault() -> None:
    """G12: a subclass of a notification with no type of its own is reported by check, not raised while assembling."""

    @notification(type="base.v1", topic="meetings")
    class Base(Event):
        pass

    class Sub(Base):
        pass

    events = EventMap()
    events.bind(Sub, raising())
    fault = only(*faults(events=events, broker="memory://"))
    assert "declares no type of its own" in fault


def test_durable_handlers_need_names_of_their_own() -> None:
    """G9, G12: storage keeps deliveries by the handler's name, so two of one name are refused, with both places."""
    events = EventMap()
    here = line()
    events.bind(Joined, raising(), phase="after_commit")
    events.bind(Greeted, raising(), phase="after_commit")
    found = only(*faults(events=events, storage=MemoryStorage()))
    assert (
        "two after-commit handlers are both named tests.unit.heart.raising.<locals>.handler"
        in found
    )
    assert f"test_wiring.py:{here + 1}" in found
    assert f"test_wiring.py:{here + 2}" in found


def test_a_durable_handler_without_a_name() -> None:
    """G9, G12: what has no qualified name is known by its place in memory, which no other process knows."""

    class Callable:
        async def __call__(self, event: Joined) -> None:
            return

    events = EventMap()
    events.bind(Joined, Callable(), phase="after_commit")
    assert "no name by which storage" in only(*faults(events=events, storage=MemoryStorage()))
    Headrace("m", events=events).check()


def test_a_durable_handler_of_what_cannot_be_read_back() -> None:
    """G9, G12: an event that the codec could never read is found at start, where nothing is lost yet."""

    class Bare(Event):
        pass

    async def after(event: Bare) -> None:
        return

    events = EventMap()
    events.bind(Bare, after, phase="after_commit")
    assert "cannot be read back" in only(*faults(events=events, storage=MemoryStorage()))


def test_a_subscription_to_nothing() -> None:
    """G12: a subscription to a topic without handlers, or that covers nothing at all, is a fault."""
    events = EventMap()
    events.bind(Announced, raising())
    found = faults(
        events=events,
        broker="memory://",
        subscriptions=[
            Subscription(topics=("meeting",)),
            Subscription(group="first"),
            Subscription(group="never"),
        ],
    )
    assert len(found) == 2
    assert "names the topic 'meeting'" in found[0]
    assert "Subscription(group='never') covers nothing" in found[1]


def test_one_group_reads_a_topic_once() -> None:
    """G12: two subscriptions of one group on one topic are a fault."""
    events = EventMap()
    events.bind(Announced, raising())
    found = faults(
        events=events,
        broker="memory://",
        subscriptions=[
            Subscription(topics=("meetings",), concurrency=1),
            Subscription(topics=("meetings",), concurrency=2),
        ],
    )
    assert "two subscriptions of the group 'm'" in only(*found)
