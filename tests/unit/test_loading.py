"""`module:app` on the command line: the app, or an error that says what to write."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import Headrace
from headrace.cli.ending import Code, Fault
from headrace.cli.loading import load

SOURCE = """
from headrace import Headrace

app = Headrace("a")

class Box:
    app = app

def make():
    return Headrace("made")

def broken():
    raise KeyError("SETTING")

async def later():
    return app

number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with modules that no test before has imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    (tmp_path / "loaded_shop.py").write_text(SOURCE)
    (tmp_path / "loaded_needy.py").write_text("import no_such_package\n")
    (tmp_path / "loaded_package").mkdir()
    (tmp_path / "loaded_package" / "__init__.py").touch()
    (tmp_path / "loaded_package" / "main.py").write_text(SOURCE)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("loaded_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("loaded_shop:app", "a"),
        ("loaded_shop:Box.app", "a"),
        ("loaded_shop:make()", "made"),
        ("loaded_package.main:app", "a"),
    ],
)
def test_an_app_is_found(given: str, name: str) -> None:
    """By its name in a module of the current folder, by a path of names, or by calling what makes it."""
    app = load(given)
    assert isinstance(app, Headrace)
    assert app.name == name


@pytest.mark.parametrize(
    ("given", "words", "code"),
    [
        ("loaded_shop", "there is loaded_shop:app.", Code.USAGE),
        ("loaded_shop.py:app:x", "does not name an app", Code.USAGE),
        ("no_such", "does not name an app", Code.USAGE),
        ("no_such_module:app", "no module 'no_such_module'", Code.USAGE),
        ("loaded_package.other:app", "no module 'loaded_package.other'", Code.USAGE),
        ("loaded_shop.py:app", "not its file: loaded_shop:app.", Code.USAGE),
        ("./loaded_package/main.py", "not its file: loaded_package.main:app.", Code.USAGE),
        ("loaded_shop:ap", "loaded_shop has no 'ap'. It has app.", Code.USAGE),
        ("loaded_shop:Box.none", "Box has no 'none'. It has app.", Code.USAGE),
        ("loaded_shop:number.none", "3 has no 'none'.", Code.USAGE),
        ("loaded_package:main_app", "It has no app at its top.", Code.USAGE),
        ("loaded_shop:make", "write 'loaded_shop:make()'", Code.USAGE),
        ("loaded_shop:number", "is an int, not an app", Code.USAGE),
        ("loaded_shop:number()", "cannot be called. Leave the () out.", Code.USAGE),
        ("loaded_shop:later()", "is async. Make the app in a plain function.", Code.USAGE),
        ("loaded_shop:broken()", "KeyError: 'SETTING'", Code.FAULT),
        ("loaded_needy:app", "No module named 'no_such_package'", Code.FAULT),
    ],
)
def test_what_is_no_app_says_what_to_write(given: str, words: str, code: Code) -> None:
    """Each mistake has its own sentence; one of the command line is told from one within the module."""
    with pytest.raises(Fault) as caught:
        load(given)
    assert words in str(caught.value)
    assert caught.value.code is code
