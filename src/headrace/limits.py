"""How much an app takes on at once, and how long it waits: every bound in one place (G11)."""

from __future__ import annotations

from dataclasses import dataclass, fields

from headrace.errors import ConfigurationError

_MAY_BE_ZERO = frozenset({"drain_seconds", "linger_seconds"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one app.

    Args:
        cycle_depth: generations of follow-up events in a chain before `EventCycle`; of nested sends, which fill the interpreter's
            stack, half as many. Default 100: far deeper than any chain that is meant.
        drain_seconds: how long stopping lets the running work finish before it is cancelled and left for redelivery (G10).
            Default 10: most handlers end by then, and orchestrators kill after 30.
        body_bytes: the largest encoded event that `send` accepts, in bytes. Default 1 MiB (1 048 576): what Kafka and NATS
            accept as they come.
        batch: outbox rows that the relay publishes with one wait. Default 500: one wait costs little beside that many rows,
            and at 1 MiB each they stay below the memory of a small container.
        linger_seconds: a round of the relay that found little is followed by the next one after so long, so that the messages
            of a steady flow are published together; the first message after a pause goes at once. Default 0.02: a round costs
            the same for one as for hundreds, and on SQLite it takes its turn from the senders (measured there, with sender,
            relay and consumer in one process: 156 against 74 events a second). 0 for the least latency at low rates.
        window: messages of one topic that a consumer holds in memory, read and not yet handled; for each partition
            that it owns at least `Subscription.batch`. Default 100: enough to hide the reading behind the handling.
        poll_seconds: how long relay and consumers wait for a wake-up before they look by themselves. Default 0.5: the
            latency that remains if every hint is lost, at two cheap queries a second.
        lease_seconds: how long a partition stays with a process that gives no sign of life. Default 15: a crash is taken
            over within that time, and three signs of life fit in, so a lost one costs nothing.
        inbox_retention_seconds: how long a handled message is remembered, so that a repeat of it has no effect. Default
            1 209 600, two weeks: twice as long as `sql://` and most brokers keep a message.
        unsent_seconds: the age of the oldest unsent event above which a process that relays is not ready (`Headrace.health`).
            Default 300: longer than a restart of a broker takes, and short enough for somebody to look the same hour.

    Raises:
        ConfigurationError: a value is not above zero; `drain_seconds` and `linger_seconds` may be zero.
    """

    cycle_depth: int = 100
    drain_seconds: float = 10.0
    body_bytes: int = 1024 * 1024
    batch: int = 500
    linger_seconds: float = 0.02
    window: int = 100
    poll_seconds: float = 0.5
    lease_seconds: float = 15.0
    inbox_retention_seconds: float = 14 * 24 * 3600.0
    unsent_seconds: float = 300.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value: int | float = getattr(self, field.name)
            # To drain or to linger for no time at all is a decision that somebody may take; the rest would never move.
            if value < 0 or (value == 0 and field.name not in _MAY_BE_ZERO) or value != value:
                raise ConfigurationError(
                    f"Limits({field.name}={value!r}): it must be above zero; leave it out for the default, "
                    f"{field.default!r}."
                )
