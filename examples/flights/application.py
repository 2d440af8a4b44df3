"""The application: puts its modules together."""

from __future__ import annotations

from examples.flights import tables
from examples.flights.log import FlightLog
from examples.flights.operations import operations
from examples.flights.replay import replays
from examples.flights.settings import Settings
from examples.flights.statistics import statistics
from headrace import Headrace
from headrace.drivers.sql import SqlStorage


def make_app(settings: Settings) -> Headrace:
    """The flights application on the database of these settings. Nothing is opened before it starts."""
    return Headrace(
        "flights",
        modules=[operations, statistics, replays],
        providers=[FlightLog(settings)],
        storage=SqlStorage(f"sqlite+aiosqlite:///{settings.database}", metadata=tables.metadata),
        broker="sql://",
    )
