"""The token of a lease as parameters and as an error."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.drivers.sql import parking
from headrace.drivers.sql.steps import Step
from headrace.errors import LeaseLost
from headrace.storage import Lease


def lease_values(lease: Lease) -> Mapping[str, object]:
    """The parameters that name a lease and its token."""
    return {"l_queue": lease.queue, "l_partition": lease.partition, "l_token": lease.token}


def own(lease: Lease) -> Step:
    """The step that ends its group with `Unexpected` if the lease is not its owner's any more."""
    return Step(parking.own, lease_values(lease), expects=1)


def lost(lease: Lease) -> LeaseLost:
    """The error for a lease whose token another owner has raised."""
    return LeaseLost(
        f"partition {lease.partition} of {lease.queue!r}: token {lease.token} of {lease.owner!r} is not the current one:"
        " another process has taken over, and does this work from the last commit on. Nothing was changed here; give the"
        " lease up"
    )
