"""The figures that the demo is about, and what they must be: computed straight from the file, without any events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

from examples.flights.data import Flight
from examples.flights.operations import LONG_DELAY_MINUTES


@dataclass(slots=True)
class DelayFigures:
    """One carrier at one airport. `landings_timed` are those whose delay is known."""

    departures: int = 0
    departure_minutes: int = 0
    long_delays: int = 0
    cancellations: int = 0
    landings: int = 0
    landings_timed: int = 0
    landing_minutes: int = 0

    def add(self, other: DelayFigures) -> None:
        """Add the figures of another carrier or airport."""
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))


@dataclass(slots=True)
class AircraftFigures:
    """One aircraft: where it is as far as is known, and how what was told of it arrived.

    Args:
        place: an airport; "A>B" on the way (or its landing was not recorded); None if it only had cancelled flights.
        heard: notifications handled.
        out_of_order: those of them that did not come strictly later in the aircraft's life than the one before. With
            none of them, and as many heard as there are, each was handled once.
    """

    place: str | None = None
    heard: int = 0
    out_of_order: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures: of carriers by (carrier, airport), of aircraft by tail number."""

    delays: Mapping[tuple[str, str], DelayFigures] = field(
        default_factory=lambda: defaultdict[tuple[str, str], DelayFigures](DelayFigures)
    )
    aircraft: Mapping[str, AircraftFigures] = field(
        default_factory=lambda: defaultdict[str, AircraftFigures](AircraftFigures)
    )

    @property
    def handled(self) -> int:
        """How many notifications are in these figures: each counts in exactly one of them."""
        return sum(
            f.departures + f.long_delays + f.cancellations + f.landings
            for f in self.delays.values()
        )


def expected(flights: Sequence[Flight]) -> Figures:
    """What the read model must hold when every flight was replayed."""
    figures = Figures()
    last: dict[str, tuple[datetime, bool, str]] = {}
    for flight in flights:
        told = _count(flight, figures)
        if flight.tailnum is None:
            continue
        figures.aircraft[flight.tailnum].heard += told
        for moment in _moments(flight):
            last[flight.tailnum] = max(moment, last.get(flight.tailnum, moment))
    for tailnum, (_, _, place) in last.items():
        figures.aircraft[tailnum].place = place
    return figures


def _count(flight: Flight, figures: Figures) -> int:
    """Add one flight to the figures of its carrier. Returns how many notifications it makes."""
    here = figures.delays[flight.carrier, flight.origin]
    if flight.departed_at is None:
        here.cancellations += 1
        return 1
    told = 1
    delay = flight.departure_delay or 0
    here.departures += 1
    here.departure_minutes += delay
    if delay >= LONG_DELAY_MINUTES:
        here.long_delays += 1
        told += 1
    if flight.landed_at is not None:
        there = figures.delays[flight.carrier, flight.dest]
        there.landings += 1
        told += 1
        if flight.landing_delay is not None:
            there.landings_timed += 1
            there.landing_minutes += flight.landing_delay
    return told


def _moments(flight: Flight) -> list[tuple[datetime, bool, str]]:
    """When this flight said where its aircraft is: the moment, True for a departure, the place."""
    moments: list[tuple[datetime, bool, str]] = []
    if flight.departed_at is not None:
        moments.append((flight.departed_at, True, f"{flight.origin}>{flight.dest}"))
    if flight.landed_at is not None:
        moments.append((flight.landed_at, False, flight.dest))
    return moments
