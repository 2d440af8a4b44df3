"""Tests document: each states its behaviour in a sentence, and says why when it does not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

TESTS = ROOT / "tests"
NEED_REASON = ("skip", "skipif", "xfail", "importorskip")


def undeclared_skips(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each skip or expected failure without a reason."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if _skips(node.func):
                first_is_reason = name == "skip" or (
                    name == "xfail" and "mark" not in ast.unparse(node.func)
                )
                reasons = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
                reasons += node.args[:1] if first_is_reason else []
                if not any(_says_something(reason) for reason in reasons):
                    yield node.lineno, ast.unparse(node.func)
            case ast.Attribute() if _skips(node) and id(node) not in called:
                yield node.lineno, ast.unparse(node)


def _skips(node: ast.expr) -> bool:
    if not isinstance(node, ast.Attribute) or node.attr not in NEED_REASON:
        return False
    owner = ast.unparse(node.value)
    return owner in {"pytest", "mark", "pytest.mark"}


def _says_something(reason: ast.expr) -> bool:
    return not isinstance(reason, ast.Constant) or bool(str(reason.value or "").strip())


def without_sentence(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each test function without a docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            if not (ast.get_docstring(node) or "").strip():
                yield node.lineno, node.name


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(TESTS.rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"), str(path))


def test_every_skip_gives_its_reason() -> None:
    """No test is skipped or expected to fail without saying why."""
    faults = [
        f"{path}:{line} {name}" for path, tree in trees() for line, name in undeclared_skips(tree)
    ]
    assert not faults, "give these a reason='...':\n" + "\n".join(faults)


def test_every_test_states_its_behaviour() -> None:
    """Each test function has a docstring: one sentence that states the behaviour."""
    faults = [
        f"{path}:{line} {name}" for path, tree in trees() for line, name in without_sentence(tree)
    ]
    assert not faults, "give these a docstring:\n" + "\n".join(faults)


@pytest.mark.parametrize(
    "code",
    [
        "@pytest.mark.skip\ndef test_it(): ...",
        "@pytest.mark.skip()\ndef test_it(): ...",
        "@pytest.mark.skipif(sys.version_info < (3, 12))\ndef test_it(): ...",
        "pytestmark = pytest.mark.xfail",
        "pytest.skip('')",
        "pytest.importorskip('aiosqlite')",
        "pytest.param(1, marks=pytest.mark.xfail(strict=True))",
    ],
)
def test_an_undeclared_skip_is_found(code: str) -> None:
    """Every spelling of a skip without a reason is found."""
    assert len(list(undeclared_skips(ast.parse(code)))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "@pytest.mark.skip(reason='why')\ndef test_it(): ...",
        "pytest.skip(f'no {server}')",
        "pytest.importorskip('aiosqlite', reason='why')",
        "parser.skip()",
    ],
)
def test_a_declared_skip_is_allowed(code: str) -> None:
    """A skip with a reason, and a method that only has the name, are left alone."""
    assert not list(undeclared_skips(ast.parse(code)))
