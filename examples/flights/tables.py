"""The application's tables: the write model, the read model and the place of the replay."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, String, Table, Text

metadata = MetaData()
# MariaDB wants to know how long a key may be.
NAME = String(100)

# The write model: what the commands decide on.

flights = Table(
    "flights",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("carrier", Text, nullable=False),
    Column("tailnum", Text),
    Column("origin", Text, nullable=False),
    Column("dest", Text, nullable=False),
    Column("state", Text, nullable=False),
    sqlite_with_rowid=False,
)

# The read model: what the consumer makes of the notifications.

delays = Table(
    "delays",
    metadata,
    Column("carrier", NAME, primary_key=True),
    Column("airport", NAME, primary_key=True),
    Column("departures", Integer, nullable=False, server_default="0"),
    Column("departure_minutes", Integer, nullable=False, server_default="0"),
    Column("long_delays", Integer, nullable=False, server_default="0"),
    Column("cancellations", Integer, nullable=False, server_default="0"),
    Column("landings", Integer, nullable=False, server_default="0"),
    Column("landings_timed", Integer, nullable=False, server_default="0"),
    Column("landing_minutes", Integer, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

whereabouts = Table(
    "whereabouts",
    metadata,
    Column("tailnum", NAME, primary_key=True),
    Column("place", Text),
    Column("heard", Integer, nullable=False),
    Column("last_stamp", Text, nullable=False),
    Column("out_of_order", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# The replay: one row.

replay = Table(
    "replay",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("log", Text, nullable=False),
    Column("place", Integer, nullable=False),
    Column("finished", Integer, nullable=False),
)
