"""The app: assembles the parts, checks them, starts and stops them. It does nothing else."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, get_args

from headrace.assembly import AppStatus, Parts, Settings, assemble
from headrace.assembly.deliveries import DEFAULT
from headrace.assembly.groups import MOST_NAME
from headrace.assembly.probing import Probe
from headrace.assembly.settling import settle
from headrace.assembly.starting import start
from headrace.assembly.status import status_of
from headrace.broker import Broker, Topic
from headrace.codec import Codec
from headrace.dead_letters import DeadLetters
from headrace.description import Description
from headrace.emitter import Unhandled
from headrace.errors import AppNotRunning, ConfigurationError, WiringError
from headrace.health import Health
from headrace.limits import Limits
from headrace.maps import EventMap, RequestMap
from headrace.messages import Answered
from headrace.middleware import Middleware
from headrace.module import Module
from headrace.open_unit import OpenUnit, open_unit
from headrace.plain_calls import plain
from headrace.storage import Storage
from headrace.subscriptions import Subscription
from headrace.telemetry import LogEvent, Telemetry
from headrace.text import forbidden_character

R = TypeVar("R")

Role = Literal["send", "relay", "consume"]
"""What a process does: send requests, carry the outbox to the broker, consume from the broker."""


class Headrace:
    """An application: requests in, events out, nothing lost, nothing done twice, nothing out of order.

    Use it as `async with app:`; it can be started again after it stopped, also on another event loop.

    Args:
        name: not empty; names the app on the wire (`source`), its outbox, and its default consumer group.
        requests: which handler takes which request.
        events: which handlers run for which event.
        modules: bounded contexts with bindings, providers and subscriptions of their own.
        providers: dishka providers, plain classes (one object per send) and instances (one for the app).
        container: a dishka container, or another `headrace.container.Container`, that exists already.
        storage: a SQLAlchemy URL or an object; makes each send a transaction with an outbox.
        broker: a URL or an object; where notifications go.
        roles: what this process does; default all.
        middlewares: around each send: functions, or classes whose constructors are injected; the first is outermost.
        event_middlewares: around each in-process event handler, inside the unit of work.
        subscriptions: refine how the handlers of notifications consume.
        topics: topics with settings other than the default.
        limits: bounds of the app.
        unhandled: what a domain event without a handler means: "warn" once per type (default), "error", "ignore".
        after_commit: `retry`, `concurrency` and `timeout_seconds` of after-commit handlers in an app with storage. Default:
            those of `Subscription`, and 16 handlers at once.

    Raises:
        ConfigurationError: a URL or setting cannot be used.
        MissingExtra: a driver's packages are not installed.
    """

    def __init__(
        self,
        name: str,
        *,
        requests: RequestMap | None = None,
        events: EventMap | None = None,
        modules: Sequence[Module] = (),
        providers: Sequence[object] = (),
        container: object | None = None,
        storage: str | Storage | None = None,
        broker: str | Broker | None = None,
        roles: Collection[Role] = frozenset({"send", "relay", "consume"}),
        middlewares: Sequence[Middleware | type] = (),
        event_middlewares: Sequence[Middleware | type] = (),
        subscriptions: Sequence[Subscription] = (),
        topics: Sequence[Topic] = (),
        limits: Limits | None = None,
        unhandled: Unhandled = "warn",
        after_commit: Subscription | None = None,
    ) -> None:
        _check_settings(name, roles, unhandled)
        self._settings = Settings(
            name=name,
            requests=requests or RequestMap(),
            events=events or EventMap(),
            modules=tuple(modules),
            providers=tuple(providers),
            container=container,
            storage=storage,
            broker=broker,
            roles=frozenset(roles),
            middlewares=tuple(middlewares),
            event_middlewares=tuple(event_middlewares),
            subscriptions=tuple(subscriptions),
            topics=tuple(topics),
            limits=limits or Limits(),
            unhandled=unhandled,
            after_commit=_after_commit(after_commit),
        )
        self.telemetry = Telemetry(name)
        self._parts: Parts = assemble(self._settings, self.telemetry)
        self._probe = Probe(self._parts)
        self._runners: dict[type, Callable[[Any], Awaitable[Any]]] = {}
        self._sending = False
        self._running: AsyncExitStack | None = None
        self._changing: asyncio.Lock | None = None
        self._waiting = 0

    @property
    def name(self) -> str:
        """The app's name."""
        return self._settings.name

    @property
    def running(self) -> bool:
        """True between start and stop."""
        return self._running is not None

    @property
    def dead_letters(self) -> DeadLetters:
        """The messages that could not be handled or published: list, redrive, drop."""
        return self._parts.dead_letters

    @property
    def storage(self) -> Storage | None:
        """The storage, or None."""
        return self._parts.storage

    @property
    def broker(self) -> Broker | None:
        """The broker, or None."""
        return self._parts.broker

    @property
    def parts(self) -> Parts:
        """What it is assembled of, for what stands around the core, such as `headrace.testing`; not for applications."""
        return self._parts

    @property
    def codec(self) -> Codec:
        """What writes and reads the bodies of notifications."""
        return self._parts.mediator.emitter.codec

    async def status(self) -> AppStatus:
        """What relay and consumers of this process do, and how large the outbox is: for health checks and people (G13)."""
        return await status_of(self._parts)

    async def health(self, *, timeout_seconds: float = 2.0, strict: bool = False) -> Health:
        """Whether this process lives and is ready, with the reasons in words, for the probes of an orchestrator (G13).

        Not ready is a process that is not running, whose storage does not answer, and, if it relays, one whose outbox nobody
        works or whose oldest unsent event is older than `Limits.unsent_seconds`. A broker outage alone leaves the processes
        ready that do not relay.

        Args:
            timeout_seconds: it answers within this time, also when the database hangs. Default 2: shorter than a probe waits.
            strict: what is otherwise only noted makes the process unready too.
        """
        return await self._probe.health(
            running=self.running, timeout_seconds=timeout_seconds, strict=strict
        )

    def describe(self) -> Description:
        """What the app is made of: messages, handlers, what they raise, topics and groups. Does no I/O.

        What a handler raises is known if it was declared by `raises=`, else once it was seen; see `Description.complete`.
        """
        return self._parts.describe()

    def check(self) -> None:
        """Find every wiring fault, without starting anything.

        Raises:
            WiringError: lists them all, each with the place of its registration (G12).
        """
        faults = self._parts.faults()
        if faults:
            raise WiringError(faults)

    @plain
    def send(
        self,
        request: Answered[R],
        *,
        correlation_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        savepoint: bool = False,
    ) -> Coroutine[Any, Any, R]:
        """Send a request to its handler and answer the response; see `RequestMediator.send`.

        Raises:
            AppNotRunning: the app is not started, or it is stopping and this send is no part of one that is under way.
        """
        # The first lines of the mediator's own `send`: to go by way of that costs 40 of 440 ns (measured on CPython 3.11).
        if correlation_id is None and metadata is None and not savepoint:
            try:
                run: Callable[[Any], Any] = self._runners[type(request)]
            except KeyError:
                pass  # not running, stopping, or not bound: the way below tells which
            else:
                return run(request)  # type: ignore[no-any-return]
        # Consumers begin before the start has ended: what they run may send already, as part of its unit.
        if self._sending or self._parts.mediator.units.running() is not None:
            return self._parts.mediator.send(
                request, correlation_id=correlation_id, metadata=metadata, savepoint=savepoint
            )
        raise AppNotRunning(
            f"{type(request).__qualname__} was sent, but the app {self.name!r} is not running; nothing was done. Send inside "
            f"`async with app:` (in FastAPI: in the lifespan)."
        )

    def unit_of_work(
        self,
        *,
        correlation_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        read_only: bool = False,
        context: Mapping[type, object] | None = None,
    ) -> AbstractAsyncContextManager[OpenUnit]:
        """A unit of work around a block: `async with app.unit_of_work() as unit:`. It commits when the block ends.

        Sends in the block join it, `unit.get` gives the session, `unit.events` takes events. If the block raises, all is
        rolled back. Inside a running unit the block is a part of it. Request middlewares are around the sends only.

        Args:
            correlation_id: ties together what the block causes; default: a fresh one, or the running unit's.
            metadata: such as tenant or user; travels with every notification as CloudEvents extensions.
            read_only: nothing may be written or raised, and all is rolled back, as in a query's unit.
            context: objects by type for the container's scope of the unit, such as a web framework's request.

        Raises:
            AppNotRunning: the app is not started, or is stopping.
        """
        if not self._sending and self._parts.mediator.units.running() is None:
            raise AppNotRunning(
                f"a unit of work was opened, but the app {self.name!r} is not running; nothing was done. Open it inside "
                f"`async with app:` (in FastAPI: in the lifespan)."
            )
        return open_unit(
            self._parts.mediator,
            correlation_id=correlation_id,
            metadata=metadata,
            read_only=read_only,
            context=context,
        )

    async def settle(self, timeout_seconds: float = 30.0) -> None:
        """Wait until all that was sent has had its effects: outbox empty, every message handled, no retry pending.

        Dead letters, and what is held behind them, count as settled.

        Args:
            timeout_seconds: how long to wait at most.

        Raises:
            DrainTimeout: it took longer; tells what is left.
        """
        await settle(self._parts, timeout_seconds)

    async def start(self) -> None:
        """Check the wiring, prepare storage and broker, start relay and consumers. On any error nothing stays started.

        Raises:
            WiringError: the app is wired wrongly.
            StorageUnavailable: the database cannot be reached.
            BrokerUnavailable: the broker cannot be reached.
        """
        async with self._turn():
            if self._running is not None:
                return
            self.check()
            async with AsyncExitStack() as stack:
                await start(self._parts, self._probe, stack, _owner())
                self._running = stack.pop_all()
            self._runners = self._parts.mediator.runners
            self._sending = True
            self.telemetry.info(
                LogEvent.APP_STARTED, f"{self.name} is running ({self._parts.description()})"
            )

    async def stop(self) -> None:
        """Take no further sends, let what is in flight finish within `Limits.drain_seconds`, close everything (G10)."""
        async with self._turn():
            stack = self._running
            if stack is None:
                return
            try:
                await (
                    stack.aclose()
                )  # first of all it makes the mediator refuse what comes from outside
            finally:
                self._runners = {}
                self._sending = False
                self._running = None
                self.telemetry.info(LogEvent.APP_STOPPED, f"{self.name} has stopped")

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """Starts and stops come one after another: the second of two waits for the first and finds its work done."""
        lock = self._changing = self._changing or asyncio.Lock()
        self._waiting += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting -= 1
            if (
                not self._waiting
            ):  # nothing of an event loop is kept: the next start may be on another
                self._changing = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def variant(self, change: Callable[[Settings], Settings]) -> Headrace:
        """The same app with other settings, not running: what `headrace.testing.Harness` runs. This app stays as it is."""
        twin = object.__new__(Headrace)
        twin._settings = change(self._settings)
        twin.telemetry = self.telemetry.fresh()
        twin._parts = assemble(twin._settings, twin.telemetry)
        twin._probe = Probe(twin._parts)
        twin._runners = {}
        twin._sending = False
        twin._running = twin._changing = None
        twin._waiting = 0
        return twin


def _check_settings(name: object, roles: object, unhandled: object) -> None:
    """What a type checker would have found: a misspelt role or mode would do nothing, in silence."""
    if not isinstance(name, str) or not name.strip() or forbidden_character(name) is not None:
        raise ConfigurationError(
            f"Headrace({name!r}): the name goes onto the wire; give text that is not empty and has no control characters, such "
            f'as "meetings".'
        )
    if len(name) > MOST_NAME:
        raise ConfigurationError(
            f"Headrace({name!r}): the name has {len(name)} characters, and storage keeps at most {MOST_NAME}: take a shorter one."
        )
    known = get_args(Role)
    given: tuple[object, ...] = (
        tuple(cast("Collection[object]", roles))
        if isinstance(roles, Collection) and not isinstance(roles, str)
        else (roles,)
    )
    if isinstance(roles, str) or not given or any(role not in known for role in given):
        raise ConfigurationError(
            f"roles={roles!r}: give a set of {', '.join(repr(r) for r in known)}, such as {{'send'}}; leave it out for all."
        )
    if unhandled not in get_args(Unhandled):
        raise ConfigurationError(
            f"unhandled={unhandled!r}: give one of {', '.join(repr(u) for u in get_args(Unhandled))}."
        )


def _after_commit(given: Subscription | None) -> Subscription:
    if given is None:
        return DEFAULT
    if given.group is not None or given.topics or given.batch != 1 or not given.ordered:
        raise ConfigurationError(
            f"after_commit={given!r}: after-commit handlers have no group, topics, order or batches. Give "
            "Subscription(retry=..., concurrency=..., timeout_seconds=...) with some of these."
        )
    return given


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
