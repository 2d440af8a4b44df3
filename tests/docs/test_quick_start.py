"""The quick start is one program, as its page says, and the command line sees in it what the page shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT, blocks_of

PAGE = ROOT / "docs" / "quick-start.md"


def without_lines(text: str) -> str:
    """Where a block is pasted to is the reader's choice."""
    return re.sub(r"(?<=\.py):\d+", "", text).rstrip()


def test_what_the_page_shows_is_what_the_command_prints(tmp_path: Path) -> None:
    """Looking at the program does not run it."""
    blocks = blocks_of(PAGE.read_text(encoding="utf-8"))
    program = "\n\n".join(block.text for block in blocks if block.is_python)
    (tmp_path / "quick.py").write_text(program, encoding="utf-8")
    shown = [block for block in blocks if block.comment == "printed by"]
    assert shown
    for block in shown:
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(block.reason)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=50,
            check=False,
        )
        assert without_lines(done.stdout) == without_lines(block.text), done.stderr
    assert not list(tmp_path.glob("*.db*"))
