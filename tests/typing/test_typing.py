"""What users write checks under mypy --strict and pyright strict, and what is wrong is caught where it stands.

right/*.py have no error. In wrong/*.py each line with a comment `# E:` must be reported by both checkers and no other
line by either; words after `# E:` must occur in what one of them says about the line.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RIGHT = sorted((HERE / "right").glob("*.py"))
WRONG = sorted((HERE / "wrong").glob("*.py"))
MARK = re.compile(r"# E:(?P<fragment>.*)$")
SILENCER = re.compile(r"#\s*(type:\s*ignore|pyright:\s*(ignore|basic|strict)|mypy:)|@no_type_check")


@dataclass(slots=True)
class Report:
    """What one checker said: file -> line -> messages."""

    checker: str
    errors: dict[Path, dict[int, list[str]]] = field(default_factory=dict)

    def add(self, path: Path, line: int, message: str) -> None:
        self.errors.setdefault(path, {}).setdefault(line, []).append(message)

    def of(self, path: Path) -> dict[int, list[str]]:
        return self.errors.get(path, {})


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def mypy() -> Report:
    """One run over all cases, with the settings of a user who says no more than --strict."""
    done = tool(
        "mypy",
        "--config-file=",
        "--strict",
        "--python-version=3.11",
        "--explicit-package-bases",
        "--cache-dir=.mypy_cache/cases",
        "--output=json",
        str(HERE / "right"),
        str(HERE / "wrong"),
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    report = Report("mypy")
    for line in done.stdout.splitlines():
        found = json.loads(line)
        if found["severity"] == "error":
            path = (ROOT / found["file"]).resolve()
            report.add(path, found["line"], f"{found['message']} [{found['code']}]")
    return report


def pyright() -> Report:
    """One run over all cases, in strict mode."""
    done = tool("pyright", "--outputjson", f"--pythonpath={sys.executable}", "-p", str(HERE))
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    report = Report("pyright")
    for found in json.loads(done.stdout)["generalDiagnostics"]:
        if found["severity"] == "error":
            line = found["range"]["start"]["line"] + 1
            report.add(Path(found["file"]), line, f"{found['message']} [{found.get('rule')}]")
    return report


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    return [mypy(), pyright()]


def marks_of(source: str) -> dict[int, str]:
    """Line -> the words after its mark."""
    found = {n: MARK.search(line) for n, line in enumerate(source.splitlines(), 1)}
    return {n: match["fragment"].strip() for n, match in found.items() if match}


def faults_of(path: Path, marks: dict[int, str], reports: list[Report]) -> list[str]:
    """Where the checkers disagree with the marks."""
    faults: list[str] = []
    for report in reports:
        errors = report.of(path)
        for line in sorted(marks.keys() | errors.keys()):
            where = f"{path.name}:{line} {report.checker}"
            if line not in errors:
                faults.append(f"{where} reports nothing on a line marked # E:")
            elif line not in marks:
                faults.append(f"{where} reports an unmarked line: {' / '.join(errors[line])}")
    for line, fragment in marks.items():
        said = [message for report in reports for message in report.of(path).get(line, [])]
        if fragment and said and not any(fragment.lower() in message.lower() for message in said):
            faults.append(f"{path.name}:{line} {fragment!r} is not in: {' / '.join(said)}")
    return faults


@pytest.mark.timeout(240)
@pytest.mark.parametrize("path", RIGHT, ids=lambda path: path.stem)
def test_right_code_has_no_error(path: Path, reports: list[Report]) -> None:
    """Neither checker finds an error in code that is right."""
    marks = marks_of(path.read_text(encoding="utf-8"))
    assert not marks, "what is marked belongs into wrong/"
    faults = faults_of(path, marks, reports)
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_wrong_code_is_caught_where_it_stands(path: Path, reports: list[Report]) -> None:
    """Both checkers report exactly the marked lines."""
    marks = marks_of(path.read_text(encoding="utf-8"))
    assert marks, "no line is marked # E:"
    faults = faults_of(path, marks, reports)
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    "path", [*RIGHT, *WRONG], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_no_case_silences_a_checker(path: Path) -> None:
    """A case that needs an ignore comment shows nothing."""
    silenced = [
        line for line in path.read_text(encoding="utf-8").splitlines() if SILENCER.search(line)
    ]
    assert not silenced


def test_a_disagreement_is_found() -> None:
    """An unmarked error, a mark that one checker misses and words that nobody says are each found."""
    path = Path("case.py")
    one, other = Report("mypy"), Report("pyright")
    one.add(path, 1, "Incompatible types")
    one.add(path, 2, "Incompatible types")
    other.add(path, 2, "Type is not assignable [reportAssignmentType]")
    other.add(path, 3, "unused")
    marks = marks_of("x  # E:\ny  # E: nonsense\nz\n")
    assert faults_of(path, marks, [one, other]) == [
        "case.py:1 pyright reports nothing on a line marked # E:",
        "case.py:3 pyright reports an unmarked line: unused",
        "case.py:2 'nonsense' is not in: Incompatible types / Type is not assignable [reportAssignmentType]",
    ]
    marks = marks_of("x  # E:\ny  # E: reportAssignment\n")
    assert len(faults_of(path, marks, [one, other])) == 2
