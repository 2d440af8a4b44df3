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
from examples.flights.write_model import Aircraft, Flights
from headrace import EventHandler, Module, RequestHandler

LONG_DELAY_MINUTES = 120

operations = Module("operations", providers=[Flights, Aircraft])


@operations.handler(raises=[FlightDeparted])
class Depart(RequestHandler[DepartFlight, None]):
    def __init__(self, flights: Flights) -> None:
        self._flights = flights

    async def handle(self, request: DepartFlight) -> None:
        r = request
        await self._flights.add(r.flight_id, r.carrier, r.tailnum, r.origin, r.dest, "departed")
        self.events.append(
            FlightDeparted(r.flight_id, r.carrier, r.tailnum, r.origin, r.dest, r.delay_minutes)
        )


@operations.handler(raises=[FlightLanded])
class Land(RequestHandler[LandFlight, None]):
    def __init__(self, flights: Flights) -> None:
        self._flights = flights

    async def handle(self, request: LandFlight) -> None:
        landed = await self._flights.land(request.flight_id)
        self.events.append(
            FlightLanded(
                request.flight_id,
                landed.carrier,
                landed.tailnum,
                landed.dest,
                request.delay_minutes,
            )
        )


@operations.handler(raises=[FlightCancelled])
class Cancel(RequestHandler[CancelFlight, None]):
    def __init__(self, flights: Flights) -> None:
        self._flights = flights

    async def handle(self, request: CancelFlight) -> None:
        r = request
        await self._flights.add(r.flight_id, r.carrier, r.tailnum, r.origin, r.dest, "cancelled")
        self.events.append(FlightCancelled(r.flight_id, r.carrier, r.tailnum, r.origin))


@operations.handler(raises=[DepartureAnnounced])
class AnnounceDeparture(EventHandler[FlightDeparted]):
    def __init__(self, aircraft: Aircraft) -> None:
        self._aircraft = aircraft

    async def handle(self, event: FlightDeparted) -> None:
        number = await self._aircraft.next_number(event.tailnum)
        self.events.append(
            DepartureAnnounced(
                event.flight_id,
                event.carrier,
                event.tailnum,
                number,
                event.origin,
                event.dest,
                event.delay_minutes,
            )
        )


@operations.handler(raises=[LongDelay])
class WatchDelays(EventHandler[FlightDeparted]):
    """Raises a follow-up event when a departure was very late."""

    async def handle(self, event: FlightDeparted) -> None:
        if event.delay_minutes >= LONG_DELAY_MINUTES:
            self.events.append(
                LongDelay(
                    event.flight_id,
                    event.carrier,
                    event.tailnum,
                    event.origin,
                    event.delay_minutes,
                )
            )


@operations.handler(raises=[LongDelayAnnounced])
class AnnounceLongDelay(EventHandler[LongDelay]):
    def __init__(self, aircraft: Aircraft) -> None:
        self._aircraft = aircraft

    async def handle(self, event: LongDelay) -> None:
        number = await self._aircraft.next_number(event.tailnum)
        self.events.append(
            LongDelayAnnounced(
                event.flight_id,
                event.carrier,
                event.tailnum,
                number,
                event.origin,
                event.delay_minutes,
            )
        )


@operations.handler(raises=[LandingAnnounced])
class AnnounceLanding(EventHandler[FlightLanded]):
    def __init__(self, aircraft: Aircraft) -> None:
        self._aircraft = aircraft

    async def handle(self, event: FlightLanded) -> None:
        number = await self._aircraft.next_number(event.tailnum)
        self.events.append(
            LandingAnnounced(
                event.flight_id,
                event.carrier,
                event.tailnum,
                number,
                event.dest,
                event.delay_minutes,
            )
        )


@operations.handler(raises=[CancellationAnnounced])
class AnnounceCancellation(EventHandler[FlightCancelled]):
    def __init__(self, aircraft: Aircraft) -> None:
        self._aircraft = aircraft

    async def handle(self, event: FlightCancelled) -> None:
        number = await self._aircraft.next_number(event.tailnum)
        self.events.append(
            CancellationAnnounced(
                event.flight_id, event.carrier, event.tailnum, number, event.origin
            )
        )
