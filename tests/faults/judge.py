"""The end of a run: it settles, and its history is held against the promises."""

from __future__ import annotations

import os
import time

from headrace.testing.history import Flaw, check
from tests.faults.fleet import Fleet
from tests.faults.tables import FOLLOWED, read

SECONDS = float(os.environ.get("HEADRACE_FAULTS_SECONDS", "0"))
"""A longer run, for the hunt: it goes on killing for so long. Without it a run has a fixed number of kills."""


def judge(fleet: Fleet, started: float) -> None:
    """Finish the run, and hold its history against the promises."""
    killed_after = time.monotonic() - started
    counts = fleet.finish()
    settled_after = time.monotonic() - started
    record = read(fleet.folder)
    history = record.histories["announced"]
    print(*fleet.diary, sep="; ")
    print(
        f"{fleet.kills} kills in {killed_after:.1f} s, settled after {settled_after:.1f} s, "
        f"read after {time.monotonic() - started:.1f} s; "
        f"{record.committed} facts, {len(history.acknowledged)} acknowledged, {len(history.refused)} refused, "
        f"{record.repeats} repeats in the logs; the last process {counts.strip()}"
    )
    findings = [
        f"{stage}: {finding}"
        for stage, history in record.histories.items()
        for finding in check(history)
        # After-commit handlers have no order.
        if not (stage == FOLLOWED and finding.flaw is Flaw.OUT_OF_TURN)
    ]
    again = f"HEADRACE_SEED={fleet.seed} repeats the plan; all is in {fleet.folder}"
    assert not findings, "\n".join((*findings[:20], f"{len(findings)} findings", again))
    assert not record.left, "\n".join((*record.left, again))
    assert not fleet.unexpected, f"{fleet.unexpected}\n{again}"
    assert record.committed > fleet.kills, f"hardly anything flowed\n{again}"
