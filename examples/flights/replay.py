"""The replay: sends the commands of the log in large steps, and knows after each where it stands.

The place is saved in the transaction of the step's commands, so whenever the process dies, the next run goes on exactly
behind the last command whose effects were committed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from examples.flights.log import FlightLog
from examples.flights.upsert import Upsert
from headrace import Command, Module, Query, RequestHandler, RequestMediator

SAVE = Upsert(
    "INSERT INTO replay (id, log, place, finished) VALUES (1, :log, :place, :finished)"
    " ON CONFLICT (id) DO UPDATE SET log = :log, place = :place, finished = :finished"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the replay of a log stands: how many happenings were replayed, and whether the end was reconciled."""

    log: str
    done: int = 0
    finished: bool = False


class ReplayStep(Command[int]):
    """Replay the next happenings, at most `size`. Answers how many there were."""

    size: int


class FindPlace(Query[Place | None]):
    """Asks where the replay stands; None if none was begun."""


class FinishReplay(Command[None]):
    """The replay is over and reconciled."""


class Places:
    """Keeps the place of the replay."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self) -> Place | None:
        found = await self._connection.execute(text("SELECT log, place, finished FROM replay"))
        row = found.one_or_none()
        return Place(row.log, row.place, bool(row.finished)) if row else None

    async def save(self, place: Place) -> None:
        values = {"log": place.log, "place": place.done, "finished": int(place.finished)}
        await self._connection.execute(SAVE.on(self._connection), values)


replays = Module("replay", providers=[Places])


@replays.handler(raises=[])
class Replay(RequestHandler[ReplayStep, int]):
    """Sends each happening's command inside the step's unit of work."""

    def __init__(self, log: FlightLog, places: Places, mediator: RequestMediator) -> None:
        self._log = log
        self._places = places
        self._mediator = mediator

    async def handle(self, request: ReplayStep) -> int:
        place = await self._places.find() or Place(self._log.name)
        step = self._log.happenings[place.done : place.done + request.size]
        for happening in step:
            await self._mediator.send(happening.command())
        await self._places.save(Place(place.log, place.done + len(step)))
        return len(step)


@replays.handler
async def find_place(query: FindPlace, places: Places) -> Place | None:
    return await places.find()


@replays.handler
async def finish(request: FinishReplay, log: FlightLog, places: Places) -> None:
    await places.save(Place(log.name, len(log.happenings), finished=True))
