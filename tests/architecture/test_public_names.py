"""Whatever is public is documented, at the place where it is made."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.architecture.source import PACKAGE, Module, modules_of

MODULES = modules_of(PACKAGE)
PUBLIC_PACKAGES = [
    name
    for name, module in MODULES.items()
    if module.is_package and not any(part.startswith("_") for part in name.split("."))
]


def undocumented(package: ModuleType, documented_assignments: set[str]) -> Iterator[str]:
    """What is wrong with the public names of the package, a line each."""
    names = package.__all__
    for name in names:
        if names.count(name) > 1:
            yield f"{package.__name__}.__all__ lists {name} twice"
        if not hasattr(package, name):
            yield f"{package.__name__}.__all__ lists {name}, which the package does not have"
            continue
        value = getattr(package, name)
        if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
            if not own_docstring(value):
                where = getattr(value, "__module__", package.__name__)
                yield f"{where}.{name} has no docstring"
        elif name not in documented_assignments and not name.startswith("__"):
            yield f"{package.__name__}.{name} has no docstring: put a string below its assignment"


def own_docstring(value: object) -> str | None:
    """The docstring that somebody wrote: not an inherited one, nor the signature that dataclass puts in."""
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    generated = dataclasses.is_dataclass(value) and str(text).startswith(f"{value.__name__}(")  # type: ignore[union-attr]
    return None if generated or not text or not text.strip() else text


def assignments_with_docstring(modules: dict[str, Module]) -> set[str]:
    """Module-level names such as type aliases and constants that have a string below their assignment."""
    found: set[str] = set()
    for module in modules.values():
        body = module.tree.body
        for node, after in itertools.pairwise(body):
            match node, after:
                case (
                    (
                        ast.Assign(targets=[ast.Name(id=name)])
                        | ast.AnnAssign(target=ast.Name(id=name))
                    ),
                    ast.Expr(value=ast.Constant(value=str())),
                ):
                    found.add(name)
    return found


@pytest.mark.parametrize("name", PUBLIC_PACKAGES)
def test_public_names_have_docstrings(name: str) -> None:
    """Each name in the __all__ of a public package exists and has a docstring of its own."""
    package = importlib.import_module(name)
    if not hasattr(package, "__all__"):
        # pytest puts names with an @ into the modules of a package that has a plugin.
        exports = [n for n in vars(package) if not n.startswith(("_", "@"))]
        submodules = [n for n in exports if f"{name}.{n}" in MODULES]
        assert exports == submodules, f"{name} exports names but has no __all__"
        return
    faults = list(undocumented(package, assignments_with_docstring(MODULES)))
    assert not faults, "\n" + "\n".join(faults)


def test_an_undocumented_name_is_found() -> None:
    """A missing name, a missing docstring and the docstring that dataclass generates are all found."""

    @dataclasses.dataclass
    class Generated:
        value: int

    class Parent:
        """Documented."""

    class Child(Parent):
        pass

    package = ModuleType("package")
    vars(package).update(Generated=Generated, Parent=Parent, Child=Child, Alias=int | str, LIMIT=3)
    package.__all__ = ["Generated", "Parent", "Child", "Alias", "LIMIT", "Missing"]  # type: ignore[attr-defined]
    assert [fault.rpartition(".")[2] for fault in undocumented(package, {"LIMIT"})] == [
        "Generated has no docstring",
        "Child has no docstring",
        "Alias has no docstring: put a string below its assignment",
        "__all__ lists Missing, which the package does not have",
    ]
