"""Settling: how often it looks whether all is done."""

from __future__ import annotations

from headrace.assembly.settling import POLL_MOST_SECONDS, POLL_SECONDS, pause_after


def test_looks_take_a_tenth_of_the_time() -> None:
    """A look that costs something is followed by a pause ten times as long, so that it does not slow what it waits for."""
    assert pause_after(0.05, quiet=False) == 0.5
    assert pause_after(0.0, quiet=False) == POLL_SECONDS


def test_a_slow_look_does_not_make_settling_wait_for_half_a_minute() -> None:
    """A broker that takes seconds to tell a backlog is asked again after a second."""
    assert pause_after(2.5, quiet=False) == POLL_MOST_SECONDS


def test_the_look_that_confirms_comes_at_once() -> None:
    """After a look that found nothing the next one comes at once: there is nothing left to be slowed."""
    assert pause_after(2.5, quiet=True) == POLL_SECONDS
