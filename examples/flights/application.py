"""The application: puts its modules together."""

from __future__ import annotations

from examples.flights import tables
from examples.flights.log import FlightLog
from examples.flights.operations import operations
from examples.flights.replay import replays
from examples.flights.settings import Settings
from examples.flights.statistics import statistics
from headrace import Headrace, Limits, Subscription
from headrace.drivers.sql import SqlStorage


def make_storage(settings: Settings) -> SqlStorage:
    """The storage on the database of these settings."""
    return SqlStorage(settings.url, metadata=tables.metadata)


def make_app(settings: Settings, log: FlightLog, storage: SqlStorage) -> Headrace:
    """The flights application. Nothing is read or opened before it starts."""
    return Headrace(
        f"flights{settings.run}",
        modules=[operations, statistics, replays],
        providers=[log],
        storage=storage,
        broker=settings.broker,
        # Counting is quick and cannot fail for one message alone: 100 may share a transaction and its fsync.
        subscriptions=[Subscription(batch=100)],
        # A demo is killed and run again at once: then its partitions are free after 3 seconds, not after 15.
        limits=Limits(lease_seconds=3.0),
    )
