"""New York's flights of 2013, replayed through Headrace; see README.md beside this file.

Importing this touches no file: the flights are read and the database is opened when the application starts.
"""

from __future__ import annotations

from examples.flights.application import make_app, make_storage
from examples.flights.log import FlightLog
from examples.flights.settings import Settings

settings = Settings.from_environment()
log = FlightLog(settings)
storage = make_storage(settings)
app = make_app(settings, log, storage)
