"""What an OpenTelemetry SDK, or what is plugged into it, does wrong: told once, and of no effect on the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.telemetry.events import LogEvent

if TYPE_CHECKING:
    from headrace.telemetry.log import Logbook


class SdkFaults:
    """Takes the errors of span processors, samplers, views and the like: a send or a message never fails of them.

    Args:
        log: where the first of each type is logged.
    """

    __slots__ = ("_log", "_told")

    def __init__(self, log: Logbook) -> None:
        self._log = log
        self._told: set[type[Exception]] = set()

    def took(self, error: Exception) -> None:
        """An error was raised while something was told to OpenTelemetry."""
        if type(error) in self._told:
            return
        self._told.add(type(error))
        self._log.error(
            LogEvent.SDK_FAILED,
            f"The OpenTelemetry SDK, or what is plugged into it, raised {type(error).__name__}. The work goes on, and spans or "
            "metrics are missing. Look for a span processor or sampler of your own in the traceback. Further errors of this "
            "type are not logged.",
            error,
        )
