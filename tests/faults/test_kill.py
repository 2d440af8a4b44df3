"""Everything survives kill -9 at any moment: real processes on one file, killed at random, judged by their history."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.app import LIMITS
from tests.faults.fleet import Fleet, seed_of_run
from tests.faults.judge import SECONDS, judge
from tests.faults.seams import SEAMS

pytestmark = pytest.mark.timeout(120 + 4 * SECONDS)


def goes_on(fleet: Fleet, kills: int, started: float) -> bool:
    return time.monotonic() - started < SECONDS if SECONDS else fleet.kills < kills


def test_one_process_is_killed_again_and_again(tmp_path: Path) -> None:
    """One process is killed 15 times and started anew: each committed event has its effects once, in order (G4 to G9)."""
    started = time.monotonic()
    with Fleet(tmp_path, seed_of_run(), pace=0.16) as fleet:
        while goes_on(fleet, 15, started):
            fleet.start()
            fleet.kill_at_random(2.0)
        judge(fleet, started)


def test_three_processes_are_killed_again_and_again(tmp_path: Path) -> None:
    """Of three processes on one file one is killed at a time, 20 times: others take over, once and in order (G4 to G9)."""
    started = time.monotonic()
    with Fleet(tmp_path, seed_of_run(), pace=0.5) as fleet:
        while goes_on(fleet, 20, started):
            while len(fleet.workers) < 3:
                fleet.start()
            fleet.kill_at_random(1.0)
        while fleet.workers:
            fleet.kill(fleet.workers[0])
        judge(fleet, started)


def test_a_process_dies_between_any_two_steps(tmp_path: Path) -> None:
    """A process that dies just before or after a commit, a publish, an attempt, ... loses and repeats nothing (G4 to G9)."""
    started = time.monotonic()
    with Fleet(tmp_path, seed_of_run(), pace=0.05, spares=0) as fleet:
        for seam in SEAMS:
            fleet.dies_at(
                seam, fleet.dice.randint(1, 6) if seam != "after making the tables" else 1
            )
        judge(fleet, started)


def test_a_process_that_hung_does_no_harm_when_it_wakes(tmp_path: Path) -> None:
    """A process that was stopped for longer than its leases, and goes on as if nothing had been, spoils nothing (G6, G7)."""
    started = time.monotonic()
    with Fleet(tmp_path, seed_of_run(), pace=0.2, spares=0) as fleet:
        for _ in range(2):
            fleet.start()
        for turn in range(4):
            for worker in fleet.workers:
                worker.running()
            time.sleep(fleet.dice.uniform(0.2, 1.0))
            fleet.workers[turn % 2].hang(2 * LIMITS.lease_seconds)
        logs = [fleet.folder / f"{worker.name}.log" for worker in fleet.workers]
        while fleet.workers:
            fleet.stop(fleet.workers[0])
        assert all("is lost" in log.read_text() for log in logs), "no lease ran out"
        judge(fleet, started)
