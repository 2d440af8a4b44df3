"""The container adapter: dishka behind the `Container` protocol. dishka is imported only in here, when an app is assembled.

Source: dishka, https://dishka.readthedocs.io (scopes, providers, context data).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from headrace.container import Container, Lifetime, RunningUnit, Scope
from headrace.envelope import Envelope
from headrace.errors import BindingError
from headrace.signatures import where

if TYPE_CHECKING:
    from dishka import AsyncContainer, BaseScope, Provider
    from dishka.dependency_source import Factory
    from dishka.entities.key import DependencyKey
    from dishka.registry import Registry


def headrace_provider(*kinds: type, mediator: type | None = None) -> Provider:
    """A dishka provider for what Headrace gives to request-scoped dependencies.

    Put it into a container that you make yourself and pass as `Headrace(container=...)`, when its factories need the
    running unit's objects. Without `container=` Headrace adds it for you.

    Args:
        kinds: the types that the storage provides and your factories ask for, such as `AsyncSession`.
        mediator: the mediator's class, to let dependencies send nested requests.
    """
    from dishka import Provider
    from dishka import Scope as DishkaScope

    provider = Provider(scope=DishkaScope.REQUEST)
    provider.from_context(provides=RunningUnit, scope=DishkaScope.REQUEST)

    def envelope(unit: RunningUnit) -> Envelope:
        return unit.envelope

    provider.provide(envelope, provides=Envelope, cache=False)
    if mediator is not None:

        def the_mediator(unit: RunningUnit) -> object:
            return unit.mediator

        provider.provide(the_mediator, provides=mediator)
    for kind in kinds:
        provider.provide(_provide(kind), provides=kind)
    return provider


def _provide(kind: type) -> Callable[[RunningUnit], object]:
    def provide(unit: RunningUnit) -> object:
        return unit.provide(kind)

    return provide


class _Scope:
    __slots__ = ("_container",)

    def __init__(self, container: AsyncContainer) -> None:
        self._container = container

    async def get(self, key: object) -> object:
        return await _get(self._container, key)

    async def close(self, error: BaseException | None) -> None:
        await self._container.close(error)


def _get(container: AsyncContainer, key: object) -> Awaitable[object]:
    # dishka's overloads know classes only; whatever else its own `hint_to_dependency_key` understands works too.
    get = cast("Callable[..., Awaitable[object]]", container.get)
    if isinstance(key, type):
        return get(key)
    named = _dependency_key(key)
    return get(named.type_hint, named.component)


def _dependency_key(hint: object) -> DependencyKey:
    from dishka.entities.component import DEFAULT_COMPONENT
    from dishka.entities.key import hint_to_dependency_key

    return hint_to_dependency_key(hint).with_component(DEFAULT_COMPONENT)


class DishkaContainer:
    """Dependencies from dishka.

    Args:
        providers: dishka providers, plain classes (REQUEST lifetime) and instances (APP lifetime).
        kinds: types that the storage provides.
        mediator: the mediator's class.
        overrides: replacements by type, for tests: an instance, or a class to be built instead.
        existing: a container that the application already has; then there are no providers.
    """

    def __init__(
        self,
        providers: Sequence[object] = (),
        *,
        kinds: Sequence[type] = (),
        mediator: type | None = None,
        overrides: Mapping[type, object] | None = None,
        existing: AsyncContainer | None = None,
    ) -> None:
        self._kinds = tuple(kinds)
        self._mediator = mediator
        self._own = existing is None
        self._container: AsyncContainer | None = existing
        self._setup_faults: list[str] = []
        self._providers = [self._as_provider(p) for p in providers]
        self._overrides = [
            self._as_override(key, value) for key, value in (overrides or {}).items()
        ]
        self._check_overrides(overrides or {})
        if self._own:
            self._container = self._build()

    def _check_overrides(self, overrides: Mapping[type, object]) -> None:
        """An override of something that nothing provides is a slip of the pen, and the real thing would run."""
        provided = {
            f.provides.type_hint for provider in self._providers for f in provider.factories
        }
        for key in overrides:
            if key not in provided and key not in self._kinds:
                names = sorted(str(getattr(hint, "__qualname__", hint)) for hint in provided)
                raise BindingError(
                    f"overrides={{{key.__qualname__}: ...}}: nothing in the app provides {key.__qualname__}, so nothing would be "
                    f"replaced. Provided are: {', '.join(names) or 'none'}."
                )

    def _as_provider(self, given: object) -> Provider:
        from dishka import Provider
        from dishka import Scope as DishkaScope
        from dishka.provider import BaseProvider

        if isinstance(given, BaseProvider):
            return cast("Provider", given)
        provider = Provider()
        if isinstance(given, type):
            self._guarded(provider, given, given, DishkaScope.REQUEST)
        else:
            provider.provide(_constant(given), provides=type(given), scope=DishkaScope.APP)
        return provider

    def _as_override(self, key: type, value: object) -> Provider:
        from dishka import Provider
        from dishka import Scope as DishkaScope

        provider = Provider()
        if isinstance(value, type):
            self._guarded(provider, value, key, DishkaScope.REQUEST)
        else:
            provider.provide(_constant(value), provides=key, scope=DishkaScope.APP)
        return provider

    def _guarded(self, provider: Provider, source: type, provides: type, scope: BaseScope) -> None:
        try:
            provider.provide(source, provides=provides, scope=scope)
        except Exception as error:  # dishka raises several kinds for names that do not resolve and missing annotations
            self._setup_faults.append(
                f"provider {source.__qualname__} ({where(source)}) cannot be built: {error} "
                f"Give each parameter of its __init__ an annotation that resolves at run time."
            )

    def _build(self) -> AsyncContainer:
        from dishka import make_async_container

        # Validation is skipped because it stops at the first fault; `faults` reports all of them.
        own = headrace_provider(*self._kinds, mediator=self._mediator)
        return make_async_container(*self._providers, own, *self._overrides, skip_validation=True)

    @property
    def _live(self) -> AsyncContainer:
        if self._container is None:
            self._container = self._build()
        return self._container

    def lifetime(self, key: object) -> Lifetime | None:
        """See `Container.lifetime`."""
        found = _find(self._registries(), _dependency_key(key))
        if found is None:
            return None
        factory, app = found
        return Lifetime.APP if app and factory.cache else Lifetime.REQUEST

    def _registries(self) -> list[tuple[Registry, bool]]:
        """All registries, outermost first, each with whether an app-scoped object may use it."""
        container = self._live
        outer: list[tuple[Registry, bool]] = []
        at: AsyncContainer | None = container
        while at is not None:
            outer.insert(0, (at.registry, True))
            at = at.parent_container
        inner = container.registry.child_registry
        while inner is not None:
            outer.append((inner, False))
            if not inner.scope.skip:  # the first scope that is not skipped is the one a unit opens
                break
            inner = inner.child_registry
        return outer

    def faults(self, needs: Iterable[tuple[str, object]]) -> list[str]:
        """See `Container.faults`. Checks everything in the registry besides, reachable from a handler or not."""
        from headrace.container.faults import GraphFaults

        graph = GraphFaults(self._registries(), self._kinds if not self._own else ())
        return self._setup_faults + graph.all((who, _dependency_key(key)) for who, key in needs)

    async def start(self) -> None:
        """See `Container.start`."""
        _ = self._live

    async def stop(self) -> None:
        """See `Container.stop`. A container that the application passed in stays open: it is the application's."""
        if self._own and self._container is not None:
            container, self._container = self._container, None
            await container.close()

    async def get(self, key: object) -> object:
        """See `Container.get`."""
        return await _get(self._live, key)

    def scope(self, unit: RunningUnit) -> Scope:
        """See `Container.scope`."""
        return _Scope(self._live(context={**unit.context, RunningUnit: unit}))


def _find(
    registries: list[tuple[Registry, bool]], key: DependencyKey
) -> tuple[Factory, bool] | None:
    for registry, app in registries:
        factory = registry.get_factory(key)
        if factory is not None:
            return factory, app
    return None


def _constant(value: object) -> Callable[[], object]:
    def the_instance() -> object:
        return value

    return the_instance


def as_container(
    providers: Sequence[object],
    container: object | None,
    *,
    kinds: Sequence[type] = (),
    mediator: type | None = None,
    overrides: Mapping[type, object] | None = None,
) -> Container:
    """The container of an app: from providers, from a dishka container, or an object that is a `Container` already.

    Args:
        providers: see `DishkaContainer`.
        container: one that exists already, or None.
        kinds: see `DishkaContainer`.
        mediator: see `DishkaContainer`.
        overrides: see `DishkaContainer`.

    Raises:
        BindingError: both were given, or container is neither.
    """
    if container is None:
        return DishkaContainer(providers, kinds=kinds, mediator=mediator, overrides=overrides)
    needed = ("lifetime", "faults", "start", "stop", "get", "scope")
    missing = [name for name in needed if not hasattr(container, name)]
    if not missing:
        _refuse_both(providers, overrides)
        return cast(Container, container)
    from dishka import AsyncContainer

    if isinstance(container, AsyncContainer):
        _refuse_both(providers, overrides)
        return DishkaContainer(kinds=kinds, mediator=mediator, existing=container)
    raise BindingError(
        f"container={container!r} is neither a dishka AsyncContainer nor a headrace Container "
        f"(it lacks {', '.join(missing)}). Pass dishka.make_async_container(...) or implement headrace.container.Container."
    )


def _refuse_both(providers: Sequence[object], overrides: Mapping[type, object] | None) -> None:
    if providers:
        raise BindingError(
            "providers= (of the app or of a module) and container= were both given: one app, one pool. Put the providers into "
            "the container."
        )
    if overrides:
        raise BindingError(
            "overrides cannot reach into an existing container. Build the container for the test with the fakes in it."
        )
