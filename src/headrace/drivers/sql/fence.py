"""A lease that was lost, as an error."""

from __future__ import annotations

from headrace.errors import LeaseLost
from headrace.storage import Lease


def lost(lease: Lease) -> LeaseLost:
    """The error for a lease whose token another owner has raised."""
    return LeaseLost(
        f"partition {lease.partition} of {lease.queue!r}: token {lease.token} of {lease.owner!r} is not the current one:"
        " another process has taken over, and does this work from the last commit on. Nothing was changed here; give the"
        " lease up"
    )
