"""The integrations hold on the minor version before the newest, too: their tests run again, on a folder of older packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLDER = {"fastapi": "0.164", "starlette": "1.9", "pydantic-settings": "2.15"}
"""The minor version before the newest; the newest is what the environment has."""
TESTS = (
    "tests/e2e/test_fastapi.py",
    "tests/e2e/test_fastapi_dependencies.py",
    "tests/e2e/test_fastapi_problems.py",
    "tests/e2e/test_starlette.py",
    "tests/unit/integrations",
)
INSTALL_SECONDS = 60
RUN_SECONDS = 200


def older_packages() -> Path:
    """A folder with the older packages, kept for the next run; skips, with the reason, where they cannot be had."""
    wanted = [f"{name}=={version}.*" for name, version in OLDER.items()]
    folder = Path(sys.prefix) / "versions" / "-".join(f"{n}-{v}" for n, v in OLDER.items())
    if folder.exists():
        return folder
    making = folder.with_name(f"{folder.name}.{os.getpid()}")
    uv = shutil.which("uv")
    pip = [uv, "pip"] if uv else [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "install", "--quiet", "--no-deps", "--target", str(making), *wanted]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
        said = done.stderr.strip().splitlines()[-1:] if done.returncode else None
    except subprocess.TimeoutExpired:
        said = [f"no answer within {INSTALL_SECONDS} s"]
    if said is not None:
        shutil.rmtree(making, ignore_errors=True)
        pytest.skip(f"{', '.join(wanted)} could not be installed: {''.join(said)}")
    try:
        making.rename(folder)
    except OSError:  # another run was quicker
        shutil.rmtree(making)
    return folder


@pytest.mark.timeout(INSTALL_SECONDS + RUN_SECONDS + 20)
def test_the_integrations_hold_on_the_version_before() -> None:
    """Section 5: two newest minor versions of each."""
    environment = {**os.environ, "PYTHONPATH": str(older_packages())}
    program = (
        "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, *OLDER],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for given, wanted in zip(found, OLDER.values(), strict=True):
        assert given.startswith(f"{wanted}."), found
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
