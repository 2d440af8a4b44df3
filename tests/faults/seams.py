"""Points between two steps at which a process kills itself: where a random kill comes once in a thousand times."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.drivers.sql import SqlBroker, SqlStorage
from headrace.drivers.sql.transaction import SqlTransaction

SEAMS: dict[str, tuple[type, str, bool]] = {
    "before a commit": (SqlTransaction, "commit", False),
    "after a commit": (SqlTransaction, "commit", True),
    "before publishing": (SqlBroker, "publish", False),
    "between publishing and deleting": (SqlBroker, "publish", True),
    "after deleting what was published": (SqlStorage, "delete", True),
    "after admitting a message": (SqlTransaction, "admit", True),
    "after resuming a parked message": (SqlTransaction, "resume", True),
    "between an attempt and its handler": (SqlStorage, "attempt", True),
    "after parking a failure again": (SqlStorage, "repark", True),
    "after redriving": (SqlStorage, "redrive", True),
    "after taking leases": (SqlStorage, "lease", True),
    "after making the tables": (SqlStorage, "start", True),
}
"""By name: the class, its method, and whether the process dies after the method instead of before it."""


def arm(seam: str, times: int) -> None:
    """Kill this process when it comes to the seam for the n-th time."""
    owner, name, after = SEAMS[seam]
    method: Callable[..., Awaitable[Any]] = getattr(owner, name)
    left = times

    @functools.wraps(method)
    async def deadly(*args: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = await method(*args, **options)
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)
