"""Topics that cannot be published to for now, while the others flow (G6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.backoff import Backoff, Outage
from headrace.telemetry import Count

if TYPE_CHECKING:
    from headrace.telemetry import Telemetry


@dataclass(slots=True)
class _Pause:
    outage: Outage
    until: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)


class TopicPauses:
    """The pauses of one relay, each with its own growing delay.

    Args:
        telemetry: the app's.
        expected: True for the errors of infrastructure.
        now: a clock in seconds.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        expected: Callable[[BaseException], bool],
        now: Callable[[], float],
    ) -> None:
        self._telemetry = telemetry
        self._expected = expected
        self._now = now
        self._pauses: dict[str, _Pause] = {}

    def current(self) -> tuple[str, ...]:
        """The topics not to touch now. One whose pause has run out may be tried again."""
        now = self._now()
        return tuple(topic for topic, pause in self._pauses.items() if now < pause.until)

    def begin(self, topic: str, error: BaseException) -> None:
        """Pause a topic, longer each time in a row."""
        pause = self._pauses.get(topic)
        if pause is None:
            pause = self._pauses[topic] = _Pause(
                Outage(
                    f"Publishing to topic {topic!r}",
                    Count.RELAY_PAUSED,
                    self._telemetry,
                    self._expected,
                    labels={"topic": topic},
                )
            )
        pause.outage.failed(error)
        pause.until = self._now() + pause.backoff.next()

    def end(self, topic: str) -> None:
        """Something was published to the topic."""
        pause = self._pauses.pop(topic, None)
        if pause is not None:
            pause.outage.over()
