"""What is compiled into the runners of an app besides its handlers: nothing, unless somebody looks."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.dispatcher import EventDispatcher
from headrace.middleware import Middleware
from headrace.telemetry import Telemetry
from headrace.watching import everything, failures, sends


def watch(telemetry: Telemetry, dispatcher: EventDispatcher) -> Sequence[Middleware]:
    """Look for an SDK, set what the dispatcher does about handlers; answer the middlewares that go around every send.

    Failures of consumed handlers are counted in any case.
    """
    telemetry.open()
    nobody = telemetry.tracing is None and telemetry.metering is None
    if nobody and not telemetry.observe_sends:
        dispatcher.watch, dispatcher.watch_consumed = None, failures(telemetry)
        return ()
    dispatcher.watch = dispatcher.watch_consumed = everything(telemetry)
    return (sends(telemetry),)
