"""The same flights on every pair of storage and broker that this machine has: a line each."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

import engines

STORAGES = ("sqlite", "postgresql", "mariadb")
BROKERS = ("sql", "kafka", "rabbitmq", "nats", "redis")
DAYS = "2"
"""How many days of flights each pair gets, unless DAYS says otherwise: enough to see it flow, and soon over."""


def fly_all(console: Console) -> int:
    """Fly on all pairs. Returns 0 if every pair that could be tried has reconciled, else 1."""
    failed, missing = 0, 0
    for storage in STORAGES:
        for broker in BROKERS:
            pair = f"{storage} with {broker}"
            try:
                passed, line = _fly(storage, broker)
            except engines.EngineMissing as error:
                missing += 1
                console.print(f"{pair:24} not tried: {error}", style="yellow", soft_wrap=True)
                continue
            failed += not passed
            console.print(f"{pair:24} {line}", style="green" if passed else "red", soft_wrap=True)
    tried = len(STORAGES) * len(BROKERS) - missing
    console.print(f"{tried - failed} of {tried} pairs reconciled, {missing} could not be tried")
    return 1 if failed else 0


def _fly(storage: str, broker: str) -> tuple[bool, str]:
    """One pair, in a process of its own, on a database of its own. Whether it reconciled, and a line about it."""
    url, drop = "", None
    broker_url = "sql://" if broker == "sql" else engines.shared(broker).url
    if storage != "sqlite":
        url, drop = engines.shared(storage).fresh_database()
    started = time.monotonic()
    try:
        with TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-m", "examples.flights"],
                env={
                    **os.environ,
                    "DAYS": os.environ.get("DAYS") or DAYS,
                    "STORAGE": url,
                    "BROKER": broker_url,
                    "FLIGHTS_RUN": f"-{secrets.token_hex(3)}",
                    "FLIGHTS_FOLDER": str(Path(folder)),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
    finally:
        if drop is not None:
            drop()
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    told = next(
        (line for line in reversed(lines) if "reconciled" in line), lines[-1] if lines else ""
    )
    sent = next((m[0] for line in lines if (m := re.match(r"sent .* in ([\d.]+ s)", line))), "")
    return done.returncode == 0, f"{time.monotonic() - started:5.1f} s  {sent}; {told}"
