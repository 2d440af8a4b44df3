"""The flow of the flights example in the docs is what the command draws, and every option has its place there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT, blocks_of

PICTURE = ROOT / "docs" / "images" / "flights-flow.svg"
PAGES = {
    "asyncapi": "asyncapi.md",
    "check": "cli.md",
    "dead drop": "dead-letters.md",
    "dead edit": "dead-letters.md",
    "dead list": "dead-letters.md",
    "dead redrive": "dead-letters.md",
    "explain": "explain.md",
    "flow": "cli.md",
    "migrate": "cli.md",
    "status": "cli.md",
    "worker": "worker.md",
}


def run(command: str) -> str:
    words = shlex.split(command)
    assert words[0] == "headrace"
    plain = {k: v for k, v in os.environ.items() if not k.startswith("FLIGHTS")}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**plain, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_picture_of_the_example_is_as_the_command_draws_it() -> None:
    """Whoever changes the example or the drawing makes it again."""
    drawn = run("headrace flow examples.flights:app --format svg")
    assert PICTURE.read_text(encoding="utf-8") == drawn, (
        f"the flow has changed; make the picture again and look at it: "
        f"headrace flow examples.flights:app -o {PICTURE.relative_to(ROOT)}"
    )


@pytest.mark.parametrize("name", ["cli.md", "asyncapi.md"])
def test_what_the_page_shows_is_what_the_command_prints(name: str) -> None:
    """A block after `<!-- printed by: COMMAND -->` is compared."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    shown = [block for block in blocks_of(page) if block.comment == "printed by"]
    assert shown
    for block in shown:
        assert run(block.reason).rstrip() == block.text.rstrip(), f"line {block.line}"


@pytest.mark.parametrize("command", PAGES)
def test_every_option_is_explained(command: str) -> None:
    """In the page of its command."""
    page = (ROOT / "docs" / PAGES[command]).read_text(encoding="utf-8")
    shown = run(f"headrace {command} --help")
    options = re.findall(r"^  (?:-\w, )?(--[\w-]+)", shown, re.MULTILINE)
    assert "--help" in options
    missing = [one for one in options if one not in page and one != "--help"]
    assert not missing
