"""Source files are small and finished."""

from __future__ import annotations

import re

from tests.architecture.source import PACKAGE

MOST_LINES = 400
UNFINISHED = re.compile(r"\b(NotImplementedError|TODO|FIXME|XXX|HACK)\b")
SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_no_file_is_longer_than_400_lines() -> None:
    """A longer file hides two ideas."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    faults = [f"{path}: {length} lines" for path, length in lengths.items() if length > MOST_LINES]
    assert not faults, "split these, an idea a file:\n" + "\n".join(faults)


def test_nothing_is_left_unfinished() -> None:
    """No source file promises work for later."""
    faults = [
        f"{path}:{number} {match[0]}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := UNFINISHED.search(line))
    ]
    assert not faults, "finish these:\n" + "\n".join(faults)
