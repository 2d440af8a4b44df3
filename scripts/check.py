"""Run everything that CI runs and say at the end what passed, what failed and what was not covered.

`make check` runs all steps; `python scripts/check.py lint mypy` runs the steps named. The last line is the sum
of all pytest runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
CODE = [
    name
    for name in ("src", "tests", "scripts", "examples", "benchmarks", "engines")
    if (ROOT / name).exists()
]


@dataclass
class Tests:
    """What the pytest runs counted, and the skips with their reasons."""

    run: bool = False
    passed: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)


def tool(name: str, *arguments: str) -> bool:
    return subprocess.run([str(BIN / name), *arguments], cwd=ROOT, check=False).returncode == 0


def pytest(tests: Tests, *arguments: str) -> bool:
    tests.run = True
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [str(BIN / "python"), "-m", "pytest", "-q", f"--junit-xml={report}", *arguments],
            cwd=ROOT,
            check=False,
        )
        if not report.exists():
            tests.failed += 1
            return False
        for case in ET.parse(report).getroot().iter("testcase"):
            skip = case.find("skipped")
            if skip is not None:
                name = f"{case.get('classname')}.{case.get('name')}"
                tests.skipped.append(f"{name}: {skip.get('message')}")
            elif case.find("failure") is not None or case.find("error") is not None:
                tests.failed += 1
            else:
                tests.passed += 1
    return done.returncode == 0


def run_tests(tests: Tests) -> bool:
    """Run the tests side by side, for many wait for servers; those that kill and watch the clock come after, alone."""
    passed = pytest(tests, "-n", "3", "--dist", "loadfile", "--ignore=tests/faults", "tests")
    if any((ROOT / "tests/faults").glob("**/test_*.py")):
        passed = pytest(tests, "tests/faults") and passed
    return passed


def docs() -> bool:
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # A notice of the theme's authors about its successor.
    return tool("mkdocs", "build", "--strict", "--quiet")


def not_covered(tests: Tests) -> list[str]:
    """What a green check does not show, with the reason."""
    here = "{}.{}".format(*sys.version_info[:2])
    others = " and ".join(v for v in ("3.11", "3.12", "3.13") if v != here)
    lines = [
        f"Python {others}: this environment has {here}; make clean check PYTHON=python3.x",
        "speed: figures need a quiet machine; make bench prints them",
        "links of the documentation that lead elsewhere: they need the network; make links asks",
    ]
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]:
        if not page.exists():
            continue
        reasons = re.findall(
            r"<!-- (?:not run|by hand): (.+?) -->", page.read_text(encoding="utf-8")
        )
        lines += [f"an example in {page.relative_to(ROOT)}: {reason}" for reason in reasons]
    lines += tests.skipped
    return lines


def main(wanted: list[str]) -> int:
    tests = Tests()
    steps = {
        "format": lambda: tool("ruff", "format", "--check", "--quiet", *CODE),
        "lint": lambda: tool("ruff", "check", "--quiet", *CODE),
        "mypy": lambda: tool("mypy"),
        "pyright": lambda: tool("pyright"),
        "tests": lambda: run_tests(tests),
        "docs": docs,
    }
    if unknown := set(wanted) - set(steps):
        print(f"no step named {', '.join(sorted(unknown))}; there are {', '.join(steps)}")
        return 2
    results: list[tuple[str, bool, float]] = []
    for name in wanted or steps:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        passed = steps[name]()
        results.append((name, passed, time.monotonic() - started))
    everything_passed = all(passed for _, passed, _ in results)
    if len(results) > 1:
        print("\n== summary")
        for name, passed, seconds in results:
            print(f"  {'passed' if passed else 'FAILED'}  {name:8} {seconds:6.1f} s")
    if not wanted or tests.run:
        print("\n== not covered")
        for line in not_covered(tests):
            print(f"  {line}")
    if tests.run:
        skipped = f", {len(tests.skipped)} skipped" if tests.skipped else ""
        print(f"\n{tests.passed} passed, {tests.failed} failed{skipped}")
    return 0 if everything_passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
