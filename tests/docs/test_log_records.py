"""docs/telemetry.md has a table of all log records, and the code writes no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from headrace.logs import FIELDS
from headrace.telemetry import Count, LogEvent
from headrace.telemetry.records import MESSAGE, RECORDS
from tests.architecture.source import PACKAGE, modules_of
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
MODULES = {
    path: module
    for module in modules_of(PACKAGE).values()
    if (path := module.path.relative_to(PACKAGE).as_posix()).split("/")[0] != "telemetry"
}

SPREAD = {"about": set(MESSAGE), "fields_of": {"group", "topic", "handler", *MESSAGE}}
"""What functions answer that calls unfold: `**about(envelope)`."""

LOGGERS = {
    "cli/dead/commands.py",  # keeps warnings from standing between the lines of an answer
}
"""Who takes a logger and writes nothing to it."""


def calls() -> Iterator[tuple[str, ast.Call, LogEvent]]:
    """Every call that logs an event which it names, with its place."""
    for path, module in MODULES.items():
        for node in ast.walk(module.tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="info" | "warning" | "error"),
                    args=[ast.Attribute(value=ast.Name("LogEvent"), attr=name), *_],
                ):
                    yield f"{path}:{node.lineno}", node, LogEvent[name]


def unfolded(value: ast.expr) -> set[str]:
    """The names that `**value` gives."""
    match value:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return SPREAD[name]
        case _:
            raise AssertionError(f"write the fields out, or add to SPREAD: {ast.unparse(value)}")


def test_every_kind_of_record_stands_in_the_page_as_in_the_code() -> None:
    """Section 2: name, level, meaning and fields."""
    rows = [
        f"| `{event}` | {', '.join(record.levels)} | {record.about} | {', '.join(f'`{f}`' for f in record.fields)} |"
        for event, record in RECORDS.items()
    ]
    _, _, logs = PAGE.partition("\n## Logs\n")
    assert [line for line in logs.splitlines() if line.startswith("| `")] == rows


def test_the_table_has_every_kind_of_record() -> None:
    """Section 2: a name without a row would be a record that nobody can look up."""
    assert list(RECORDS) == list(LogEvent)


def test_what_is_counted_and_logged_has_one_name() -> None:
    """Section 2: whoever sees a record finds its rate under the same name."""
    for event in LogEvent:
        count = Count.__members__.get(event.name)
        assert count is None or count.value == event.value
        assert (event.value in set(Count)) == (count is not None)


def test_every_kind_of_record_is_written_somewhere() -> None:
    """Section 2: the table promises nothing that never comes."""
    named = {
        node.attr
        for module in MODULES.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "LogEvent"
    }
    # Written within the package of telemetry itself.
    named |= {"SDK_FAILED"}
    assert named == {event.name for event in LogEvent}


def test_records_have_the_levels_and_fields_of_the_table() -> None:
    """Section 2: at every call that names its event."""
    faults: list[str] = []
    for place, call, event in calls():
        record = RECORDS[event]
        assert isinstance(call.func, ast.Attribute)
        if (level := call.func.attr.upper()) not in record.levels:
            faults.append(f"{place}: {event} is not logged at {level}")
        for keyword in call.keywords:
            given = {keyword.arg} if keyword.arg is not None else unfolded(keyword.value)
            if more := given - set(record.fields):
                faults.append(f"{place}: {event} has no {', '.join(sorted(map(str, more)))}")
    assert not faults, "mend headrace.telemetry.records and the page:\n" + "\n".join(faults)


def test_nothing_is_logged_but_by_telemetry() -> None:
    """Section 2: a logger of one's own would write records without a name."""
    users = {
        path
        for path, module in MODULES.items()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr == "getLogger"
    }
    assert users == LOGGERS


@pytest.mark.parametrize("event", LogEvent)
def test_its_fields_can_be_named_in_a_format(event: LogEvent) -> None:
    """Section 2: all but the key, which may be personal."""
    assert set(RECORDS[event].fields) <= {*FIELDS, "key"}
