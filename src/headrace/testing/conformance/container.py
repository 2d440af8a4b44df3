"""`ContainerKit`: certifies the adapter of a dependency-injection library, clause by clause."""

from __future__ import annotations

from headrace.container import Lifetime
from headrace.testing.conformance.container_steps import (
    Broken,
    Caller,
    ContainerSteps,
    Nowhere,
    PerSend,
    Recipe,
    Session,
    Shared,
    Unfinished,
    WebRequest,
    recipes,
    unit,
)
from headrace.testing.conformance.kit import holds, only, refused, same


class ContainerKit(ContainerSteps):
    """What a `headrace.container.Container` promises, a clause each.

    Subclass it in a test module and say how to make one of recipes:

        class TestMyContainer(ContainerKit):
            async def make(self, recipes: Sequence[Recipe]) -> Container:
                library = Library()
                for recipe in recipes:
                    library.provide(recipe.kind, recipe.factory, once=recipe.lifetime is Lifetime.APP)
                return MyContainer(library)

    pytest needs `asyncio_mode = "auto"`.
    """

    async def test_lifetimes_are_told(self) -> None:
        """`lifetime` tells APP from REQUEST, and None for what nothing provides."""
        async with self.running() as container:
            found = [container.lifetime(kind) for kind in (Shared, PerSend, Session, Nowhere)]
        same(found, [Lifetime.APP, Lifetime.REQUEST, Lifetime.REQUEST, None], "the lifetimes")

    async def test_the_app_has_one(self) -> None:
        """A dependency of lifetime APP is one object, also for scopes."""
        async with self.running() as container:
            first, again = await container.get(Shared), await container.get(Shared)
            async with self.scope(container) as scope:
                inside = await scope.get(Shared)
            holds(isinstance(first, Shared), f"{first!r} is no Shared")
            holds(first is again is inside, "the app's dependency is more than one object")

    async def test_a_scope_has_one_of_its_own(self) -> None:
        """A dependency of lifetime REQUEST is one object in a scope, and another in another scope."""
        async with (
            self.running() as container,
            self.scope(container) as one,
            self.scope(container) as other,
        ):
            first, again = await one.get(PerSend), await one.get(PerSend)
            holds(first is again, "a scope built the same dependency twice")
            holds(await other.get(PerSend) is not first, "two scopes share a dependency")

    async def test_dependencies_are_injected(self) -> None:
        """What is built gets its own dependencies, of either lifetime."""
        async with self.running() as container, self.scope(container) as scope:
            built = await scope.get(PerSend)
            holds(isinstance(built, PerSend), f"{built!r} is no PerSend")
            if isinstance(built, PerSend):
                holds(built.shared is await container.get(Shared), "its Shared is another one")

    async def test_a_scope_sees_its_own_unit(self) -> None:
        """`RunningUnit` is that of the scope, also while another scope is open."""
        async with (
            self.running() as container,
            self.scope(container, unit("1")) as one,
            self.scope(container, unit("2")) as other,
        ):
            callers = [await one.get(Caller), await other.get(Caller)]
        ids = [caller.message_id for caller in callers if isinstance(caller, Caller)]
        same(ids, ["1", "2"], "the messages that the scopes see")

    async def test_a_scope_has_the_context_of_its_unit(self) -> None:
        """What the unit's context brings is answered for its type."""
        request = WebRequest()
        async with (
            self.running() as container,
            self.scope(container, unit(context={WebRequest: request})) as scope,
        ):
            holds(await scope.get(WebRequest) is request, "the context's object is lost")

    async def test_closing_finalizes_what_was_built(self) -> None:
        """`close` ends what the scope has built, and nothing that it has not."""
        log: list[str] = []
        async with self.running(log) as container:
            async with self.scope(container):
                pass
            same(log, [], "what ended with a scope that had built nothing")
            async with self.scope(container) as scope:
                await scope.get(Session)
                same(log, [], "what ended before the scope")
            same(log, ["session ended: None"], "what ended with the scope")

    async def test_closing_tells_the_error(self) -> None:
        """`close(error)` lets what is finalized see the error, so that it rolls back and does not commit."""
        log: list[str] = []
        async with self.running(log) as container:
            scope = container.scope(unit())
            await scope.get(Session)
            await scope.close(ValueError("no"))
        same(log[:1], ["session ended: ValueError('no')"], "what the session was told")

    async def test_an_error_of_a_factory_is_not_wrapped(self) -> None:
        """What a factory raises comes through as it is, so that handlers' callers can catch it."""
        async with self.running() as container, self.scope(container) as scope:
            await refused(ArithmeticError, scope.get(Broken))

    async def test_stopping_finalizes_the_apps(self) -> None:
        """`stop` ends the dependencies of lifetime APP, and not before."""
        log: list[str] = []
        async with self.running(log) as container:
            await container.get(Shared)
            async with self.scope(container) as scope:
                await scope.get(PerSend)
            same(log, [], "what ended before the stop")
        same(log, ["shared ended"], "what ended with the stop")

    async def test_it_can_be_started_again(self) -> None:
        """After `stop`, `start` makes it ready again, with fresh dependencies of lifetime APP."""
        container = await self.make(recipes([]))
        await container.start()
        first = await container.get(Shared)
        await container.stop()
        await container.start()
        try:
            holds(await container.get(Shared) is not first, "what had ended is given out again")
        finally:
            await container.stop()

    async def test_a_complete_graph_has_no_faults(self) -> None:
        """`faults` finds nothing where nothing is missing, before the start too."""
        container = await self.make(recipes([]))
        same(container.faults([("handler (shop.py:1)", PerSend)]), [], "the faults")

    async def test_what_is_missing_is_a_fault_with_its_path(self) -> None:
        """`faults` names what nothing provides, and draws the path from who needs it."""
        unfinished = Recipe(Unfinished, Lifetime.REQUEST, Unfinished)
        container = await self.make([*recipes([]), unfinished])
        fault = only(container.faults([("handler (shop.py:1)", Unfinished)]))
        for name in ("handler (shop.py:1)", "Unfinished", "Nowhere"):
            holds(name in fault, f"the fault does not name {name}: {fault}")
