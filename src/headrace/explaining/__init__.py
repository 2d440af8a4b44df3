"""What became of a message, or of a key: read from storage and broker, without touching the flow.

    explanation = await explain(app, "0198c0de-...")

The command `headrace explain` and the dashboard show it.
"""

from __future__ import annotations

from headrace.explaining.asking import explain
from headrace.explaining.facts import NOT_ASKED
from headrace.explaining.life import (
    Explanation,
    KeyLife,
    KeyQueue,
    LogPlace,
    MessageLife,
    Relative,
    Standing,
    Where,
)

__all__ = [
    "NOT_ASKED",
    "Explanation",
    "KeyLife",
    "KeyQueue",
    "LogPlace",
    "MessageLife",
    "Relative",
    "Standing",
    "Where",
    "explain",
]
