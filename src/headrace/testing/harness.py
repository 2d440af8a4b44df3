"""The harness: an app under test, on private storage and broker and on virtual time, with questions about what flowed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from contextvars import Token
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, get_args

from msgspec import structs

from headrace import ids
from headrace.app import Headrace, Role
from headrace.assembly import Settings
from headrace.assembly.groups import readings_of
from headrace.broker import PARTITIONS, Broker
from headrace.dead_letters import DeadLetter
from headrace.errors import BindingError, DrainTimeout
from headrace.messages import Answered
from headrace.notifications import notification_of
from headrace.storage import Storage
from headrace.telemetry import LogEvent
from headrace.testing.answers import Answer, asked
from headrace.testing.bypass import Guard
from headrace.testing.clock import VirtualClock
from headrace.testing.flow import Flow
from headrace.testing.leftovers import remove
from headrace.testing.private import check_replaceable, chosen, private_broker, private_storage
from headrace.testing.record import FlowRecord
from headrace.testing.recording import RecordingBroker
from headrace.testing.settling import Settling
from headrace.urls import hidden, read_url

FLOW_NOTE = "The flow that did happen:"
"""How the note begins that an error of a harness has."""

R = TypeVar("R")
E = TypeVar("E")


class Harness:
    """Runs an app in a test, on storage and broker of its own and on virtual time, and records what flows.

    An app with SQL storage runs on a private SQLite file, one with `sql://` keeps its queues there; every other broker is
    replaced by a `MemoryBroker`. It runs with all roles, whatever the app's, so that a test of a process that only sends sees
    what becomes of its events. The app itself is left untouched, so one app serves many tests.

        async with Harness(app, overrides={Meetings: FakeMeetings()}) as h:
            await h.send(JoinMeeting("u1", "m1"))
            await h.settle()
            assert h.published(MeetingJoined, key="m1") == [MeetingJoined("u1", "m1")]

    Args:
        app: the app as it runs in production.
        overrides: replacements of dependencies by type: an object, or a class to build instead.
        storage: the URL of a database to run on instead: on a server a fresh database is made, and removed at the end.
            Default None: what pytest's option `--headrace-storage` names; without it memory for memory, a file of SQLite for
            any database.
        broker: the URL of a broker to run on instead: all names on it begin with one of this harness alone, and what it
            made is removed at the end. Default None: what `--headrace-broker` names; without it memory, and for `sql://` the
            storage.
        bypass: True lets the app publish straight to a broker inside a unit of work; default False: `OutboxBypassed`.

    Raises:
        BindingError: the app was given a container of its own, which overrides cannot reach into; or a storage of which the
            harness cannot make a private one.
    """

    def __init__(
        self,
        app: Headrace,
        overrides: Mapping[type, object] | None = None,
        *,
        storage: str | None = None,
        broker: str | None = None,
        bypass: bool = False,
    ) -> None:
        check_replaceable(app.name, app.storage)
        self._original = app
        self._overrides = dict(overrides or {})
        self._urls = (storage or chosen.storage, broker or chosen.broker)
        self._bypass = bypass
        self._clock = VirtualClock()
        self._record = FlowRecord(lambda: self._clock.now)
        self._broker: RecordingBroker | None = None
        self._app: Headrace | None = None
        self._settling: Settling | None = None
        self._dead: Sequence[DeadLetter] = ()
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Harness of {self.name}>"

    @property
    def name(self) -> str:
        """The app's name."""
        return self._original.name

    @property
    def recorded(self) -> bool:
        """True once anything has happened that `flow` can draw."""
        return bool(self._record.runs or self._record.emitted)

    @property
    def app(self) -> Headrace:
        """The running twin of the app."""
        if self._app is None:
            raise BindingError(
                "the harness is not running. Use it as `async with Harness(app) as h:`."
            )
        return self._app

    # Doing -----------------------------------------------------------------------------------------------------------

    def send(
        self,
        request: Answered[R],
        *,
        correlation_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Coroutine[Any, Any, R]:
        """Send a request, as `Headrace.send` does."""
        return self._send(
            request, self.app.send(request, correlation_id=correlation_id, metadata=metadata)
        )

    async def _send(self, request: object, sending: Coroutine[Any, Any, R]) -> R:
        __tracebackhide__ = True
        time = ids.ahead.set(self._clock.ahead)
        try:
            return await sending
        except BaseException as error:
            self._record.failed(request, error)
            raise
        finally:
            ids.ahead.reset(time)

    async def settle(self, timeout_seconds: float = 30.0, *, retries: bool = True) -> None:
        """Wait until everything that was sent has had its effects; then look for dead letters.

        When nothing is left but retries that are due later, virtual time goes on to the first of them, and so on: a policy
        with delays of hours settles in milliseconds.

        Args:
            timeout_seconds: a safety net, in real time; default 30.
            retries: False leaves what is due later alone, so that a test can look at the time before it.

        Raises:
            DrainTimeout: it took longer; tells what is left, and the flow that did happen.
        """
        __tracebackhide__ = True
        await self._timed(self._running().settle(timeout_seconds, retries=retries))

    async def advance(
        self,
        time: timedelta | None = None,
        /,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        timeout_seconds: float = 30.0,
    ) -> None:
        """Let virtual time pass. What becomes due comes in order of due time, each settled before the next.

        Args:
            time: how much; or by the units below, added together.
            days: of 24 hours.
            hours: of 60 minutes.
            minutes: of 60 seconds.
            seconds: or parts of them.
            timeout_seconds: as of `settle`.

        Raises:
            ValueError: time does not go back.
            DrainTimeout: as of `settle`.
        """
        total = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        total += time or timedelta()
        if total < timedelta():
            raise ValueError(f"advance({total!r}): time goes on, it does not go back.")
        __tracebackhide__ = True
        await self._timed(self._running().advance(total.total_seconds(), timeout_seconds))

    @property
    def now(self) -> datetime:
        """The virtual time in UTC: the computer's, and what `settle` and `advance` have added."""
        return self._clock.now

    # Asking ----------------------------------------------------------------------------------------------------------

    def sent(self, request: type[E]) -> Answer[E]:
        """The requests of a class that reached their handler, nested ones too, in order, whatever became of them."""
        found = [one for one in self._record.sent(request) if isinstance(one, request)]
        return Answer(found, asked("sent", request))

    def raised(self, event: type[E]) -> Answer[E]:
        """The events of a class, domain events and notifications, that were raised by what was not rolled back."""
        found = [one for one in self._record.raised_of(event) if isinstance(one, event)]
        return Answer(found, asked("raised", event))

    def published(self, event: type[E], *, key: str | None = None) -> Answer[E]:
        """The notifications of a class that the broker has confirmed, in order, each once however often it was repeated.

        Args:
            event: the notification's class.
            key: only those with this key; default all.
        """
        notification = notification_of(event)
        if notification is None:
            raise BindingError(
                f"{event.__qualname__} is no notification, so it is never published. Ask raised(...) or handled_by(...) for "
                f"domain events."
            )
        messages = self._broker.distinct() if self._broker is not None else ()
        codec = self.app.codec
        found = [
            codec.decode(message.data, event)
            for message in messages
            if message.envelope.type == notification.type and key in (None, message.key)
        ]
        return Answer(found, asked("published", event, key=key))

    def handled_by(self, handler: object) -> Answer[object]:
        """The events that an event handler (class or function) has handled for good, in order, each once.

        What was rolled back, because another handler of its unit failed, is not among them.
        """
        return Answer(self._record.handled_by(handler), asked("handled_by", handler))

    def retried(self, handler: object) -> Answer[object]:
        """The events that an event handler was given again after it had failed, once for each further try."""
        return Answer(self._record.retried(handler), asked("retried", handler))

    @property
    def dead_letters(self) -> Answer[DeadLetter]:
        """The dead letters at the last `settle` or `advance`."""
        return Answer(self._dead, "dead_letters")

    def flow(self) -> str:
        """What happened so far, as a tree for people; for the time being `print(h.flow())` shows it in any test."""
        return str(
            Flow(
                self._record,
                self._broker.distinct() if self._broker is not None else (),
                self._dead,
                self._groups(),
            )
        )

    def _groups(self) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for group in self._app.parts.groups if self._app is not None else ():
            for type_ in group.types:
                groups.setdefault(type_, []).append(group.name)
        return groups

    # Running ---------------------------------------------------------------------------------------------------------

    def _running(self) -> Settling:
        if self._settling is None:
            self._settling = Settling(self.app.parts, self._clock)
        return self._settling

    async def _timed(self, waiting: Coroutine[Any, Any, None]) -> None:
        __tracebackhide__ = True
        try:
            await waiting
        except DrainTimeout as error:
            error.add_note(f"{FLOW_NOTE}\n{self.flow()}")
            raise
        self._dead = tuple([letter async for letter in self.app.dead_letters.iterate()])

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            # Before the start: what runs in the background inherits it.
            stack.callback(_reset, ids.ahead.set(self._clock.ahead))
            self._clock.begin()
            # Of two harnesses the first may end first, and the second one's reset bring its clock back.
            stack.callback(self._clock.end)
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(
                    prefix="headrace-harness-",
                    # SQLite's files may vanish while they are removed; a test is no worse for a file that stays.
                    ignore_cleanup_errors=True,
                )
            )
            storage = await self._private_storage(stack, Path(folder))
            broker = self._private_broker(stack)
            self._app = self._original.variant(lambda given: self._settings(given, storage, broker))
            stack.push_async_callback(self._app.stop)
            await self._app.start()
            if not self._bypass:
                brokers = [one for one in (self._original.broker, self._broker) if one is not None]
                guard = Guard(self._app.parts.mediator, brokers)
                guard.install()
                stack.callback(guard.remove)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def _settings(
        self, given: Settings, storage: Storage | None, broker: Broker | None
    ) -> Settings:
        return structs.replace(
            given,
            storage=storage,
            broker=broker,
            roles=frozenset(get_args(Role)),
            overrides=tuple(self._overrides.items()),
            recorder=self._record,
            # Messages go out one by one in a test: there is no steady flow to gather.
            limits=replace(given.limits, linger_seconds=0.0),
        )

    async def _private_storage(self, stack: AsyncExitStack, folder: Path) -> Storage | None:
        if self._original.storage is None:
            return None
        storage, removal = await private_storage(self._original.storage, self._urls[0], folder)
        if removal is not None:
            stack.push_async_callback(removal)
        return storage

    def _private_broker(self, stack: AsyncExitStack) -> Broker | None:
        if self._original.broker is None:
            return None
        inner, url = private_broker(self._original.broker, self._urls[1])
        self._broker = RecordingBroker(inner)
        if url is not None:
            stack.push_async_callback(self._remove, url)
        return self._broker

    async def _remove(self, url: str) -> None:
        if self._app is None or self._broker is None:
            return
        parts = self._app.parts
        counts = {topic.name: topic.partitions or PARTITIONS for topic in parts.topics()}
        counts = {**dict.fromkeys((m.topic for m in self._broker.messages), PARTITIONS), **counts}
        try:
            await remove(url, counts, readings_of(parts.groups))
        except Exception as error:
            # The test is over, and says what it has to say; what stays is in nobody's way.
            self._app.telemetry.warning(
                LogEvent.HARNESS_NOT_REMOVED,
                f"What the harness made on {hidden(url)} could not be removed ({type(error).__name__}: {error}); it begins with "
                f"{read_url(url).settings['prefix']!r}.",
            )


def _reset(token: Token[Callable[[], float] | None]) -> None:
    # Another context than that of the start knows nothing of it, and needs none.
    with suppress(ValueError):
        ids.ahead.reset(token)
