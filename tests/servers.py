"""Servers for tests: `engine("postgresql")` gives a running one, or skips the test with the reason."""

from __future__ import annotations

import pytest

import engines


def engine(name: str) -> engines.Engine:
    """The shared server of this name; the test is skipped, and named at the end of the run, if there is none."""
    try:
        return engines.shared(name)
    except engines.EngineMissing as missing:
        pytest.skip(f"{name}: {missing}")
