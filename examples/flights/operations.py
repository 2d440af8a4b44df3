"""Operations: takes the commands, decides on the write model, and announces what happened."""

from __future__ import annotations

from examples.flights.messages import (
    CancelFlight,
    CancellationAnnounced,
    DepartFlight,
    DepartureAnnounced,
    FlightCancelled,
    FlightDeparted,
    FlightLanded,
    LandFlight,
    LandingAnnounced,
    LongDelay,
    LongDelayAnnounced,
)
from examples.flights.write_model import Flights
from headrace import EventHandler, Events, Module, RequestHandler

LONG_DELAY_MINUTES = 120

operations = Module("operations", providers=[Flights])


@operations.handler(raises=[FlightDeparted])
class Depart(RequestHandler[DepartFlight, None]):
    def __init__(self, flights: Flights) -> None:
        self._flights = flights

    async def handle(self, request: DepartFlight) -> None:
        r = request
        await self._flights.add(r.flight_id, r.carrier, r.tailnum, r.origin, r.dest, "departed")
        self.events.append(
            FlightDeparted(
                r.flight_id, r.carrier, r.tailnum, r.at, r.origin, r.dest, r.delay_minutes
            )
        )


@operations.handler(raises=[FlightLanded])
class Land(RequestHandler[LandFlight, None]):
    def __init__(self, flights: Flights) -> None:
        self._flights = flights

    async def handle(self, request: LandFlight) -> None:
        r = request
        flight = await self._flights.land(r.flight_id)
        self.events.append(
            FlightLanded(
                r.flight_id, flight.carrier, flight.tailnum, r.at, flight.dest, r.delay_minutes
            )
        )


@operations.handler(raises=[FlightCancelled])
class Cancel(RequestHandler[CancelFlight, None]):
    def __init__(self, flights: Flights) -> None:
        self._flights = flights

    async def handle(self, request: CancelFlight) -> None:
        r = request
        await self._flights.add(r.flight_id, r.carrier, r.tailnum, r.origin, r.dest, "cancelled")
        self.events.append(FlightCancelled(r.flight_id, r.carrier, r.tailnum, r.at, r.origin))


@operations.handler(raises=[LongDelay])
class WatchDelays(EventHandler[FlightDeparted]):
    """Raises a follow-up event when a departure was very late."""

    async def handle(self, event: FlightDeparted) -> None:
        e = event
        if e.delay_minutes >= LONG_DELAY_MINUTES:
            self.events.append(
                LongDelay(e.flight_id, e.carrier, e.tailnum, e.at, e.origin, e.delay_minutes)
            )


@operations.handler(raises=[DepartureAnnounced])
async def announce_departure(event: FlightDeparted, events: Events) -> None:
    e = event
    events.append(
        DepartureAnnounced(
            e.flight_id, e.carrier, e.tailnum, e.at, e.origin, e.dest, e.delay_minutes
        )
    )


@operations.handler(raises=[LongDelayAnnounced])
async def announce_long_delay(event: LongDelay, events: Events) -> None:
    e = event
    events.append(
        LongDelayAnnounced(e.flight_id, e.carrier, e.tailnum, e.at, e.origin, e.delay_minutes)
    )


@operations.handler(raises=[LandingAnnounced])
async def announce_landing(event: FlightLanded, events: Events) -> None:
    e = event
    events.append(
        LandingAnnounced(e.flight_id, e.carrier, e.tailnum, e.at, e.dest, e.delay_minutes)
    )


@operations.handler(raises=[CancellationAnnounced])
async def announce_cancellation(event: FlightCancelled, events: Events) -> None:
    e = event
    events.append(CancellationAnnounced(e.flight_id, e.carrier, e.tailnum, e.at, e.origin))
