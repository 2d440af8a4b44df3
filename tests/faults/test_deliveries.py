"""After-commit handlers survive kill -9: what was committed is done by another process, once."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.fleet import ROOT

pytestmark = pytest.mark.timeout(60)


def process(folder: Path, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.deferring", str(folder), mode]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def finish(folder: Path) -> None:
    with process(folder, "finish") as last:
        assert last.wait() == 0


def rows(folder: Path, query: str) -> list[str]:
    with closing(sqlite3.connect(folder / "app.db")) as db:
        return [str(row[0]) for row in db.execute(query)]


EFFECTS = "SELECT what FROM effect ORDER BY id"
STORED = "SELECT attempts FROM headrace_queue"


def test_a_process_is_killed_between_the_commit_and_the_handler(tmp_path: Path) -> None:
    """G9: the delivery was stored with the commit, so another process runs the handler, once."""
    with process(tmp_path, "send") as sender:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "committed\n"
        sender.kill()
    assert rows(tmp_path, EFFECTS) == ["ordered send"]
    assert rows(tmp_path, STORED) == ["0"]
    finish(tmp_path)
    assert rows(tmp_path, EFFECTS) == ["ordered send", "mailed send"]
    assert rows(tmp_path, STORED) == []


def test_a_process_is_killed_inside_the_handler(tmp_path: Path) -> None:
    """G9: the handler starts again and its effects are there once; whoever took over has counted the attempt beforehand."""
    with process(tmp_path, "die") as dying:
        assert dying.wait() == -signal.SIGKILL
    assert rows(tmp_path, EFFECTS) == ["ordered die"]
    assert rows(tmp_path, STORED) == ["0"]
    with process(tmp_path, "again") as again:
        assert again.wait() == -signal.SIGKILL
    assert rows(tmp_path, STORED) == ["1"]
    finish(tmp_path)
    assert rows(tmp_path, EFFECTS) == ["ordered die", "mailed die"]
    assert rows(tmp_path, STORED) == []
