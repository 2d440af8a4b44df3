"""Reads the source of a package without importing it: its modules, and what each imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "headrace"


@dataclass(frozen=True, slots=True)
class Module:
    """One source file: `name` is dotted, from the package's own name on."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `from a.b import c` is a.b.c, since c may be a module."""

    target: str
    line: int
    lazy: bool
    typing_only: bool


def modules_of(package: Path) -> dict[str, Module]:
    """All modules of the package folder, by dotted name."""
    found: dict[str, Module] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return found


def imports_of(module: Module) -> list[Import]:
    """All import statements, those inside functions (lazy) and below `if TYPE_CHECKING:` too."""
    return list(_imports(module, module.tree.body, lazy=False, typing_only=False))


def _imports(
    module: Module, body: list[ast.stmt], *, lazy: bool, typing_only: bool
) -> Iterator[Import]:
    for node in body:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(alias.name, node.lineno, lazy, typing_only)
            case ast.ImportFrom(names=names):
                base = _absolute(module, node)
                for alias in names:
                    target = base if alias.name == "*" else f"{base}.{alias.name}"
                    yield Import(target, node.lineno, lazy, typing_only)
            case ast.If(test=test, body=then, orelse=otherwise) if _is_type_checking(test):
                yield from _imports(module, then, lazy=lazy, typing_only=True)
                yield from _imports(module, otherwise, lazy=lazy, typing_only=typing_only)
            case _:
                inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                yield from _imports(module, _statements(node), lazy=inside, typing_only=typing_only)


def _statements(node: ast.AST) -> list[ast.stmt]:
    """The statements directly inside a compound one, through except and case clauses."""
    found: list[ast.stmt] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            found.append(child)
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            found.extend(child.body)
    return found


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    kept = parts[: len(parts) - node.level + (1 if module.is_package else 0)]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def arrows(modules: dict[str, Module], *, typing: bool = False) -> dict[str, dict[str, int]]:
    """Which module imports which other of the package, with the line; those for type checkers alone only if `typing`."""
    graph: dict[str, dict[str, int]] = {}
    for module in modules.values():
        targets = graph.setdefault(module.name, {})
        for found in imports_of(module):
            target = found.target if found.target in modules else found.target.rpartition(".")[0]
            counts = typing or not found.typing_only
            if counts and target in modules and target != module.name:
                targets.setdefault(target, found.line)
    return graph


def cycles(graph: dict[str, dict[str, int]]) -> list[list[str]]:
    """Every cycle that a depth-first walk meets, as the path from a module back to itself."""
    done: set[str] = set()
    found: list[list[str]] = []

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
            return
        if name in done:
            return
        for target in graph[name]:
            walk(target, [*path, name])
        done.add(name)

    for name in graph:
        walk(name, [])
    return found
