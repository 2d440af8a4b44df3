"""What every container clause stands on: the dependencies of a kit, its hooks, and steps in the words of the contract."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from headrace.container import Container, Lifetime, RunningUnit, Scope
from headrace.envelope import Envelope
from headrace.testing.conformance.kit import Kit


class Shared:
    """One for the app."""


@dataclass(eq=False)
class PerSend:
    """One for each unit of work."""

    shared: Shared


class Session:
    """One for each unit of work, and closed with it."""


@dataclass(eq=False)
class Caller:
    """Made of the unit of work that asks for it."""

    message_id: str


class Broken:
    """Cannot be made."""


class Nowhere:
    """Provided by nobody."""


@dataclass(eq=False)
class Unfinished:
    """Needs what nobody provides."""

    nowhere: Nowhere


class WebRequest:
    """Brought by whoever opens a unit of work."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A dependency that the container of a clause is to have.

    Args:
        kind: the annotation by which it is asked for.
        lifetime: how long it lives.
        factory: a class, whose constructor is injected; a function, whose parameters are; or an async generator function,
            which yields the dependency and finalizes it when it is resumed. None: it is in the context of the unit.
    """

    kind: type
    lifetime: Lifetime
    factory: Callable[..., object] | None


@dataclass(frozen=True, slots=True)
class Unit:
    """A `RunningUnit` for clauses."""

    envelope: Envelope
    mediator: object = None
    context: Mapping[type, object] = field(default_factory=dict[type, object])

    def provide(self, kind: type) -> object:
        """Nothing: there is no storage."""
        raise LookupError(kind)


def unit(message_id: str = "1", context: Mapping[type, object] | None = None) -> Unit:
    """A unit that handles the message of this id."""
    envelope = Envelope(message_id, "shop", "shop.Order", "2024-05-06T07:08:09.123456Z")
    return Unit(envelope, context=context or {})


def recipes(log: list[str]) -> list[Recipe]:
    """The dependencies of the clauses; what becomes of those that are finalized is written into the log."""

    async def shared() -> AsyncGenerator[Shared, BaseException | None]:
        yield Shared()
        log.append("shared ended")

    async def session() -> AsyncGenerator[Session, BaseException | None]:
        # Libraries tell generators of an error in one of two ways: they send it, or they throw it.
        try:
            error = yield Session()
        except Exception as thrown:
            error = thrown
        log.append(f"session ended: {error!r}")

    def caller(running: RunningUnit) -> Caller:
        return Caller(running.envelope.id)

    def broken() -> Broken:
        raise ArithmeticError("it cannot be made")

    return [
        Recipe(Shared, Lifetime.APP, shared),
        Recipe(PerSend, Lifetime.REQUEST, PerSend),
        Recipe(Session, Lifetime.REQUEST, session),
        Recipe(Caller, Lifetime.REQUEST, caller),
        Recipe(Broken, Lifetime.REQUEST, broken),
        Recipe(WebRequest, Lifetime.REQUEST, None),
    ]


class ContainerSteps(Kit):
    """The hook of `ContainerKit`, and steps that clauses share."""

    async def make(self, recipes: Sequence[Recipe]) -> Container:
        """A new container with these dependencies, and with `RunningUnit` for those that ask for it; not started."""
        raise TypeError(
            f"{type(self).__qualname__} has no make(): return a container with these recipes from it, not started"
        )

    @asynccontextmanager
    async def running(self, log: list[str] | None = None) -> AsyncGenerator[Container]:
        """A started container, stopped at the end."""
        container = await self.make(recipes([] if log is None else log))
        await container.start()
        try:
            yield container
        finally:
            await container.stop()

    @asynccontextmanager
    async def scope(
        self, container: Container, running: Unit | None = None
    ) -> AsyncGenerator[Scope]:
        """A scope, closed at the end."""
        scope = container.scope(running or unit())
        try:
            yield scope
        finally:
            await scope.close(None)
