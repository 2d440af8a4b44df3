"""The one error of this package."""

from __future__ import annotations


class EngineMissing(Exception):
    """An engine cannot be had here: the message says why, and what to do about it."""
