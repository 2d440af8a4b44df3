"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter


def description() -> str:
    """The date, the machine, its load and the versions, in one line."""
    now = datetime.now(UTC)
    facts = [
        f"{now:%Y-%m-%d %H:%M} UTC",
        f"{os.cpu_count()} cores of {_processor()}",
        f"{platform.system()} {platform.release()}",
        f"load {os.getloadavg()[0]:.1f} at the start",
        f"{platform.python_implementation()} {platform.python_version()}",
        f"SQLite {sqlite3.sqlite_version}",
        *(f"{name} {version(name)}" for name in ("headrace", "dishka", "sqlalchemy", "aiosqlite")),
    ]
    return ", ".join(facts)


def fsync_rate(folder: Path, seconds: float = 1.0) -> float:
    """How often per second the disk makes 4 KiB durable: what no commit can be faster than."""
    page = os.urandom(4096)
    count = 0
    with (folder / "fsync").open("wb", buffering=0) as file:
        began = perf_counter()
        while (taken := perf_counter() - began) < seconds:
            file.write(page)
            os.fsync(file.fileno())
            count += 1
    return count / taken


def _processor() -> str:
    try:
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = ()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
