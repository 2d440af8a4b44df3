"""Statistics: listens to the notifications and keeps the read model. Another process could do this as well."""

from __future__ import annotations

from examples.flights.figures import Figures
from examples.flights.messages import (
    CancellationAnnounced,
    DepartureAnnounced,
    LandingAnnounced,
    LongDelayAnnounced,
)
from examples.flights.read_model import Delays, Whereabouts
from headrace import Module, Query

statistics = Module("statistics", providers=[Delays, Whereabouts])


class ReadFigures(Query[Figures]):
    """Asks for the whole read model."""


@statistics.handler
async def on_departure(event: DepartureAnnounced, delays: Delays, whereabouts: Whereabouts) -> None:
    await delays.departed(event.carrier, event.origin, event.delay_minutes)
    await whereabouts.heard(event.tailnum, event.stamp, f"{event.origin}>{event.dest}")


@statistics.handler
async def on_landing(event: LandingAnnounced, delays: Delays, whereabouts: Whereabouts) -> None:
    await delays.landed(event.carrier, event.dest, event.delay_minutes)
    await whereabouts.heard(event.tailnum, event.stamp, event.dest)


@statistics.handler
async def on_cancellation(
    event: CancellationAnnounced, delays: Delays, whereabouts: Whereabouts
) -> None:
    await delays.cancelled(event.carrier, event.origin)
    await whereabouts.heard(event.tailnum, event.stamp, None)


@statistics.handler
async def on_long_delay(
    event: LongDelayAnnounced, delays: Delays, whereabouts: Whereabouts
) -> None:
    await delays.delayed_long(event.carrier, event.origin)
    await whereabouts.heard(event.tailnum, event.stamp, None)


@statistics.handler
async def read_figures(query: ReadFigures, delays: Delays, whereabouts: Whereabouts) -> Figures:
    return Figures(await delays.all(), await whereabouts.all())
