"""The log of flights: reads the file and makes sense of its times.

Times in the file are local clocks without a date: "dep_time" 517 is 05:17 at the origin, "arr_time" 29 is 00:29 at the
destination, on whatever day that was; 2400 is midnight. Here each becomes a moment in UTC, because happenings at airports
in different time zones can be put in order only on one clock.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from examples.flights.settings import HERE

MISSING = ("", "NA")
# In the standard time of each place, written as if it were UTC.
SUMMER_BEGINS = datetime(2013, 3, 10, 2, tzinfo=UTC)
SUMMER_ENDS = datetime(2013, 11, 3, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Flight:
    """One line of the file. `None` is what the file does not know.

    Args:
        id: date, carrier and number, origin: no two lines share it.
        carrier: two letters, see airlines.csv.
        tailnum: the aircraft. Missing for some flights that were cancelled: no aircraft had been assigned.
        origin: one of the three airports of New York City.
        dest: where it was to go.
        scheduled_at: when it was to depart.
        departed_at: missing if it never left.
        departure_delay: minutes; below zero if early.
        landed_at: missing if it never left, or if no landing was recorded.
        landing_delay: minutes; missing also for flights that landed after a diversion.
    """

    id: str
    carrier: str
    tailnum: str | None
    origin: str
    dest: str
    scheduled_at: datetime
    departed_at: datetime | None
    departure_delay: int | None
    landed_at: datetime | None
    landing_delay: int | None


@dataclass(frozen=True, slots=True)
class Airport:
    """An airport's clock: its offset from UTC in winter, and whether it has summer time."""

    name: str
    utc_offset: timedelta
    summer_time: bool

    def offset_at(self, moment: datetime) -> timedelta:
        """Local clock minus UTC at a moment in UTC, by the rules of the United States in 2013."""
        standard = moment + self.utc_offset
        summer = self.summer_time and SUMMER_BEGINS <= standard < SUMMER_ENDS
        return self.utc_offset + timedelta(hours=1) if summer else self.utc_offset

    def next_time(self, clock: int, after: datetime) -> datetime:
        """The first moment after `after` (UTC) at which the clock here shows `clock`, such as 1745 or 2400."""
        offset = self.offset_at(after)
        midnight = (after + offset).replace(hour=0, minute=0)
        shown = midnight + timedelta(hours=clock // 100, minutes=clock % 100)
        moment = shown - self.offset_at(shown - offset)
        return moment if moment > after else moment + timedelta(days=1)


def read_airports(path: Path = HERE / "airports.csv") -> Mapping[str, Airport]:
    """The airports of the log by their letters."""
    with path.open(encoding="utf-8", newline="") as lines:
        return {
            row["airport"]: Airport(
                row["name"],
                timedelta(hours=int(row["utc_offset_hours"])),
                row["summer_time"] == "yes",
            )
            for row in csv.DictReader(lines)
        }


def read_airlines(path: Path = HERE / "airlines.csv") -> Mapping[str, str]:
    """The names of the carriers by their letters."""
    with path.open(encoding="utf-8", newline="") as lines:
        return {row["carrier"]: row["name"] for row in csv.DictReader(lines)}


def read_flights(path: Path, airports: Mapping[str, Airport]) -> Iterator[Flight]:
    """The flights of a file in its own order: plain CSV, or packed by gzip or zip."""
    with _text_of(path) as lines:
        for row in csv.DictReader(lines):
            yield _flight(row, airports)


def _text_of(path: Path) -> io.TextIOWrapper:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8", newline="")
    if path.suffix == ".zip":
        archive = zipfile.ZipFile(path)
        return io.TextIOWrapper(archive.open(archive.namelist()[0]), encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _flight(row: Mapping[str, str], airports: Mapping[str, Airport]) -> Flight:
    # The file gives the scheduled hour in UTC too, which is right also on the days when the clocks change.
    hour = datetime.fromisoformat(row["time_hour"]).astimezone(UTC)
    scheduled = hour + timedelta(minutes=int(row["sched_dep_time"]) % 100)
    departure_delay, landing_clock = _number(row["dep_delay"]), _number(row["arr_time"])
    departed = None
    if departure_delay is not None:
        departed = scheduled + timedelta(minutes=departure_delay)
    landed = None
    if departed is not None and landing_clock is not None:
        # No flight in the log takes a day: the first time the clock shows it is the landing, often after midnight.
        landed = airports[row["dest"]].next_time(landing_clock, departed)
    date = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
    return Flight(
        id=f"{date} {row['carrier']}{row['flight']} {row['origin']}",
        carrier=row["carrier"],
        tailnum=None if row["tailnum"] in MISSING else row["tailnum"],
        origin=row["origin"],
        dest=row["dest"],
        scheduled_at=scheduled,
        departed_at=departed,
        departure_delay=departure_delay,
        landed_at=landed,
        landing_delay=_number(row["arr_delay"]),
    )


def _number(text: str) -> int | None:
    return None if text in MISSING else int(text)
