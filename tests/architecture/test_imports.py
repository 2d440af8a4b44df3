"""Imports point one way: see rows.py for the order."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.architecture.rows import (
    CORE,
    LAZY_THIRD_PARTY,
    ROWS,
    THIRD_PARTY,
    TYPING_THIRD_PARTY,
)
from tests.architecture.source import (
    PACKAGE,
    Import,
    Module,
    arrows,
    cycles,
    imports_of,
    modules_of,
)

HERE = "tests/architecture/rows.py"

Rows = Sequence[Sequence[str]]

# A table for the tests of the checks themselves.
FEW: Rows = (
    ("errors", "telemetry"),
    ("messages", "maps"),
    ("relay",),
    ("app",),
    ("",),
    ("drivers",),
)


def row_name(module: str) -> str:
    """The name below the package that the table knows: headrace.drivers.sql.outbox is in "drivers"."""
    return [*module.split("."), ""][1]


def row_of(module: str, rows: Rows) -> int | None:
    name = row_name(module)
    return next((index for index, row in enumerate(rows) if name in row), None)


def unknown_modules(modules: dict[str, Module], rows: Rows = ROWS) -> list[str]:
    faults: list[str] = []
    for name, targets in arrows(modules).items():
        if row_of(name, rows) is None:
            first = max((row_of(target, rows) or 0 for target in targets), default=0)
            faults.append(
                f"{name} stands in no row: add {row_name(name)!r} to {HERE}, not before {said(first, rows)},"
                " since it imports from there"
            )
    return faults


def upward_imports(modules: dict[str, Module], rows: Rows = ROWS) -> list[str]:
    faults: list[str] = []
    for source, targets in arrows(modules).items():
        for target, line in targets.items():
            below, above = row_of(source, rows), row_of(target, rows)
            if below is not None and above is not None and above > below:
                faults.append(
                    f"{modules[source].path}:{line} {source} of {said(below, rows)} imports {target} of"
                    f" {said(above, rows)}: a module imports only from its own row and the rows before it"
                )
    return faults


def said(row: int, rows: Rows) -> str:
    return f"row {row + 1} ({' '.join(rows[row]) or '__init__'})"


def import_cycles(modules: dict[str, Module]) -> list[str]:
    """Imports for type checkers count: whoever reads one file of a circle must read them all."""
    graph = arrows(modules, typing=True)
    return [
        " -> ".join(path)
        + f" (the last arrow: {modules[path[-2]].path}:{graph[path[-2]][path[-1]]})"
        for path in cycles(graph)
    ]


def foreign_imports(modules: dict[str, Module]) -> list[str]:
    """Imports of third parties by the core that rows.py does not allow."""
    core = {name for row in CORE for name in row} | {""}
    faults: list[str] = []
    for module in modules.values():
        name = row_name(module.name)
        if name not in core:
            continue
        for found in imports_of(module):
            party = found.target.split(".")[0]
            own = party == module.name.split(".")[0]
            if own or party in sys.stdlib_module_names or _allowed(name, party, found):
                continue
            why = "the core imports no third party"
            if party in LAZY_THIRD_PARTY:
                why = f"only {' '.join(LAZY_THIRD_PARTY[party])} may, and only inside functions"
            faults.append(
                f"{module.path}:{found.line} {module.name} imports {party}: {why} ({HERE})"
            )
    return faults


def _allowed(row_name: str, party: str, found: Import) -> bool:
    if found.typing_only:
        return party in TYPING_THIRD_PARTY
    lazily = found.lazy and row_name in LAZY_THIRD_PARTY.get(party, ())
    return party in THIRD_PARTY or lazily


def package(folder: Path, **sources: str) -> dict[str, Module]:
    """A package headrace in the folder; `drivers__sql` is drivers/sql.py."""
    for name, source in {"__init__": "", **sources}.items():
        path = folder / "headrace" / (name if name == "__init__" else name.replace("__", "/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(source, encoding="utf-8")
    return modules_of(folder / "headrace")


def listed(faults: list[str]) -> str:
    return "\n" + "\n".join(faults)


def test_every_module_has_a_row() -> None:
    """Each module of the package stands in a row of the table."""
    faults = unknown_modules(modules_of(PACKAGE))
    assert not faults, listed(faults)


def test_imports_point_to_earlier_rows() -> None:
    """No module imports from a later row, not even inside a function."""
    faults = upward_imports(modules_of(PACKAGE))
    assert not faults, listed(faults)


def test_there_is_no_import_cycle() -> None:
    """No module imports itself through others, not even inside a function or for type checkers."""
    faults = import_cycles(modules_of(PACKAGE))
    assert not faults, listed(faults)


def test_the_core_imports_no_third_party() -> None:
    """The core imports msgspec alone, and dishka alone in the container adapter when an app is assembled."""
    faults = foreign_imports(modules_of(PACKAGE))
    assert not faults, listed(faults)


def test_a_module_without_a_row_is_found(tmp_path: Path) -> None:
    """A module that nobody put into the table is named, with the first row that it fits into."""
    modules = package(tmp_path, errors="", maps="", surprise="from headrace import errors, maps")
    [fault] = unknown_modules(modules, FEW)
    assert fault == (
        "headrace.surprise stands in no row: add 'surprise' to tests/architecture/rows.py, not before"
        " row 2 (messages maps), since it imports from there"
    )


def test_an_upward_import_is_found(tmp_path: Path) -> None:
    """An import of a later row is named with its line, also when it is lazy, in a package or relative."""
    modules = package(
        tmp_path,
        errors="import os\nimport headrace.app",
        messages="def later():\n    try:\n        from headrace import app\n    finally: pass",
        relay="from .drivers import sql",
        maps="from headrace import Headrace",
        telemetry="from headrace.errors import HeadraceError",
        app="",
        drivers__sql="from headrace.app import Headrace\nfrom headrace import Command",
    )
    found = [
        fault.split(": a module")[0].partition(" ")[2] for fault in upward_imports(modules, FEW)
    ]
    assert found == [
        "headrace.errors of row 1 (errors telemetry) imports headrace.app of row 4 (app)",
        "headrace.maps of row 2 (messages maps) imports headrace of row 5 (__init__)",
        "headrace.messages of row 2 (messages maps) imports headrace.app of row 4 (app)",
        "headrace.relay of row 3 (relay) imports headrace.drivers.sql of row 6 (drivers)",
    ]
    assert f"{tmp_path / 'headrace' / 'errors.py'}:2 " in upward_imports(modules, FEW)[0]


def test_typing_only_imports_may_point_up(tmp_path: Path) -> None:
    """What is imported for type checkers alone may point to a later row, but makes a cycle like any other import."""
    guarded = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from headrace.app import Headrace"
    )
    modules = package(tmp_path, errors=guarded, app="")
    assert not upward_imports(modules, FEW)
    assert not import_cycles(modules)
    [fault] = import_cycles(package(tmp_path, errors=guarded, app="import headrace.errors"))
    assert fault.startswith("headrace.app -> headrace.errors -> headrace.app (the last arrow: ")


def test_a_cycle_is_found(tmp_path: Path) -> None:
    """A cycle within one row is drawn from start to end."""
    modules = package(
        tmp_path,
        handlers="from headrace.maps import EventMap",
        maps="import headrace.container",
        container="def build():\n    import headrace.handlers",
    )
    [fault] = import_cycles(modules)
    assert "headrace.container -> headrace.handlers -> headrace.maps -> headrace.container" in fault
    assert fault.endswith("maps.py:1)")


def test_a_foreign_import_is_found(tmp_path: Path) -> None:
    """The core may import msgspec anywhere, dishka lazily in the container adapter, and nothing else."""
    lazily = "def build():\n    import dishka"
    guarded = "if TYPE_CHECKING:\n    import {}"
    modules = package(
        tmp_path,
        envelope="import msgspec, json",
        container=lazily,
        app=guarded.format("dishka"),
        errors="import pydantic",
        handlers="import dishka",
        mediator=lazily,
        storage=guarded.format("sqlalchemy"),
        drivers__sql="import sqlalchemy",
    )
    assert [fault.partition(" ")[2].partition(":")[0] for fault in foreign_imports(modules)] == [
        "headrace.errors imports pydantic",
        "headrace.handlers imports dishka",
        "headrace.mediator imports dishka",
        "headrace.storage imports sqlalchemy",
    ]
