"""All faults of a dishka graph at once: dishka itself stops at the first."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from types import FunctionType
from typing import TYPE_CHECKING, Final, cast

from headrace.signatures import where

if TYPE_CHECKING:
    from dishka.dependency_source import Factory
    from dishka.entities.key import DependencyKey
    from dishka.registry import Registry

_OF_SQL_STORAGES: Final = frozenset(
    {"sqlalchemy.ext.asyncio.session.AsyncSession", "sqlalchemy.ext.asyncio.engine.AsyncConnection"}
)
"""What storages in a database provide, by name: the core knows no driver."""


class GraphFaults:
    """Walks the factories of registries, outermost first.

    Args:
        registries: with each, whether it belongs to the app's lifetime.
        storage_kinds: types that must come from the storage; a factory of the user's own for one is a fault, because what
            it makes would be outside the unit of work.
    """

    def __init__(
        self, registries: list[tuple[Registry, bool]], storage_kinds: Iterable[type]
    ) -> None:
        self._registries = registries
        self._storage_kinds = frozenset(storage_kinds)
        self._done: set[tuple[object, int]] = set()
        self._faults: dict[str, None] = {}
        self._around: list[tuple[object, str]] = []

    def all(self, needs: Iterable[tuple[str, DependencyKey]]) -> list[str]:
        """The faults on the way to what is needed and in every other factory."""
        for who, key in needs:
            self._walk(key, len(self._registries) - 1, [who])
        for level, (registry, _) in enumerate(self._registries):
            for key, factory in list(registry.factories.items()):
                if factory.provides == key:
                    self._walk(key, level, [])
        self._foreign_storage()
        return list(self._faults)

    def _walk(self, key: DependencyKey, level: int, path: list[str]) -> None:
        name = _name(key)
        found = self._find(key, level)
        if found is not None:
            name += _made_at(found[0])
        around = [known for known, _ in self._around]
        if (key, level) in around:
            circle = [drawn for _, drawn in self._around[around.index((key, level)) :]]
            first = circle.index(min(circle))  # one circle is one fault, wherever it was entered
            drawn = " -> ".join([*circle[first:], *circle[:first], circle[first]])
            self._faults[
                f"dependencies go round in a circle: {drawn}. Let one of them do without the other."
            ] = None
            return
        if (key, level) in self._done or key.is_const() or key.is_type_var():
            return
        if found is None:
            self._missing(key, level, [*path, name])
            return
        factory, own_level = found
        self._around.append(((key, level), name))
        for dependency in (*factory.dependencies, *factory.kw_dependencies.values()):
            self._walk(dependency, own_level, [*path, name])
        self._around.pop()
        self._done.add((key, level))

    def _find(self, key: DependencyKey, level: int) -> tuple[Factory, int] | None:
        for at in range(level + 1):
            factory = self._registries[at][0].get_factory(key)
            if factory is not None:
                return factory, at
        return None

    def _missing(self, key: DependencyKey, level: int, path: list[str]) -> None:
        drawn = " -> ".join(path)
        shorter = self._find(key, len(self._registries) - 1)
        if shorter is not None:
            self._faults[
                f"{drawn}: {_name(key)} lives for one request, but something that lives as long as the app needs it. "
                f"Give what needs it the REQUEST scope."
            ] = None
            return
        if key.type_hint in self._storage_kinds:
            self._faults[
                f"{drawn}: the container does not provide {_name(key)}, which belongs to the running unit of work. Add "
                f"headrace_provider({_name(key)}) to the container that you pass."
            ] = None
            return
        if f"{_module(key)}.{_name(key)}" in _OF_SQL_STORAGES:
            self._faults[
                f"{drawn}: {_name(key)} is that of the running unit of work, and comes with a storage in a database, which this "
                f'app does not have. Pass storage=..., such as "sqlite+aiosqlite:///app.db".'
            ] = None
            return
        known = sorted({_name(k) for registry, _ in self._registries for k in registry.factories})
        near = difflib.get_close_matches(_name(key), known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        self._faults[
            f"{drawn}: nothing provides {_name(key)}. Add it to providers=[...].{hint}"
        ] = None

    def _foreign_storage(self) -> None:
        for registry, _ in self._registries:
            for key, factory in registry.factories.items():
                if key.type_hint in self._storage_kinds and not _is_headrace(factory):
                    self._faults[
                        f"the container provides {_name(key)} itself{_made_at(factory)}: what is written through it is outside "
                        f"the unit of work. Replace that provider by headrace_provider({_name(key)})."
                    ] = None


def _module(key: DependencyKey) -> str:
    return str(getattr(key.type_hint, "__module__", ""))


def _is_headrace(factory: Factory) -> bool:
    return str(getattr(factory.source, "__module__", "")).startswith("headrace.")


def _name(key: DependencyKey) -> str:
    hint = key.type_hint
    name = getattr(hint, "__qualname__", None) or str(hint)
    return name if not key.component else f"{name} (component {key.component!r})"


def _made_at(factory: Factory) -> str:
    source = cast(object, factory.source)
    return f" ({where(source)})" if isinstance(source, type | FunctionType) else ""
