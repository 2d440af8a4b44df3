"""Spans of time as people say them."""

from __future__ import annotations


def for_long(seconds: float) -> str:
    """How long something takes: "0.4 s", "12 s", "3 min", "5 h", "2 d"."""
    if seconds < 0.95:
        return f"{seconds:.1f} s"
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
