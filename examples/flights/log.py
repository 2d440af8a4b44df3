"""What happened, in order: each flight of the file becomes one or two happenings, and each of these a command."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from examples.flights.data import Flight, read_airports, read_flights
from examples.flights.fetch import file_of
from examples.flights.messages import CancelFlight, DepartFlight, LandFlight
from examples.flights.settings import Settings
from headrace import Command


class Kind(IntEnum):
    """What happened. In one minute an aircraft lands before it departs again."""

    LANDING = 0
    DEPARTURE = 1
    CANCELLATION = 2


class Happening(NamedTuple):
    """One thing that happened at a moment in UTC. Sorts by moment, then kind, then flight."""

    at: datetime
    kind: Kind
    flight_id: str
    flight: Flight

    def command(self) -> Command[None]:
        """The command that makes it happen again."""
        flight = self.flight
        if self.kind is Kind.LANDING:
            return LandFlight(flight.id, self.at, flight.landing_delay)
        if self.kind is Kind.DEPARTURE:
            return DepartFlight(
                flight.id,
                flight.carrier,
                flight.tailnum,
                flight.origin,
                flight.dest,
                self.at,
                flight.departure_delay or 0,
            )
        return CancelFlight(
            flight.id, flight.carrier, flight.tailnum, flight.origin, flight.dest, self.at
        )


def happenings(flights: Sequence[Flight]) -> list[Happening]:
    """All that happened, in the order in which it happened.

    A flight that never left is cancelled at the time at which it was to depart. One whose landing was not recorded departs
    and does not land.
    """
    found: list[Happening] = []
    for flight in flights:
        if flight.departed_at is None:
            found.append(Happening(flight.scheduled_at, Kind.CANCELLATION, flight.id, flight))
            continue
        found.append(Happening(flight.departed_at, Kind.DEPARTURE, flight.id, flight))
        if flight.landed_at is not None:
            found.append(Happening(flight.landed_at, Kind.LANDING, flight.id, flight))
    return sorted(found)


class FlightLog:
    """The log that is replayed, read from its file when it is first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def name(self) -> str:
        """Which file it is, and how much is in it: tells whether a database was made from it."""
        return f"{self._settings.flights} ({len(self.flights)} flights)"

    @cached_property
    def flights(self) -> Sequence[Flight]:
        """In the order of the file."""
        flights = list(read_flights(file_of(self._settings), read_airports()))
        if self._settings.days:
            days = sorted({flight.scheduled_at.date() for flight in flights})[: self._settings.days]
            flights = [flight for flight in flights if flight.scheduled_at.date() in days]
        return flights

    @cached_property
    def happenings(self) -> Sequence[Happening]:
        """In the order in which they happened."""
        return happenings(self.flights)
