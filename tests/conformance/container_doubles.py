"""Broken containers. Each breaks one promise of the dishka adapter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar, cast

from msgspec import structs

from headrace.container import Container, Lifetime, RunningUnit, Scope
from headrace.container.dishka import DishkaContainer
from headrace.testing.conformance import ContainerKit, Recipe
from headrace.testing.conformance.container_steps import Broken, PerSend, Shared, Unit
from tests.conformance.doubles import Doubles
from tests.conformance.test_container import dishka_container

DOUBLES = Doubles()
fails = DOUBLES.fails


class Faithful(DishkaContainer):
    """Breaks nothing."""

    found_by: ClassVar[type[Exception]] = AssertionError
    """What a clause raises: an error of its own checks, so that no mistake of a double passes for its being found."""


class DoubleKit(ContainerKit):
    """Runs the clauses against one double."""

    def __init__(self, double: type[Faithful]) -> None:
        self.double = double

    async def make(self, recipes: Sequence[Recipe]) -> Container:
        return dishka_container(recipes, self.double)


class Around:
    """A scope around another."""

    def __init__(self, inner: Scope) -> None:
        self.inner = inner

    async def get(self, key: object) -> object:
        return await self.inner.get(key)

    async def close(self, error: BaseException | None) -> None:
        await self.inner.close(error)


@fails("lifetimes_are_told")
class CallsAllShort(Faithful):
    """Takes every dependency for one of a unit's."""

    def lifetime(self, key: object) -> Lifetime | None:
        found = super().lifetime(key)
        return Lifetime.REQUEST if found is not None else None


@fails("the_app_has_one")
class MakesAnother(Faithful):
    """Makes the app's dependency anew for whoever asks outside of a scope."""

    async def get(self, key: object) -> object:
        return Shared()


@fails("a_scope_has_one_of_its_own")
class OneScope(Faithful):
    """Gives all units the same dependencies."""

    kept: Scope | None = None

    def scope(self, unit: RunningUnit) -> Scope:
        self.kept = self.kept or super().scope(unit)
        return self.kept


@fails("dependencies_are_injected")
class LeavesOut(Faithful):
    """Builds things of things of its own."""

    def scope(self, unit: RunningUnit) -> Scope:
        class Alone(Around):
            async def get(self, key: object) -> object:
                return PerSend(Shared()) if key is PerSend else await super().get(key)

        return Alone(super().scope(unit))


@fails("a_scope_sees_its_own_unit")
class LastUnit(Faithful):
    """Shows every scope the same unit."""

    def scope(self, unit: RunningUnit) -> Scope:
        given = cast("Unit", unit)
        return super().scope(replace(given, envelope=structs.replace(given.envelope, id="9")))


@fails("a_scope_has_the_context_of_its_unit")
class NoContext(Faithful):
    """Forgets what the unit brings."""

    def scope(self, unit: RunningUnit) -> Scope:
        class Own(Around):
            async def get(self, key: object) -> object:
                return object() if key in unit.context else await super().get(key)

        return Own(super().scope(unit))


@fails("closing_finalizes_what_was_built", "closing_tells_the_error")
class NeverCloses(Faithful):
    """Leaves to the garbage collector what a unit has opened."""

    def scope(self, unit: RunningUnit) -> Scope:
        class Open(Around):
            async def close(self, error: BaseException | None) -> None: ...

        return Open(super().scope(unit))


@fails("closing_tells_the_error")
class ClosesInPeace(Faithful):
    """Commits, whatever has happened."""

    def scope(self, unit: RunningUnit) -> Scope:
        class Peaceful(Around):
            async def close(self, error: BaseException | None) -> None:
                await super().close(None)

        return Peaceful(super().scope(unit))


@fails("an_error_of_a_factory_is_not_wrapped")
class Wraps(Faithful):
    """Raises an error of the library's own."""

    found_by = LookupError

    def scope(self, unit: RunningUnit) -> Scope:
        class Wrapping(Around):
            async def get(self, key: object) -> object:
                try:
                    return await super().get(key)
                except ArithmeticError as error:
                    raise LookupError(f"{Broken} cannot be made") from error

        return Wrapping(super().scope(unit))


@fails("stopping_finalizes_the_apps")
class NeverStops(Faithful):
    """Ends nothing when the app stops."""

    async def stop(self) -> None: ...


@fails("it_can_be_started_again")
class GivesOutTheDead(Faithful):
    """Keeps what it has given out, also when that has ended."""

    first: object = None

    async def get(self, key: object) -> object:
        self.first = self.first or await super().get(key)
        return self.first


@fails("a_complete_graph_has_no_faults")
class Suspicious(Faithful):
    """Finds faults before anything is started."""

    def faults(self, needs: Iterable[tuple[str, object]]) -> list[str]:
        return [*super().faults(needs), "it is not started"]


@fails("what_is_missing_is_a_fault_with_its_path")
class Terse(Faithful):
    """Says that something is missing, and not for whom."""

    def faults(self, needs: Iterable[tuple[str, object]]) -> list[str]:
        return ["Nowhere is missing"] if super().faults(needs) else []
