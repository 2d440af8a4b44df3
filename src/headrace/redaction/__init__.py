"""What people may see of messages: bodies, errors and keys without the fields that are hidden.

The command line and the dashboard show the same: what `Sensitive` marks is hidden on both.
"""

from __future__ import annotations

from headrace.redaction.by_type import MARK, Redact, Redaction
from headrace.redaction.hidden import Hidden, Shown, Unusable
from headrace.redaction.seen import newest_of, sample_of, seen_errors, seen_explanation, seen_letter

__all__ = [
    "MARK",
    "Hidden",
    "Redact",
    "Redaction",
    "Shown",
    "Unusable",
    "newest_of",
    "sample_of",
    "seen_errors",
    "seen_explanation",
    "seen_letter",
]
