"""Where each parameter of a handler comes from, found out once when the app starts."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, cast

from msgspec import Struct, field

from headrace.container import Container, Lifetime, RunningUnit
from headrace.handlers import Events
from headrace.signatures import (
    UNANNOTATED,
    Parameter,
    SignatureFault,
    name_of,
    parameters_of,
    where,
)


class Origin(enum.Enum):
    """Where an argument comes from."""

    CONSTANT = enum.auto()
    """An object that lives as long as the app."""
    UNIT = enum.auto()
    """A function of the running unit of work."""
    SCOPE = enum.auto()
    """The container's scope of the unit."""
    EVENTS = enum.auto()
    """A fresh `Events` list that collects what a function handler raises."""


class Argument(Struct, frozen=True):
    """One parameter and its origin. `value` is the constant, or the function of the unit; `key` the annotation."""

    name: str
    keyword: bool
    origin: Origin
    key: object
    value: object = None


class Plan(Struct, frozen=True):
    """How to call one handler class or function."""

    target: Callable[..., Any]
    arguments: tuple[Argument, ...]

    @property
    def needs_unit(self) -> bool:
        """True if an argument comes from the running unit or its scope."""
        return any(a.origin in (Origin.UNIT, Origin.SCOPE) for a in self.arguments)


class Injector(Struct, frozen=True):
    """Plans calls: the container, and what Headrace itself provides.

    Args:
        container: for every annotation that is not Headrace's own.
        constants: objects by annotation, such as the mediator.
        from_unit: functions of the running unit by annotation, such as the session's.
    """

    container: Container
    constants: Mapping[object, object] = field(default_factory=dict[object, object])
    from_unit: Mapping[object, Callable[[RunningUnit], object]] = field(
        default_factory=dict[object, Callable[[RunningUnit], object]]
    )

    def plan(self, target: object, *, skip_first: bool) -> Plan:
        """The plan for a class (its constructor) or a function (its parameters after the message).

        Raises:
            SignatureFault: an annotation does not resolve.
        """
        arguments: list[Argument] = []
        skipped = False
        for parameter in parameters_of(target, skip_first=skip_first):
            argument = self._argument(
                target,
                parameter,
                keyword=skipped or parameter.kind.name == "KEYWORD_ONLY",
            )
            if argument is None:
                skipped = True  # its default stays, so what follows can only be passed by name
            else:
                arguments.append(argument)
        return Plan(cast("Callable[..., Any]", target), tuple(arguments))

    def _argument(self, target: object, parameter: Parameter, *, keyword: bool) -> Argument | None:
        key, name = parameter.annotation, parameter.name
        if key is Events:
            return Argument(name, keyword, Origin.EVENTS, key)
        if key in self.constants:
            return Argument(name, keyword, Origin.CONSTANT, key, self.constants[key])
        if key in self.from_unit:
            return Argument(name, keyword, Origin.UNIT, key, self.from_unit[key])
        if key is UNANNOTATED:
            if parameter.has_default:
                return None
            raise SignatureFault(
                f"{where(target)}: the parameter {name!r} of {name_of(target)} has no annotation, so nothing can be injected. "
                f"Annotate it with the type of the dependency, or give it a default."
            )
        lifetime = self.container.lifetime(key)
        if lifetime is None and parameter.has_default:
            return None
        return Argument(
            name, keyword, Origin.SCOPE if lifetime is not Lifetime.APP else Origin.CONSTANT, key
        )

    def unprovided(self, plan: Plan) -> list[object]:
        """The annotations that the container has to provide, for `Container.faults`."""
        return [
            a.key
            for a in plan.arguments
            if a.origin is Origin.SCOPE or (a.origin is Origin.CONSTANT and a.value is None)
        ]

    async def ready(self, plan: Plan) -> Plan:
        """The plan with its constants fetched."""
        arguments: list[Argument] = []
        for a in plan.arguments:
            if a.origin is Origin.CONSTANT and a.value is None:
                a = Argument(a.name, a.keyword, a.origin, a.key, await self.container.get(a.key))
            arguments.append(a)
        return Plan(plan.target, tuple(arguments))
