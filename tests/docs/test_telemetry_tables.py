"""docs/telemetry.md is the table of everything that leaves Headrace, and the code uses no other names."""

from __future__ import annotations

import re

import pytest

from headrace.logs import FIELDS
from headrace.telemetry.names import ABOUT, METRICS, SPANS, Attribute
from tests.architecture.source import PACKAGE
from tests.docs.pages import ROOT, prose_of

PAGE = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
METERED, _, _ = PAGE.partition("\n## Logs\n")
"""The page without the log records, which `test_log_records` compares."""

NAME = re.compile(r"[\"'](?:messaging|headrace)\.[a-z_]+(?:\.[a-z_]+)*[\"']")
"""A name of OpenTelemetry in the source: small letters, dots, nothing else."""

OTHERS = {"headrace.kafka", "headrace.unreadable"}
"""A logger and an event type."""

NO_NAMES = re.compile(r"[\"']headrace\.(?:drivers|integrations|telemetry|testing)\b[\w.]*[\"']")
"""Modules that are imported by name."""


def code(found: tuple[Attribute, ...]) -> str:
    return ", ".join(f"`{one}`" for one in found)


def test_every_span_stands_in_the_page_as_in_the_code() -> None:
    """Section 2: name, kind, description and attributes."""
    rows = [f"| `{s.name}` | {s.kind} | {s.about} | {code(s.attributes)} |" for s in SPANS]
    assert [line for line in METERED.splitlines() if re.match(r"\| `\w+ \{", line)] == rows


def test_every_metric_stands_in_the_page_as_in_the_code() -> None:
    """Section 2: name, unit, description and attributes."""
    rows = [f"| `{m.name}` | {m.unit} | {m.about} | {code(m.attributes)} |" for m in METRICS]
    listed = [
        line for line in METERED.splitlines() if line.startswith("| `") and line.count("|") == 5
    ]
    assert [line for line in listed if "{" not in line.split("|")[1]] == rows


def test_every_attribute_stands_in_the_page_as_in_the_code() -> None:
    """Section 2: name and meaning."""
    rows = [f"| `{one}` | {ABOUT[one]} |" for one in Attribute]
    listed = [
        line for line in METERED.splitlines() if line.startswith("| `") and line.count("|") == 3
    ]
    assert listed == rows


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_of_log_records_stands_in_the_page(field: str) -> None:
    """Section 2: what a format string may name."""
    assert re.search(rf"The fields are [^\n]*(\n[^\n]+)*`{field}`", PAGE)
    assert prose_of(PAGE)


def test_names_are_spelled_in_telemetry_alone() -> None:
    """Section 2: one module has all names; a name elsewhere would be missing in the table."""
    faults = [
        f"{path.relative_to(PACKAGE)}:{number} {match[0]}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if "telemetry" not in path.relative_to(PACKAGE).parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in NAME.finditer(NO_NAMES.sub("", line))
        if (name := match[0].strip("\"'")) not in OTHERS and not is_module(name)
    ]
    assert not faults, "take the name from headrace.telemetry.names:\n" + "\n".join(faults)


def is_module(name: str) -> bool:
    """True if this is the name of a module of the package, as in `import_module("headrace.consumer")`."""
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path.is_dir() or path.with_suffix(".py").is_file()
