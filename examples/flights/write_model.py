"""The write model's repository. It works in the transaction of the command that uses it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

ADD = text(
    "INSERT INTO flights (id, carrier, tailnum, origin, dest, state)"
    " VALUES (:id, :carrier, :tailnum, :origin, :dest, :state)"
)
LAND = text("UPDATE flights SET state = 'landed' WHERE id = :id AND state = 'departed'")
FIND = text("SELECT carrier, tailnum, dest FROM flights WHERE id = :id")


class NotInTheAir(Exception):
    """A flight is to land that has not departed, or has landed already."""


@dataclass(frozen=True, slots=True)
class Landed:
    """Whose flight has landed, and where."""

    carrier: str
    tailnum: str | None
    dest: str


class Flights:
    """The flights and the state that each is in: departed, landed or cancelled."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(
        self, flight_id: str, carrier: str, tailnum: str | None, origin: str, dest: str, state: str
    ) -> None:
        """Keep a flight that departed or was cancelled; an IntegrityError if it did either before."""
        values = {"id": flight_id, "carrier": carrier, "tailnum": tailnum}
        await self._connection.execute(
            ADD, {**values, "origin": origin, "dest": dest, "state": state}
        )

    async def land(self, flight_id: str) -> Landed:
        """Note that a flight has landed.

        Raises:
            NotInTheAir: it is not in the air.
        """
        landed = await self._connection.execute(LAND, {"id": flight_id})
        if landed.rowcount != 1:
            raise NotInTheAir(f"flight {flight_id} is to land, but is not in the air")
        row = (await self._connection.execute(FIND, {"id": flight_id})).one()
        return Landed(row.carrier, row.tailnum, row.dest)
