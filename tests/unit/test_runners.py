"""Runners: the generated source has what a handler needs and nothing else."""

from typing import Any

from headrace import Event, Events, RequestHandler
from headrace.bindings import Binding, make_binding
from headrace.handlers import EventHandler
from headrace.injection import Argument, Origin, Plan
from headrace.learnt import Learnt
from headrace.runners import event_runner, request_runner
from headrace.signatures import name_of
from tests.unit.heart import Join, Joined


class FakeEmitter:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.runners: dict[type, Any] = {}
        self.emitted: list[tuple[list[Event], object, int]] = []

    learnt = Learnt()
    watch = None
    recorder = None

    async def find(self, event: Event) -> Any:
        async def nothing(event: Event, unit: object) -> None:
            return None

        return nothing

    async def emit(self, events: Any, unit: object = None, depth: int = 0) -> None:
        self.emitted.append((list(events), unit, depth))


def binding(message: type, handler: Any, **settings: Any) -> Binding:
    other = EventHandler if issubclass(message, Join) else RequestHandler
    return make_binding(message, handler, other, settings.get("raises"), "in_transaction", "x.py:1")


def plan(handler: Any, *arguments: Argument) -> Plan:
    return Plan(handler, arguments)


async def test_constants_are_written_into_the_call() -> None:
    """Section 5: a constant stands in the generated source as a name; there is no loop, no look-up, no scope."""

    async def handler(request: Join, number: int, text: str) -> str:
        return f"{number} {text}"

    arguments = (
        Argument("number", False, Origin.CONSTANT, int, 7),
        Argument("text", True, Origin.CONSTANT, str, "t"),
    )
    run = request_runner(
        binding(Join, handler), plan(handler, *arguments), FakeEmitter(), query=False
    )
    assert await run(Join()) == "7 t"
    source: str = run.__source__  # type: ignore[attr-defined]
    assert "scope" not in source
    assert "emit" not in source
    assert "unit." not in source


async def test_events_go_to_the_emitter_with_the_unit() -> None:
    """G2: with a unit of work the collected events are emitted with it, after the handler returned."""

    async def handler(request: Join, events: Events) -> str:
        events.append(Joined())
        return "answer"

    emitter = FakeEmitter()
    argument = Argument("events", False, Origin.EVENTS, Events)
    run = request_runner(binding(Join, handler), plan(handler, argument), emitter, query=False)
    unit = object()
    assert await run(Join(), unit) == "answer"
    assert emitter.emitted == [([Joined()], unit, 0)]


async def test_an_untouched_events_list_costs_no_emit() -> None:
    """Section 5: a handler that raised nothing does not reach the emitter."""

    class Handler(RequestHandler[Join, str]):
        async def handle(self, request: Join) -> str:
            return ""

    emitter = FakeEmitter()
    run = request_runner(binding(Join, Handler), plan(Handler), emitter, query=False)
    await run(Join(), object())
    assert not emitter.emitted
    assert "_headrace_events" in run.__source__  # type: ignore[attr-defined]


async def test_a_foreign_class_with_events_is_read() -> None:
    """Section 2: a handler class without a base of Headrace may have a list `events`, or none."""

    class Duck:
        def __init__(self) -> None:
            self.events: list[Event] = []

        async def handle(self, event: Joined) -> None:
            self.events.append(Joined("follow"))

    class Bare:
        async def handle(self, event: Joined) -> None: ...

    run = event_runner(
        "Joined", [(binding(Joined, Duck), plan(Duck)), (binding(Joined, Bare), plan(Bare))]
    )
    assert await run(Joined(), None) == [Joined("follow")]


async def test_follow_ups_of_all_handlers_are_joined_in_order() -> None:
    """G2: an event's runner answers the follow-ups of its handlers in the order bound, and None if there are none."""

    def handler(user: str) -> Any:
        async def handle(event: Joined, events: Events) -> None:
            if event.user == "raise":
                events.append(Joined(user))

        return handle

    argument = Argument("events", False, Origin.EVENTS, Events)
    handlers = [handler("a"), handler("b"), handler("c")]
    run = event_runner("Joined", [(binding(Joined, h), plan(h, argument)) for h in handlers])
    assert await run(Joined("raise"), None) == [Joined("a"), Joined("b"), Joined("c")]
    assert await run(Joined("quiet"), None) is None


def test_the_source_and_the_name_tell_the_handler() -> None:
    """Section 5: a runner's name and file in a traceback tell whose it is."""

    async def handler(request: Join) -> str:
        return ""

    run = request_runner(binding(Join, handler), plan(handler), FakeEmitter(), query=False)
    code = run.__code__  # type: ignore[attr-defined]
    assert name_of(handler) in code.co_filename
