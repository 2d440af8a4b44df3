"""The dishka adapter holds what every container promises."""

from __future__ import annotations

from collections.abc import Sequence

from dishka import Provider, Scope

from headrace.container import Container, Lifetime
from headrace.container.dishka import DishkaContainer
from headrace.testing.conformance import ContainerKit, Recipe


def dishka_container(recipes: Sequence[Recipe], kind: type[DishkaContainer]) -> DishkaContainer:
    """A container of recipes."""
    provider = Provider(scope=Scope.REQUEST)
    for recipe in recipes:
        scope = Scope.APP if recipe.lifetime is Lifetime.APP else Scope.REQUEST
        if recipe.factory is None:
            provider.from_context(provides=recipe.kind, scope=scope)
        else:
            provider.provide(recipe.factory, provides=recipe.kind, scope=scope)
    return kind([provider])


class TestDishkaContainer(ContainerKit):
    async def make(self, recipes: Sequence[Recipe]) -> Container:
        return dishka_container(recipes, DishkaContainer)
