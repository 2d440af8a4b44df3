"""Dependencies: where they come from, how long they live, and every fault of the graph with the path to it."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from dishka import FromComponent, Provider, Scope, make_async_container
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from headrace import Envelope, Headrace, RequestMediator
from headrace.container import Lifetime
from headrace.container.dishka import DishkaContainer, as_container, headrace_provider
from headrace.errors import BindingError, WiringError
from tests.unit.heart import Join, Log, Opened, make_app, maps


class Clock:
    pass


class Meetings:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock


class Egg:
    def __init__(self, hen: "Hen") -> None: ...


class Hen:
    def __init__(self, egg: Egg) -> None: ...


def from_app(kind: type, value: object) -> Provider:
    provider = Provider(scope=Scope.APP)
    provider.provide(lambda: value, provides=kind)
    return provider


async def test_a_class_lives_for_one_send_and_an_instance_for_the_app() -> None:
    """Section 2: providers takes classes (one object a send) and instances (one object for the app)."""
    seen: list[Meetings] = []

    async def join(request: Join, one: Meetings, two: Meetings) -> str:
        assert one is two
        seen.append(one)
        return ""

    clock = Clock()
    async with make_app((Join, join), providers=[clock, Meetings]) as app:
        await app.send(Join())
        await app.send(Join())
    assert seen[0] is not seen[1]
    assert seen[0].clock is seen[1].clock is clock


async def test_app_scoped_dependencies_are_fetched_once() -> None:
    """Section 2: an app-scoped dependency is fetched when the app starts, and not again for a send."""
    made: list[Clock] = []

    def make() -> Clock:
        made.append(Clock())
        return made[-1]

    provider = Provider(scope=Scope.APP)
    provider.provide(make, provides=Clock)

    async def join(request: Join, clock: Clock) -> str:
        assert clock is made[0]
        return ""

    async with make_app((Join, join), providers=[provider]) as app:
        assert len(made) == 1
        await app.send(Join())
        await app.send(Join())
    assert len(made) == 1


async def test_a_scope_is_opened_only_when_needed() -> None:
    """Section 2: a send opens a scope only if something in it needs one."""

    async def plain(request: Join, log: Log) -> str:
        return ""

    async def scoped(request: Join, clock: Clock) -> str:
        return ""

    for handler, expected in ((plain, 0), (scoped, 2)):
        opened = Opened(DishkaContainer([Log(), Clock]))
        async with make_app((Join, handler), container=opened) as app:
            await app.send(Join())
            await app.send(Join())
        assert opened.scopes == expected


async def test_an_uncached_app_scoped_dependency_is_made_for_each_send() -> None:
    """Section 2: what dishka is told not to cache is not held as a constant."""
    provider = Provider(scope=Scope.APP)
    provider.provide(Clock, cache=False)
    container = DishkaContainer([provider])
    assert container.lifetime(Clock) is Lifetime.REQUEST


async def test_a_component_is_told_apart() -> None:
    """Section 2: Annotated[T, FromComponent(name)] gets the dependency of that component."""
    other = Clock()
    provider = from_app(Clock, other).to_component("other")
    default = Clock()
    seen: list[object] = []

    async def join(
        request: Join, here: Clock, there: Annotated[Clock, FromComponent("other")]
    ) -> str:
        seen.extend([here, there])
        return ""

    async with make_app((Join, join), providers=[default, provider]) as app:
        await app.send(Join())
    assert seen == [default, other]


async def test_an_existing_container_is_used_and_left_open() -> None:
    """Section 2: container= takes the application's own container, one app, one pool, and does not close it."""
    closed: list[str] = []

    async def make() -> AsyncIterator[Clock]:
        yield Clock()
        closed.append("closed")

    provider = Provider(scope=Scope.APP)
    provider.provide(make, provides=Clock)
    existing = make_async_container(provider)

    async def join(request: Join, clock: Clock) -> str:
        assert clock is await existing.get(Clock)
        return "same"

    async with make_app((Join, join), container=existing) as app:
        assert await app.send(Join()) == "same"
    assert not closed
    await existing.close()
    assert closed == ["closed"]


async def test_an_existing_container_gets_the_units_objects_by_headrace_provider() -> None:
    """Section 2: headrace_provider lets factories of an existing container ask for envelope and mediator of the unit."""

    class Audit:
        def __init__(self, envelope: Envelope, mediator: RequestMediator) -> None:
            self.envelope, self.mediator = envelope, mediator

    provider = Provider(scope=Scope.REQUEST)
    provider.provide(Audit)
    existing = make_async_container(provider, headrace_provider(mediator=RequestMediator))

    async def join(request: Join, audit: Audit, envelope: Envelope, m: RequestMediator) -> str:
        assert audit.envelope is envelope
        assert audit.mediator is m
        return envelope.correlationid or ""

    async with make_app((Join, join), container=existing) as app:
        assert await app.send(Join(), correlation_id="c1") == "c1"
    await existing.close()


def test_providers_beside_a_container_are_refused() -> None:
    """G13: providers given together with a container would be dropped, so they are refused, for every kind of container."""
    for container in (make_async_container(), DishkaContainer()):
        with pytest.raises(BindingError, match="one pool"):
            as_container([Clock], container)
        with pytest.raises(BindingError, match="overrides cannot reach"):
            as_container((), container, overrides={Clock: Clock()})
    with pytest.raises(BindingError, match="neither a dishka AsyncContainer"):
        as_container((), object())


def faults(handler: Any, *providers: object, **settings: Any) -> tuple[str, ...]:
    app = make_app((Join, handler), providers=providers, **settings)
    with pytest.raises(WiringError) as raised:
        app.check()
    return raised.value.faults


def test_a_missing_dependency_is_reported_with_its_path() -> None:
    """G12: a dependency that nothing provides is reported with the path to it, each step with its file and line."""

    async def join(request: Join, meetings: Meetings) -> str:
        return ""

    (fault,) = faults(join, Meetings)
    assert re.search(
        r"join \(tests.unit.heart\.py:\d+\) -> Meetings \(tests.unit.test_container\.py:\d+\) -> "
        r"Clock: nothing provides Clock",
        fault,
    )


def test_all_missing_dependencies_are_reported_together() -> None:
    """G12: dishka stops at the first missing dependency, Headrace reports them all."""

    async def join(request: Join, clock: Clock, log: Log) -> str:
        return ""

    text = "\n".join(faults(join))
    assert "nothing provides Clock" in text
    assert "nothing provides Log" in text


@pytest.mark.parametrize("kind", [AsyncSession, AsyncConnection])
def test_a_session_without_a_storage_asks_for_a_storage(kind: type) -> None:
    """G12: not for a provider, which would make one outside of the unit of work."""

    async def join(request: Join, session: object) -> str:
        return ""

    join.__annotations__["session"] = kind
    (fault,) = faults(join)
    assert f"{kind.__name__} is that of the running unit of work" in fault
    assert "Pass storage=" in fault


def test_a_circle_of_dependencies_is_drawn() -> None:
    """G12: dependencies that go round in a circle are one fault that draws the circle."""

    async def join(request: Join, egg: Egg) -> str:
        return ""

    (fault,) = faults(join, Egg, Hen)
    assert "circle" in fault
    assert fault.count("Egg (") == 2
    assert fault.count("Hen (") == 1


def test_an_app_scoped_dependency_cannot_need_a_request_scoped_one() -> None:
    """G12: what lives as long as the app and needs something of one request is a fault that says which scope to take."""
    provider = Provider(scope=Scope.APP)
    provider.provide(Meetings)

    async def join(request: Join, meetings: Meetings) -> str:
        return ""

    text = "\n".join(faults(join, provider, Clock))
    assert "Clock lives for one request" in text


def test_a_provider_whose_constructor_does_not_resolve_is_a_fault() -> None:
    """G12: a plain class whose annotations do not resolve is reported with its place, not raised by dishka."""

    class Broken:
        def __init__(self, thing: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    async def join(request: Join) -> str:
        return ""

    (fault,) = faults(join, Broken)
    assert "Broken" in fault
    assert "test_container.py:" in fault


def test_a_container_without_the_session_names_headrace_provider(tmp_path: Any) -> None:
    """G12: an existing container whose factory needs the session is told to add headrace_provider(AsyncSession)."""
    from sqlalchemy.ext.asyncio import AsyncSession

    class Repository:
        def __init__(self, session: AsyncSession) -> None: ...

    provider = Provider(scope=Scope.REQUEST)
    provider.provide(Repository)
    container = make_async_container(provider, skip_validation=True)

    async def join(request: Join, repository: Repository) -> str:
        return ""

    text = "\n".join(
        faults(join, container=container, storage=f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    )
    assert "headrace_provider(AsyncSession)" in text


def test_a_foreign_session_is_a_fault(tmp_path: Any) -> None:
    """G12: an existing container that makes sessions of its own would write outside the unit of work; that is a fault."""
    from sqlalchemy.ext.asyncio import AsyncSession

    provider = Provider(scope=Scope.REQUEST)
    provider.provide(lambda: AsyncSession(), provides=AsyncSession)

    async def join(request: Join, session: AsyncSession) -> str:
        return ""

    text = "\n".join(
        faults(
            join,
            container=make_async_container(provider),
            storage=f"sqlite+aiosqlite:///{tmp_path / 'a.db'}",
        )
    )
    assert "outside the unit of work" in text


async def test_the_containers_own_objects_are_finalized_at_stop_and_made_anew() -> None:
    """Section 2: app-scoped dependencies are finalized when the app stops, and made again by the next start."""
    life: list[str] = []

    async def make() -> AsyncIterator[Clock]:
        life.append("made")
        yield Clock()
        life.append("finalized")

    provider = Provider(scope=Scope.APP)
    provider.provide(make, provides=Clock)

    async def join(request: Join, clock: Clock) -> str:
        return ""

    app = make_app((Join, join), providers=[provider])
    for _ in range(2):
        async with app:
            await app.send(Join())
    assert life == ["made", "finalized"] * 2


def test_a_module_with_providers_and_a_container_is_refused() -> None:
    """G13: providers of a module beside container= are refused as those of the app are."""
    from headrace import Module

    with pytest.raises(BindingError, match="of a module"):
        Headrace("m", modules=[Module("x", providers=[Clock])], container=make_async_container())


def test_nothing_is_needed_of_an_empty_app() -> None:
    """G12: an app without bindings has no faults."""
    requests, events = maps()
    Headrace("m", requests=requests, events=events).check()
