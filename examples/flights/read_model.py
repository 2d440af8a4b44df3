"""The read model's repositories: one statement for what an event changes in a table."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from examples.flights import tables
from examples.flights.figures import AircraftFigures, DelayFigures
from examples.flights.upsert import Upsert

DEPARTED = Upsert(
    "INSERT INTO delays (carrier, airport, departures, departure_minutes)"
    " VALUES (:carrier, :airport, 1, :minutes) ON CONFLICT (carrier, airport) DO UPDATE"
    " SET departures = delays.departures + 1,"
    " departure_minutes = delays.departure_minutes + :minutes"
)
LANDED = Upsert(
    "INSERT INTO delays (carrier, airport, landings, landings_timed, landing_minutes)"
    " VALUES (:carrier, :airport, 1, :timed, :minutes) ON CONFLICT (carrier, airport) DO UPDATE"
    " SET landings = delays.landings + 1, landings_timed = delays.landings_timed + :timed,"
    " landing_minutes = delays.landing_minutes + :minutes"
)
CANCELLED = Upsert(
    "INSERT INTO delays (carrier, airport, cancellations) VALUES (:carrier, :airport, 1)"
    " ON CONFLICT (carrier, airport) DO UPDATE SET cancellations = delays.cancellations + 1"
)
DELAYED_LONG = Upsert(
    "INSERT INTO delays (carrier, airport, long_delays) VALUES (:carrier, :airport, 1)"
    " ON CONFLICT (carrier, airport) DO UPDATE SET long_delays = delays.long_delays + 1"
)
# What is told of an aircraft must come strictly later in its life than what was told before: nothing twice, nothing swapped.
HEARD = Upsert(
    "INSERT INTO whereabouts (tailnum, place, heard, last_stamp, out_of_order)"
    " VALUES (:tailnum, :place, 1, :stamp, 0) ON CONFLICT (tailnum) DO UPDATE"
    " SET place = coalesce(:place, whereabouts.place), heard = whereabouts.heard + 1,"
    " out_of_order = whereabouts.out_of_order"
    " + CASE WHEN :stamp <= whereabouts.last_stamp THEN 1 ELSE 0 END, last_stamp = :stamp"
)


class Delays:
    """Delays for each carrier at each airport."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def departed(self, carrier: str, airport: str, minutes: int) -> None:
        values = {"carrier": carrier, "airport": airport, "minutes": minutes}
        await self._connection.execute(DEPARTED.on(self._connection), values)

    async def landed(self, carrier: str, airport: str, minutes: int | None) -> None:
        """A landing whose delay is not known counts as a landing, and not in the mean delay."""
        values = {"carrier": carrier, "airport": airport, "minutes": minutes or 0}
        await self._connection.execute(
            LANDED.on(self._connection), {**values, "timed": int(minutes is not None)}
        )

    async def cancelled(self, carrier: str, airport: str) -> None:
        await self._connection.execute(
            CANCELLED.on(self._connection), {"carrier": carrier, "airport": airport}
        )

    async def delayed_long(self, carrier: str, airport: str) -> None:
        await self._connection.execute(
            DELAYED_LONG.on(self._connection), {"carrier": carrier, "airport": airport}
        )

    async def all(self) -> Mapping[tuple[str, str], DelayFigures]:
        rows = await self._connection.execute(select(tables.delays))
        return {(row.carrier, row.airport): DelayFigures(*row[2:]) for row in rows}


class Whereabouts:
    """The last known place of each aircraft, and whether its notifications came once and in order."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def heard(self, tailnum: str | None, stamp: str, place: str | None) -> None:
        """Note what was told of an aircraft. `place` None leaves it where it is; no aircraft has no place."""
        if tailnum is not None:
            values = {"tailnum": tailnum, "stamp": stamp, "place": place}
            await self._connection.execute(HEARD.on(self._connection), values)

    async def all(self) -> Mapping[str, AircraftFigures]:
        table = tables.whereabouts.c
        found = select(table.tailnum, table.place, table.heard, table.out_of_order)
        rows = await self._connection.execute(found)
        return {row.tailnum: AircraftFigures(*row[1:]) for row in rows}
