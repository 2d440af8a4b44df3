"""The harness: an app under test, on private storage and broker, with questions about what flowed through it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, get_args

from msgspec import structs

from headrace.app import Headrace, Role
from headrace.assembly import Settings
from headrace.bindings import Binding
from headrace.broker import Broker
from headrace.dead_letters import DeadLetter
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.errors import BindingError
from headrace.messages import Answered
from headrace.notifications import notification_of
from headrace.storage import Storage
from headrace.testing.recording import RecordingBroker

R = TypeVar("R")
E = TypeVar("E")


class Harness:
    """Runs an app in a test, on storage and broker of its own, and records what flows.

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

    Raises:
        BindingError: the app was given a container of its own, which overrides cannot reach into; or a storage of which the
            harness cannot make a private one.
    """

    def __init__(self, app: Headrace, overrides: Mapping[type, object] | None = None) -> None:
        if not isinstance(app.storage, MemoryStorage | None) and not _is_sql(app.storage):
            raise BindingError(
                f"the app {app.name!r} has the storage {type(app.storage).__qualname__}, of which the harness cannot make a "
                f"private one: it knows SqlStorage and MemoryStorage. Make the app with one of these for the test, or run the "
                f"app itself on a storage of the test's own."
            )
        self._original = app
        self._overrides = dict(overrides or {})
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._handled: list[tuple[object, object]] = []
        self._broker: RecordingBroker | None = None
        self._app: Headrace | None = None
        self._dead: Sequence[DeadLetter] = ()

    @property
    def app(self) -> Headrace:
        """The running twin of the app."""
        if self._app is None:
            raise BindingError(
                "the harness is not running. Use it as `async with Harness(app) as h:`."
            )
        return self._app

    def send(
        self,
        request: Answered[R],
        *,
        correlation_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Coroutine[Any, Any, R]:
        """Send a request, as `Headrace.send` does."""
        return self.app.send(request, correlation_id=correlation_id, metadata=metadata)

    async def settle(self, timeout_seconds: float = 10.0) -> None:
        """Wait until everything that was sent has had its effects, retries included; then look for dead letters.

        Args:
            timeout_seconds: how long to wait at most; default 10.

        Raises:
            DrainTimeout: it took longer; tells what is left.
        """
        await self.app.settle(timeout_seconds)
        self._dead = tuple([letter async for letter in self.app.dead_letters.iterate()])

    def published(self, event: type[E], *, key: str | None = None) -> list[E]:
        """The notifications of a class that the broker has confirmed, in order, each once however often it was repeated.

        Args:
            event: the notification's class.
            key: only those with this key; default all.
        """
        notification = notification_of(event)
        if notification is None:
            raise BindingError(
                f"{event.__qualname__} is no notification, so it is never published. Ask handled_by(...) for domain events."
            )
        if self._broker is None:
            return []
        codec = self.app.codec
        return [
            codec.decode(message.data, event)
            for message in self._broker.distinct()
            if message.envelope.type == notification.type and key in (None, message.key)
        ]

    def handled_by(self, handler: object) -> list[object]:
        """The events that an event handler (class or function) has handled without an error, in order."""
        return [event for by, event in self._handled if by is handler]

    @property
    def dead_letters(self) -> Sequence[DeadLetter]:
        """The dead letters at the last `settle`."""
        return self._dead

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="headrace-harness-")
        try:
            self._app = self._original.variant(self._private)
            await self._app.start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.app.stop()
        finally:
            if self._folder is not None:
                self._folder.cleanup()

    def _private(self, settings: Settings) -> Settings:
        storage = self._private_storage(self._original.storage)
        broker = self._private_broker(self._original.broker)
        return structs.replace(
            settings,
            storage=storage,
            broker=broker,
            roles=frozenset(get_args(Role)),
            overrides=tuple(self._overrides.items()),
            recorder=self._record(),
        )

    def _record(self) -> Callable[[Binding, object], None]:
        def record(binding: Binding, event: object) -> None:
            self._handled.append((binding.handler, event))

        return record

    def _private_storage(self, storage: Storage | None) -> Storage | None:
        if storage is None:
            return None
        if isinstance(storage, MemoryStorage):
            return MemoryStorage()
        from headrace.drivers.sql import SqlStorage

        folder = Path(self._folder.name) if self._folder is not None else Path()
        metadata = storage.metadata if isinstance(storage, SqlStorage) else None
        return SqlStorage(f"sqlite+aiosqlite:///{folder / 'harness.db'}", metadata=metadata)

    def _private_broker(self, broker: Broker | None) -> Broker | None:
        if broker is None:
            return None
        self._broker = RecordingBroker(self._fresh_broker(broker))
        return self._broker

    def _fresh_broker(self, broker: Broker) -> Broker:
        if _is_sql(broker):
            from headrace.drivers.sql import SqlBroker

            return SqlBroker()
        return MemoryBroker()


def _is_sql(driver: object) -> bool:
    """Told by the names of its classes, so that apps without SQLAlchemy can be tested without it."""
    return any(kind.__module__.startswith("headrace.drivers.sql") for kind in type(driver).__mro__)
