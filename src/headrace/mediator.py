"""The mediator: a request goes in, its one handler runs, its events are emitted, all of it is committed, the response comes out.

This is the heart of Headrace. `send` finds the runner that was compiled for the request's type (`runners.py`); in an app
whose units of work have something to hold (a storage, a broker, request-scoped dependencies) it runs inside `_in_unit`.

Source: "Mediator", Design Patterns (1994); "Command" and "Query" as in command-query separation, B. Meyer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar, cast

from headrace.causes import Cause
from headrace.container import Container
from headrace.emitter import EventEmitter
from headrace.envelope import Envelope, Message, check_metadata
from headrace.errors import BindingError, BrokerUnavailable, EventCycle, UnitOfWorkError
from headrace.injection import Injector
from headrace.maps import RequestMap
from headrace.messages import Event, Request, is_query
from headrace.middleware import Middleware, compose
from headrace.runners import EventRunner, RequestRunner, request_runner
from headrace.storage import Storage, Transaction
from headrace.telemetry import Count
from headrace.unit_of_work import UnitOfWork, current_unit

R = TypeVar("R")


class RequestMediator:
    """Sends each request to its one handler and emits what the handler collected.

    Args:
        request_map: which handler takes which request.
        container: where dependencies come from.
        emitter: takes the collected events.
        storage: makes each outermost send one transaction; None for no storage.
        middlewares: around each send, the first outermost; they wrap the unit of work, so a retry in one is a fresh unit.
        commit_wait_seconds: how long a cancelled send waits for the outcome of its COMMIT; default 30.
    """

    def __init__(
        self,
        request_map: RequestMap,
        container: Container,
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
        self.after_commit: Callable[[Sequence[tuple[Event, Cause]]], None] | None = None
        self.on_outbox: Callable[[], None] | None = None
        self._container = container
        self._commit_wait = commit_wait_seconds
        self._telemetry = emitter.telemetry
        self.injector = self._own_injector()
        emitter.dispatcher.injector = self.injector
        self._prepared: asyncio.Lock | None = None
        self._bodies: dict[type, RequestRunner] = {}
        self._runners: dict[type, Callable[[Any], Awaitable[Any]]] = {}
        self._units = False
        self._active = 0
        self._idle: asyncio.Event | None = None

    def send(
        self,
        request: Request[R],
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
        if correlation_id is None and metadata is None and savepoint is False:
            try:
                run: Callable[[Any], Any] = self._runners[type(request)]
            except KeyError:
                pass  # not prepared yet, or not bound: the way below tells which
            else:
                return run(request)  # type: ignore[no-any-return]
        return self._send(request, correlation_id, metadata, savepoint)

    async def _send(
        self,
        request: Request[R],
        correlation_id: str | None,
        metadata: Mapping[str, str] | None,
        savepoint: bool,
    ) -> R:
        if self._prepared is None or type(request) not in self._runners:
            await self.prepare()
        if type(request) not in self._runners:
            raise self.request_map.not_found(type(request))
        checked = check_metadata(metadata) if metadata else None
        if not self._units:
            return cast(R, await self._runners[type(request)](request))

        def run(message: Any) -> Awaitable[Any]:
            return self._in_unit(message, correlation_id, checked, savepoint)

        return cast(R, await compose(self.middlewares, run)(request))

    async def prepare(self) -> None:
        """Compile the runners and fetch app-scoped dependencies. The first send does it, if nothing did before."""
        lock = self._prepared = self._prepared or asyncio.Lock()
        async with lock:
            self._units = self._needs_units()
            for binding in self.request_map.bindings:
                if binding.message in self._bodies:
                    continue
                plan = self.injector.plan(binding.handler, skip_first=binding.is_function)
                body = request_runner(
                    binding,
                    await self.injector.ready(plan),
                    self.emitter,
                    query=is_query(binding.message),
                )
                self._bodies[binding.message] = body
                innermost: Callable[[Any], Awaitable[Any]] = self._in_unit if self._units else body
                self._runners[binding.message] = compose(self.middlewares, innermost)
            for event_binding in self.emitter.dispatcher.event_map.bindings:
                await self.emitter.dispatcher.prepare(event_binding.message)

    def forget(self) -> None:
        """Drop what was compiled, and the objects that it holds (the app has stopped)."""
        self._bodies.clear()
        self._runners.clear()
        self._prepared = None
        self.emitter.dispatcher.forget()

    @property
    def active(self) -> int:
        """How many outermost sends are under way."""
        return self._active

    async def idle(self, timeout_seconds: float) -> bool:
        """Wait until no unit of work is under way, at most so long. Answers whether that came."""
        if self._active == 0:
            return True
        self._idle = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            self._telemetry.warning(
                f"{self._active} sends were still under way {timeout_seconds:g} s after the stop began"
            )
            return False
        finally:
            self._idle = None
        return True

    def _needs_units(self) -> bool:
        if (
            self.storage is not None
            or self.emitter.broker is not None
            or self.emitter.has_after_commit
        ):
            return True
        plans = (
            self.injector.plan(b.handler, skip_first=b.is_function)
            for b in self.request_map.bindings
        )
        return any(plan.needs_unit for plan in plans) or self.emitter.dispatcher.needs_unit()

    def _own_injector(self) -> Injector:
        provided = self.storage.provides if self.storage is not None else {}
        from_unit: dict[object, Callable[[Any], object]] = {
            kind: _provide(kind) for kind in provided
        }
        from_unit[Envelope] = _envelope
        return Injector(self._container, {RequestMediator: self}, from_unit)

    # The unit of work ---------------------------------------------------------------------------------------------------

    async def _in_unit(
        self,
        request: Any,
        correlation_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        savepoint: bool = False,
    ) -> Any:
        running = self._running()
        if running is not None:
            return await self._nested(running, request, correlation_id, metadata, savepoint)
        cause = Cause(
            request, self.emitter.source, correlation_id=correlation_id, metadata=metadata
        )
        unit = UnitOfWork(
            self, self._container, self.storage, cause, read_only=is_query(type(request))
        )
        self._active += 1
        try:
            return await self._run(unit, lambda: self._bodies[type(request)](request, unit))
        finally:
            self._active -= 1
            if self._active == 0 and self._idle is not None:
                self._idle.set()

    async def _run(self, unit: UnitOfWork, work: Callable[[], Awaitable[R]]) -> R:
        """Run `work` as the unit's content, then commit; on any error roll back and raise it."""
        token = current_unit.set(unit)
        try:
            try:
                response = await work()
                if self.storage is None and unit.outgoing and unit.doomed is None:
                    await self._publish(unit.outgoing)
                    unit.outgoing.clear()
            except BaseException as error:
                first = unit.doomed or error
                await unit.rollback(first, telemetry=self._telemetry)
                if first is not error and isinstance(error, Exception):
                    raise first from error
                raise
            await unit.commit(wait_seconds=self._commit_wait, telemetry=self._telemetry)
        finally:
            current_unit.reset(token)
        self._committed(unit)
        return response

    def _committed(self, unit: UnitOfWork) -> None:
        try:
            if unit.outgoing and self.on_outbox is not None:
                self.on_outbox()
            if unit.after_commit and self.after_commit is not None:
                self.after_commit(unit.after_commit)
        except Exception as error:  # after a successful COMMIT nothing fails the send
            self._telemetry.count(Count.AFTER_COMMIT_FAILED)
            self._telemetry.error("a hook after the commit failed", error)

    async def _nested(
        self,
        unit: UnitOfWork,
        request: Any,
        correlation_id: str | None,
        metadata: Mapping[str, str] | None,
        savepoint: bool,
    ) -> Any:
        unit.join()
        kind = type(request)
        if unit.read_only and not is_query(kind):
            raise UnitOfWorkError(
                f"the command {kind.__qualname__} was sent inside the query {type(unit.cause.message).__qualname__}, whose unit of "
                f"work is read-only. Send it outside, or make the query a Command."
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
            return await self._bodies[kind](request, unit)
        except BaseException as error:
            if not savepoint or unit.doomed is not None:
                unit.doom(error)
            raise
        finally:
            unit.depth -= 1
            unit.cause = outer

    async def _in_savepoint(self, unit: UnitOfWork, request: Any) -> Any:
        published, deferred = len(unit.outgoing), len(unit.after_commit)
        nested = await unit.transaction.savepoint() if unit.transaction is not None else None
        try:
            response = await self._bodies[type(request)](request, unit)
            if nested is not None:
                await nested.release()
            return response
        except BaseException:
            del unit.outgoing[published:], unit.after_commit[deferred:]
            if nested is not None:
                await nested.rollback()
            if unit.transaction is None or unit.transaction.doomed is None:
                unit.doomed = None
            raise

    def _running(self) -> UnitOfWork | None:
        unit = current_unit.get()
        while unit is not None and (unit.mediator is not self or unit.closed):
            unit = unit.outer
        return unit

    def _check_depth(self, unit: UnitOfWork) -> None:
        if unit.depth <= self.emitter.cycle_depth // _FRAMES_A_SEND:
            return
        names: list[str] = []
        cause: Cause | None = unit.cause
        while cause is not None:
            names.append(type(cause.message).__qualname__)
            cause = cause.parent
        raise EventCycle(
            f"nested sends are {unit.depth} deep: ... -> {' -> '.join(names[12::-1])}. A handler sends, perhaps through others, the "
            f"request that it handles. Break the circle."
        )

    async def _publish(self, outgoing: Sequence[Message]) -> None:
        """Without storage: publish after all handlers succeeded."""
        broker = self.emitter.broker
        if broker is None:
            return
        rejected = await broker.publish(outgoing)
        if rejected:
            first = outgoing[rejected[0].index]
            raise BrokerUnavailable(
                f"the broker refused {len(rejected)} of {len(outgoing)} notifications, the first {first.envelope.type} (key "
                f"{first.key!r}): {rejected[0].reason}. Without a storage there is no outbox to keep them: they are lost."
            )

    # Consumed messages --------------------------------------------------------------------------------------------------

    async def deliver(
        self,
        run: EventRunner,
        event: object,
        message: Message,
        storage: Storage,
        begin: Callable[[Transaction], Awaitable[bool]],
    ) -> bool:
        """Run the handlers of a message from the broker as one unit of work.

        Args:
            run: the handlers of the message's type in the consuming group.
            event: the decoded message.
            message: as received; its envelope becomes the cause of what the handlers do.
            storage: where the consumer keeps its books: the app's storage if it has one.
            begin: called first with the unit's transaction (inbox, position). When it answers False, what it staged is
                committed and no handler runs.

        Returns:
            Whether the handlers ran.
        """
        unit = UnitOfWork(self, self._container, storage, Cause.received(event, message.envelope))

        async def work() -> bool:
            if unit.transaction is not None and not await begin(unit.transaction):
                return False
            await self.emitter.run_consumed(run, cast(Event, event), unit)
            return True

        return await self._run(unit, work)

    async def run_apart(self, run: EventRunner, event: Event, cause: Cause) -> None:
        """Run handlers as a unit of their own, caused by what has been committed before (after-commit handlers)."""
        unit = UnitOfWork(self, self._container, self.storage, cause)

        async def work() -> None:
            await self.emitter.run_consumed(run, event, unit)

        await self._run(unit, work)


_FRAMES_A_SEND = 2
"""A nested send holds Python frames as follow-up events do not, so its limit is half that of generations of events."""


def _provide(kind: type) -> Callable[[Any], object]:
    def provide(unit: UnitOfWork) -> object:
        return unit.provide(kind)

    return provide


def _envelope(unit: UnitOfWork) -> Envelope:
    return unit.envelope
