"""docs/running.md lists what an app counts."""

from __future__ import annotations

import re

from headrace.telemetry import Count
from tests.docs.pages import ROOT


def test_every_count_is_documented_once() -> None:
    """The table of counts has a row for each, and no other."""
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(headrace\.[\w.]+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(count.value for count in Count)
