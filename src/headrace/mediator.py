"""The mediator: a request goes in, its one handler runs, its events are emitted, all of it is committed, the response comes out.

This is the heart of Headrace. `send` finds the runner that was compiled for the request's type (`runners.py`); in an app
whose units of work have something to hold (a storage, a broker, request-scoped dependencies) it comes by `_enter`, which
begins one (`units.py`) or joins the running one.

Source: "Mediator", Design Patterns (1994); "Command" and "Query" as in command-query separation, B. Meyer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from headrace.causes import Cause
from headrace.container import Container
from headrace.container.dishka import as_container
from headrace.emitter import EventEmitter
from headrace.envelope import Envelope, check_metadata
from headrace.errors import (
    AppNotRunning,
    BindingError,
    EventCycle,
    UnitOfWorkError,
    WiringError,
)
from headrace.injection import Injector
from headrace.maps import RequestMap
from headrace.messages import Answered, is_query
from headrace.middleware import Middleware, compose
from headrace.plain_calls import plain
from headrace.runners import RequestRunner, request_runner
from headrace.signatures import SignatureFault
from headrace.storage import Storage
from headrace.telemetry import LogEvent
from headrace.underway import codes_of, ended, runs_inside, suspended
from headrace.unit_of_work import UnitOfWork, doom_of
from headrace.units import Units

if TYPE_CHECKING:
    from dishka import AsyncContainer

R = TypeVar("R")


class RequestMediator:
    """Sends each request to its one handler and emits what the handler collected.

    Args:
        request_map: which handler takes which request.
        container: where dependencies come from: a dishka container, or another `headrace.container.Container`.
        emitter: takes the collected events.
        storage: makes each outermost send one transaction; None for no storage.
        middlewares: around each send, the first outermost; they wrap the unit of work, so a retry in one is a fresh unit.
        commit_wait_seconds: how long a cancelled send waits for the outcome of its COMMIT; default 30.
    """

    def __init__(
        self,
        request_map: RequestMap,
        container: Container | AsyncContainer,
        emitter: EventEmitter,
        *,
        storage: Storage | None = None,
        middlewares: Sequence[Middleware] = (),
        commit_wait_seconds: float = 30.0,
    ) -> None:
        if storage is not None and emitter.dispatcher.concurrency > 1:
            raise BindingError(
                f"EventDispatcher(concurrency={emitter.dispatcher.concurrency}) and a storage were given together: in-process "
                f"handlers share one transaction and never run in parallel. Leave concurrency at 1, or leave the storage out."
            )
        self.request_map = request_map
        self.emitter = emitter
        self.storage = storage
        self.middlewares = tuple(middlewares)
        self._container: Container = as_container((), container)
        self.units = Units(self, self._container, emitter, storage, commit_wait_seconds)
        self._telemetry = emitter.telemetry
        self.injector = self._own_injector()
        emitter.dispatcher.injector = self.injector
        self._prepared: asyncio.Lock | None = None
        self._bodies: dict[type, RequestRunner] = {}
        self.runners: dict[type, Callable[[Any], Awaitable[Any]]] = {}
        """What `send` runs for a request's type; empty unless it takes sends from outside. Always the same dictionary."""
        self.refusing = False
        """True from when the app stops until it is prepared again: nothing from outside is taken."""
        self._has_units = False
        self.active = 0
        """How many outermost sends, and units opened by hand, are under way."""
        self._outermost: Callable[[Any], Awaitable[Any]] = self._begin
        self._inner: Callable[[Any], Awaitable[Any]] = self._continue

    @plain
    def send(
        self,
        request: Answered[R],
        *,
        correlation_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        savepoint: bool = False,
    ) -> Coroutine[Any, Any, R]:
        """Run the request's handler and everything that follows from it in the process; answer the response.

        Called inside a handler it joins the running unit of work (G4).

        Args:
            request: an instance of a bound request class.
            correlation_id: ties together what one outside request causes; default: the caller's, or a fresh one.
            metadata: such as tenant or user; travels with every notification as CloudEvents extensions.
            savepoint: for a nested send: a failure undoes just this send and its events, and may be caught.

        Raises:
            HandlerNotFound: nothing is bound to the request's class; nothing was done.
            Exception: whatever the handlers raise, unwrapped; then all is rolled back.
        """
        if correlation_id is None and metadata is None and not savepoint:
            try:
                run: Callable[[Any], Any] = self.runners[type(request)]
            except KeyError:
                pass  # not prepared yet, or not bound: the way below tells which
            else:
                return run(request)  # type: ignore[no-any-return]
        return self._send(request, correlation_id, metadata, savepoint)

    async def _send(
        self,
        request: Answered[R],
        correlation_id: str | None,
        metadata: Mapping[str, str] | None,
        savepoint: bool,
    ) -> R:
        kind: type = type(request)
        runner = self.runners.get(kind) or await self._find(kind)
        checked = check_metadata(metadata) if metadata else None
        if not self._has_units:
            return cast(R, await runner(request))
        return cast(R, await self._enter(request, correlation_id, checked, savepoint))

    async def _find(self, kind: type) -> Callable[[Any], Awaitable[Any]]:
        """The runner of a request type that is not in the table: it is not compiled yet, not bound, or the app stops."""
        if self.refusing and not (self._bodies and self._inside()):
            raise self._stopped(kind)
        if kind not in self._bodies and not self.refusing:
            await self.prepare()
        if kind not in self._bodies:
            raise self.request_map.not_found(kind)
        return self._compiled(kind)

    def _compiled(self, kind: type) -> Callable[[Any], Awaitable[Any]]:
        if not self._has_units:
            return compose(self.middlewares, self._bodies[kind])
        return self._enter

    async def prepare(self) -> None:
        """Compile the runners and fetch app-scoped dependencies. The first send does it, if nothing did before.

        Raises:
            WiringError: the parameters of a handler cannot be read, or after-commit handlers have nobody to run them.
        """
        lock = self._prepared = self._prepared or asyncio.Lock()
        async with lock:
            if self.emitter.has_after_commit and self.units.after_commit is None:
                raise WiringError(
                    (
                        "a handler is bound after the commit, and a mediator made by hand has nobody to run it. Use Headrace, or "
                        "leave phase= out.",
                    )
                )
            try:
                await self._compile()
            except SignatureFault as fault:
                raise WiringError((str(fault),)) from fault
            self.refusing = False

    async def _compile(self) -> None:
        self._has_units = self._needs_units()
        for binding in self.request_map.bindings:
            if binding.message in self._bodies:
                continue
            plan = self.injector.plan(binding.handler, skip_first=binding.is_function)
            self._bodies[binding.message] = request_runner(
                binding,
                await self.injector.ready(plan),
                self.emitter,
                query=is_query(binding.message),
            )
        for event_binding in self.emitter.dispatcher.event_map.bindings:
            await self.emitter.dispatcher.prepare(event_binding.message)
        self._outermost = compose(self.middlewares, self._begin)
        self._inner = compose(self.middlewares, self._continue)
        self.runners.update((kind, self._compiled(kind)) for kind in self._bodies)

    def forget(self) -> None:
        """Drop what was compiled, and the objects that it holds (the app has stopped). Sends are refused until `prepare`."""
        self.refusing = True
        self._bodies.clear()
        self.runners.clear()
        self._prepared = None
        self.units.forget()
        self.emitter.dispatcher.forget()

    # Stopping -----------------------------------------------------------------------------------------------------------

    async def drain(self, timeout_seconds: float) -> bool:
        """Refuse new sends from outside and wait for those under way, at most so long. Answers whether all have ended."""
        self.refusing = True
        self.runners.clear()  # so that each send comes by `_find`, which refuses it or lets it join
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        waiting = [] if self._has_units else suspended(self._codes())
        while self.active or not all(ended(one) for one in waiting):
            if asyncio.get_running_loop().time() >= deadline:
                left = self.active or sum(not ended(one) for one in waiting)
                self._telemetry.warning(
                    LogEvent.DRAIN_CUT,
                    f"{left} sends were still under way {timeout_seconds:.3g} s after the stop began",
                )
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _stopped(self, kind: type) -> AppNotRunning:
        return AppNotRunning(
            f"{kind.__qualname__} was sent, but the app {self.emitter.source!r} is stopping or has stopped; nothing was done. "
            f"Send inside `async with app:` (in FastAPI: in the lifespan); only what is under way may still send."
        )

    def _inside(self) -> bool:
        return self.units.running() is not None or (
            not self._has_units and runs_inside(self._codes())
        )

    def _codes(self) -> tuple[CodeType, ...]:
        return codes_of((*self._bodies.values(), *self.middlewares))

    def _needs_units(self) -> bool:
        if (
            self.storage is not None
            or self.emitter.broker is not None
            or self.emitter.has_after_commit
            # Each handler is a task of its own: the stack would never end, so the depth of nested sends must be counted.
            or self.emitter.dispatcher.concurrency > 1
        ):
            return True
        plans = (
            self.injector.plan(b.handler, skip_first=b.is_function)
            for b in self.request_map.bindings
        )
        return any(plan.needs_unit for plan in plans) or self.emitter.dispatcher.needs_unit()

    def _own_injector(self) -> Injector:
        from_unit: dict[object, Callable[[Any], object]] = {}
        if self.storage is not None:
            from_unit.update((kind, _provide(kind)) for kind in self.storage.provides)
        from_unit[Envelope] = _envelope
        return Injector(self._container, {RequestMediator: self}, from_unit)

    # The unit of work ---------------------------------------------------------------------------------------------------

    async def _enter(
        self,
        request: object,
        correlation_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        savepoint: bool = False,
    ) -> Any:
        """A send in an app with units of work: one of its own around the middlewares' core, or a part of the running one."""
        running = self.units.running()
        if running is not None:
            return await self._nested(running, request, correlation_id, metadata, savepoint)
        send = self._outermost
        if correlation_id is not None or metadata is not None:

            def begin(message: object) -> Awaitable[Any]:
                return self._begin(message, correlation_id, metadata)

            send = compose(self.middlewares, begin)
        if self.units.throttle is not None:
            await self.units.throttle()
        self.active += 1
        try:
            return await send(request)
        finally:
            self.active -= 1

    async def _begin(
        self,
        request: object,
        correlation_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Any:
        kind: type = type(request)
        body = self._body(kind)
        cause = Cause(
            request, self.emitter.source, correlation_id=correlation_id, metadata=metadata
        )
        unit = self.units.new(cause, read_only=is_query(kind))
        return await self.units.run(unit, lambda: body(request, unit))

    def _body(self, kind: type) -> RequestRunner:
        """The runner of a request that has passed the middlewares: they may have waited, or sent on another request."""
        body = self._bodies.get(kind)
        if body is None:
            raise self._stopped(kind) if self.refusing else self.request_map.not_found(kind)
        return body

    async def _nested(
        self,
        unit: UnitOfWork,
        request: object,
        correlation_id: str | None,
        metadata: Mapping[str, str] | None,
        savepoint: bool,
    ) -> Any:
        unit.join()
        kind: type = type(request)
        if unit.read_only and not is_query(kind):
            raise UnitOfWorkError(
                f"the command {kind.__qualname__} was sent inside {type(unit.cause.message).__qualname__}, whose unit of work is "
                f"read-only. Send it outside; or make the query a Command, or the unit one that writes."
            )
        outer = unit.cause
        unit.cause = Cause(
            request, self.emitter.source, outer, correlation_id=correlation_id, metadata=metadata
        )
        unit.depth += 1
        try:
            self._check_depth(unit)
            if savepoint:
                return await self._in_savepoint(unit, request)
            return await self._inner(request)
        except BaseException as error:
            if not savepoint:
                unit.doom(doom_of(error, kind))
            raise
        finally:
            unit.depth -= 1
            unit.cause = outer

    def _continue(self, request: object) -> Awaitable[Any]:
        """The innermost of the middlewares of a nested send."""
        return self._body(type(request))(request, self.units.running())

    async def _in_savepoint(self, unit: UnitOfWork, request: object) -> Any:
        if unit.doomed is not None:  # a savepoint cannot mend what failed before it
            raise unit.doomed
        published, after = len(unit.outgoing), len(unit.after_commit)
        deferred = len(unit.deferred)
        nested = await unit.transaction.savepoint() if unit.transaction is not None else None
        try:
            response = await self._inner(request)
            if unit.doomed is not None:
                raise unit.doomed
            if nested is not None:
                await nested.release()
            return response
        except BaseException:
            del unit.outgoing[published:], unit.after_commit[after:], unit.deferred[deferred:]
            if nested is not None:
                try:
                    await nested.rollback()
                except BaseException as failed:  # what it did stands half: all goes
                    unit.doom(doom_of(failed, type(request)))
                    raise
            unit.doomed = None  # what failed is undone; a doom that the database keeps is the transaction's own
            raise

    def _check_depth(self, unit: UnitOfWork) -> None:
        if unit.depth <= (self.emitter.cycle_depth + 1) // _FRAMES_A_SEND:
            return
        names: list[str] = []
        cause: Cause | None = unit.cause
        while cause is not None:
            names.append(type(cause.message).__qualname__)
            cause = cause.parent
        raise EventCycle(
            f"nested sends are {unit.depth} deep: ... -> {' -> '.join(names[12::-1])}. A handler sends, perhaps through others, "
            f"the request that it handles. Break the circle."
        )


_FRAMES_A_SEND = 2
"""A nested send holds Python frames as follow-up events do not, so its limit is half that of generations of events."""

_POLL_SECONDS = 0.01
"""How often a stop looks whether the sends under way have ended."""


def _provide(kind: type) -> Callable[[Any], object]:
    def provide(unit: UnitOfWork) -> object:
        return unit.provide(kind)

    return provide


def _envelope(unit: UnitOfWork) -> Envelope:
    return unit.envelope
