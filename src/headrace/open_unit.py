"""Units of work that the caller opens: a block of code in the place of a request handler (G4).

`Headrace.unit_of_work` is the way here. A route of a web framework, a script or a test may write to the database and send
requests, and all of it commits when the block ends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar, cast

from msgspec import Struct

from headrace.causes import Cause
from headrace.envelope import Envelope, check_metadata
from headrace.errors import (
    AppNotRunning,
    BindingError,
    QueryRaisedEvent,
    UnitOfWorkClosed,
    UnitOfWorkError,
)
from headrace.handlers import Events
from headrace.mediator import RequestMediator
from headrace.messages import Answered
from headrace.unit_of_work import UnitOfWork, current_unit, doom_of

if TYPE_CHECKING:
    from headrace.units import Units

R = TypeVar("R")
T = TypeVar("T")


class UnitOpenedByHand(Struct, frozen=True):
    """Stands where the request stands in a unit that a send begins: the cause of all that follows."""


class OpenUnit:
    """A unit of work that the caller opened. What is sent, written and raised in its block commits when the block ends.

    It belongs to the task that opened it. Made by `Headrace.unit_of_work`.
    """

    __slots__ = ("_ended", "_events", "_mediator", "_unit")

    def __init__(self, mediator: RequestMediator, unit: UnitOfWork) -> None:
        self._mediator = mediator
        self._unit = unit
        self._events = Events()
        self._ended = False

    @property
    def events(self) -> Events:
        """Events that the block raises itself: append to it. They are dispatched when the block has ended, before the commit.

        Raises:
            UnitOfWorkClosed: the block has ended: nobody would dispatch them.
        """
        self._check_open("an event")
        return self._events

    def end(self) -> Events:
        """The block has ended. Answers the events that it raised."""
        self._ended = True
        return self._events

    @property
    def envelope(self) -> Envelope:
        """The envelope of the unit: its correlation id and metadata go to all that it causes."""
        return self._unit.envelope

    async def send(self, request: Answered[R], *, savepoint: bool = False) -> R:
        """Send a request as part of this unit; see `RequestMediator.send`.

        Args:
            request: an instance of a bound request class.
            savepoint: a failure undoes just this send and its events, and may be caught.

        Raises:
            UnitOfWorkClosed: the block has ended.
        """
        self._check_open(f"the send of {type(request).__qualname__}")
        return await self._mediator.send(request, savepoint=savepoint)

    async def get(self, key: type[T]) -> T:
        """What a handler would be given for a parameter of this type: the session, a dependency, one object for the unit.

        Args:
            key: the type, such as SQLAlchemy's `AsyncSession`, or of anything in `providers`.

        Raises:
            BindingError: nothing provides it.
            UnitOfWorkClosed: the block has ended.
        """
        self._check_open(f"get({_name(key)})")
        injector = self._mediator.injector
        if key in injector.from_unit:
            return cast(T, injector.from_unit[key](self._unit))
        if key in injector.constants:
            return cast(T, injector.constants[key])
        if key is Events:
            return cast(T, self._events)
        if injector.container.lifetime(key) is None:
            raise BindingError(
                f"unit.get({_name(key)}): nothing provides it. Put it into providers=[...] of the app or of a module, or into "
                f"the container; the session of a database comes with storage=..."
            )
        return cast(T, await self._unit.open_scope().get(key))

    def _check_open(self, what: str) -> None:
        if self._ended or self._unit.closed:
            raise UnitOfWorkClosed(
                f"{what} came after its unit of work had ended. Do it inside `async with app.unit_of_work() as unit:`, or send "
                f"through the app."
            )


@asynccontextmanager
async def open_unit(
    mediator: RequestMediator,
    *,
    correlation_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    read_only: bool = False,
    context: Mapping[type, object] | None = None,
) -> AsyncGenerator[OpenUnit]:
    """Open a unit of work around a block, or join the one that is running; see `Headrace.unit_of_work`.

    Args:
        mediator: runs the unit; sends through it join.
        correlation_id: see `RequestMediator.send`.
        metadata: see `RequestMediator.send`.
        read_only: nothing may be written, all is rolled back.
        context: objects for the container's scope of this unit, by type, such as a web framework's request.
    """
    checked = check_metadata(metadata) if metadata else None
    source, units = mediator.emitter.source, mediator.units
    running = units.running()
    cause = Cause(
        UnitOpenedByHand(),
        source,
        running.cause if running is not None else None,
        correlation_id=correlation_id,
        metadata=checked,
    )
    if running is not None:
        async with _joined(mediator, running, cause, read_only=read_only) as opened:
            yield opened
        return
    if mediator.refusing:
        raise AppNotRunning(
            f"a unit of work was opened, but the app {source!r} is stopping or has stopped; nothing was done. Open it inside "
            f"`async with app:`."
        )
    if not mediator.runners:
        await mediator.prepare()
    if units.throttle is not None:
        await units.throttle()
    unit = units.new(cause, read_only=read_only)
    if context:
        unit.context = context
    mediator.active += 1
    try:
        async with _committing(mediator, units, unit) as opened:
            yield opened
    finally:
        mediator.active -= 1


@asynccontextmanager
async def _committing(
    mediator: RequestMediator, units: Units, unit: UnitOfWork
) -> AsyncGenerator[OpenUnit]:
    """`Units.run` around a block in the place of a function."""
    current_unit.set(unit)
    try:
        opened = OpenUnit(mediator, unit)
        try:
            yield opened
            await _emit(mediator, opened.end(), unit, read_only=unit.read_only)
            deferred = await units.stage(unit)
        except BaseException as error:
            raising = await units.undo(unit, error)
            if raising is not error:
                raise raising from error
            raise
        cancelled = await unit.commit(wait_seconds=units.commit_wait)
    finally:
        # By value and not by token: whoever ends the block in another context has nothing of ours to undo there.
        if current_unit.get() is unit:
            current_unit.set(unit.outer)
    units.committed(unit, deferred)
    if cancelled is not None:
        raise cancelled


@asynccontextmanager
async def _joined(
    mediator: RequestMediator, unit: UnitOfWork, cause: Cause, *, read_only: bool
) -> AsyncGenerator[OpenUnit]:
    """A block within a running unit, as a nested send is: the commit is the outermost's, an error dooms it."""
    unit.join()
    if unit.read_only and not read_only:
        raise UnitOfWorkError(
            f"a unit of work was opened inside {type(unit.cause.message).__qualname__}, whose unit of work is read-only. Open it "
            f"outside, or with read_only=True."
        )
    outer, unit.cause = unit.cause, cause
    opened = OpenUnit(mediator, unit)
    try:
        yield opened
        await _emit(mediator, opened.end(), unit, read_only=read_only)
    except BaseException as error:
        unit.doom(doom_of(error, UnitOpenedByHand))
        raise
    finally:
        opened.end()
        unit.cause = outer


async def _emit(
    mediator: RequestMediator, events: Events, unit: UnitOfWork, *, read_only: bool
) -> None:
    if not events:
        return
    if read_only:
        raise QueryRaisedEvent(
            f"{type(events[0]).__qualname__} was raised in a unit of work that is read-only. Leave read_only=True out."
        )
    await mediator.emitter.emit(events, unit)


def _name(key: object) -> str:
    return str(getattr(key, "__qualname__", key))
