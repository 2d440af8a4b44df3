"""Runners: one ready-made coroutine function per message type, with the constructor calls written out.

Python source is generated because it is the only way to have no loop over arguments and handlers, no dictionary of keyword
arguments and no extra coroutine on the hot path (measured: 1.3 times the cost of the same calls by hand, against 2.5 for
a generic loop). `print(runner.__source__)` shows what was generated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, cast

from headrace.bindings import Binding
from headrace.errors import QueryRaisedEvent, UndeclaredEvent
from headrace.handlers import Events, events_attribute
from headrace.injection import Origin, Plan
from headrace.learnt import Learnt
from headrace.messages import Event
from headrace.recorder import Recorder, recorded_request
from headrace.underway import RUNNER, circle_of
from headrace.watching import Watch, Watched

EventRunner = Callable[[Any, Any], Awaitable["list[Event] | None"]]
"""`await run(event, unit)` runs all handlers of the event's type and answers the follow-up events, in order, or None."""

_UNWATCHED: Final = Watched()

RequestRunner = Callable[..., Awaitable[Any]]
"""`await run(request, unit=None)` runs the handler, then emits what it collected, and answers the response."""


class Emitter(Protocol):
    """What a request runner needs of the emitter."""

    @property
    def runners(self) -> dict[type, EventRunner]:
        """The event runners made so far."""
        ...

    @property
    def recorder(self) -> Recorder | None:
        """Told of what handlers do; for `headrace.testing`."""
        ...

    @property
    def learnt(self) -> Learnt:
        """What handlers have raised without declaring it."""
        ...

    @property
    def watch(self) -> Watch | None:
        """What is done about each handler besides running it; None for nothing."""
        ...

    async def find(self, event: Event) -> EventRunner:
        """The runner for an event whose type was not met before."""
        ...

    async def emit(self, events: Sequence[Event], unit: Any = None, depth: int = 0) -> None:
        """Dispatch events and all that follows, `depth` generations after the request."""
        ...


class _Source:
    """Source text and the names that it uses."""

    def __init__(self, signature: str) -> None:
        self.lines = [f"async def {signature}:"]
        self.names: dict[str, object] = {}
        self._indent = "    "

    def add(self, *lines: str) -> None:
        self.lines.extend(self._indent + line for line in lines)

    def deeper(self) -> None:
        self._indent += "    "

    def flatter(self) -> None:
        self._indent = self._indent[4:]

    def name(self, prefix: str, value: object) -> str:
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def build(self, label: str) -> Callable[..., Any]:
        text = "\n".join(self.lines)
        exec(compile(text, f"{RUNNER}{label}>", "exec"), self.names)
        runner: Any = self.names["run"]
        runner.__source__ = text
        runner.__qualname__ = f"run[{label}]"
        return runner  # type: ignore[no-any-return]


def request_runner(binding: Binding, plan: Plan, emitter: Emitter, *, query: bool) -> RequestRunner:
    """The runner of one request type. Without a unit of work the first generation of events is run right here."""
    source = _Source("run(request, unit=None)")
    # A try costs nothing until it catches. Sends that send each other may exhaust the stack before any depth is counted.
    source.add("try:")
    source.deeper()
    collected = _call(
        source, binding, plan, "request", "response = ", emitter.learnt, emitter.watch
    )
    if collected is not None:
        source.add(f"if {collected}:")
        if query:
            source.add(f"    {source.name('refuse', _refuse(binding))}({collected})")
        else:
            emit = source.name("emit", emitter.emit)
            runners, find = (
                source.name("runners", emitter.runners),
                source.name("find", emitter.find),
            )
            source.add(
                "    if unit is None:",
                "        following = None",
                f"        for event in {collected}:",
                f"            try: go = {runners}[type(event)]",
                "            except KeyError: go = None",
                f"            if go is None: go = await {find}(event)",
                "            more = await go(event, None)",
                "            if more: following = more if following is None else [*following, *more]",
                f"        if following is not None: await {emit}(following, None, 1)",
                "    else:",
                f"        await {emit}({collected}, unit)",
            )
    source.add("return response")
    source.flatter()
    source.add(
        "except RecursionError as error:",
        f"    circle = {source.name('circle_of', circle_of)}(error)",
        "    if circle is None: raise",
        "    raise circle from error",
    )
    run: RequestRunner = source.build(binding.name)
    return run if emitter.recorder is None else recorded_request(run, binding, emitter.recorder)


def event_runner(
    label: str,
    calls: Sequence[tuple[Binding, Plan]],
    learnt: Learnt | None = None,
    watch: Watch | None = None,
) -> EventRunner:
    """The runner of one event type: its handlers one after another, in the order given."""
    source = _Source("run(event, unit)")
    source.add("follow = None")
    for binding, plan in calls:
        collected = _call(source, binding, plan, "event", "", learnt, watch)
        if collected is not None:
            source.add(
                f"if {collected}:",
                f"    follow = {collected} if follow is None else [*follow, *{collected}]",
            )
    source.add("return follow")
    return source.build(label)


def _call(
    source: _Source,
    binding: Binding,
    plan: Plan,
    message: str,
    assign: str,
    learnt: Learnt | None,
    watch: Watch | None,
) -> str | None:
    """Write the call of one handler; answer the expression of what it collected, or None if it cannot collect."""
    arguments, events = _arguments(source, plan)
    watched = watch(binding) if watch is not None else _UNWATCHED
    target = source.name("h", plan.target)
    if binding.is_function:
        _await(source, assign, f"{target}({', '.join([message, *arguments])})", watched)
        if events is None:
            return None
        collected = events
    else:
        source.add(f"handler = {target}({', '.join(arguments)})")
        _await(source, assign, f"handler.handle({message})", watched)
        attribute = events_attribute(cast(type, binding.handler))
        if attribute is None:
            return None
        collected = "collected"
        inherited = attribute == "_headrace_events"
        source.add(
            f"collected = handler.{attribute}"
            if inherited
            else 'collected = getattr(handler, "events", None)'
        )
    if binding.raises is not None:
        source.add(f"if {collected}: {source.name('check', _check_raises(binding))}({collected})")
    elif learnt is not None:
        seen, learn = (
            source.name("seen", learnt.seen(binding)),
            source.name("learn", learnt.teller(binding)),
        )
        # One event of a known type, as most often, costs no call.
        source.add(
            f"if {collected} and (type({collected}[0]) not in {seen} or len({collected}) > 1): {learn}({collected})"
        )
    if watched.raised is not None:
        source.add(f"if {collected}: {source.name('raised', watched.raised)}({collected})")
    return collected


def _await(source: _Source, assign: str, call: str, watched: Watched) -> None:
    if watched.around is not None:
        call = f"{source.name('around', watched.around)}({call})"
    if watched.failed is None:
        source.add(f"{assign}await {call}")
    else:
        source.add(
            f"try: {assign}await {call}",
            "except BaseException as failure:",  # a time-out cancels
            f"    {source.name('failed', watched.failed)}(failure)",
            "    raise",
        )
    if watched.handled is not None:
        source.add(f"{source.name('handled', watched.handled)}[0] += 1")


def _arguments(source: _Source, plan: Plan) -> tuple[list[str], str | None]:
    written: list[str] = []
    events: str | None = None
    if any(a.origin is Origin.SCOPE for a in plan.arguments):
        source.add("scope = unit.scope or unit.open_scope()")
    for a in plan.arguments:
        if a.origin is Origin.CONSTANT:
            value = source.name("c", a.value)
        elif a.origin is Origin.UNIT:
            value = f"{source.name('u', a.value)}(unit)"
        elif a.origin is Origin.EVENTS:
            events = value = source.name("events", None)
            source.add(f"{value} = {source.name('Events', Events)}()")
        else:
            value = f"await scope.get({source.name('k', a.key)})"
        written.append(f"{a.name}={value}" if a.keyword else value)
    return written, events


def _check_raises(binding: Binding) -> Callable[[Sequence[Event]], None]:
    allowed = binding.raises or ()

    def check(events: Sequence[Event]) -> None:
        for event in events:
            if not isinstance(event, allowed):
                names = ", ".join(t.__name__ for t in allowed) or "nothing"
                raise UndeclaredEvent(
                    f"{binding.name} raised {type(event).__name__}, but its binding at {binding.where} declares that it raises "
                    f"{names}. Add {type(event).__name__} to raises=[...] there, or raise another event."
                )

    return check


def _refuse(binding: Binding) -> Callable[[Sequence[Event]], None]:
    def refuse(events: Sequence[Event]) -> None:
        raise QueryRaisedEvent(
            f"{binding.name} (bound at {binding.where}) handles the query {binding.message.__name__} and raised "
            f"{type(events[0]).__name__}. A query changes nothing: make {binding.message.__name__} a Command."
        )

    return refuse
