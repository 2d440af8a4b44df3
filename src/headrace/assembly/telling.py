"""What a running process tells others of itself, besides its logs: its pulse, and gauges where metrics are collected."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from headrace.assembly.pulse import Heartbeat

if TYPE_CHECKING:
    from headrace.assembly.parts import Parts
    from headrace.storage import Storage


def tell(parts: Parts, storage: Storage, owner: str, stack: AsyncExitStack) -> None:
    """Start to tell, in the background; `stack` ends it."""
    heartbeat = Heartbeat(parts, storage, owner)
    heartbeat.start()
    stack.push_async_callback(heartbeat.stop)
    if parts.telemetry.metering is not None:
        from headrace.assembly.gauges import Gauges

        gauges = Gauges(parts, storage, parts.telemetry.metering)
        gauges.start()
        stack.push_async_callback(gauges.stop)
