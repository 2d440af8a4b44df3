"""The flights example, run as a user runs it, on small slices of January."""

from __future__ import annotations

import csv
import gzip
import io
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from examples.flights.data import Flight, read_airports, read_flights
from examples.flights.figures import DelayFigures, Figures, expected
from examples.flights.log import Kind, happenings
from examples.flights.reconcile import differences
from examples.flights.settings import HERE, JANUARY, Settings

ROOT = HERE.parent.parent
Row = dict[str, str]


def january() -> list[Row]:
    with gzip.open(JANUARY, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def write(path: Path, rows: Sequence[Row]) -> Path:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def is_odd(row: Row) -> bool:
    """No departure, with or without an aircraft; no landing; or a landing after a diversion."""
    return "NA" in (row["dep_time"], row["arr_time"], row["arr_delay"])


def slice_of(size: int) -> list[Row]:
    """A tenth of it odd, the rest as they come."""
    rows = january()
    odd = [row for row in rows if is_odd(row)]
    odd.sort(key=lambda row: row["arr_time"] == "NA" and row["dep_time"] == "NA")
    some = odd[: size // 20] + odd[-size // 20 :]
    return [row for row in rows if not is_odd(row)][: size - len(some)] + some


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts the demo on a file, with its database in a folder of the test's own."""

    def start(file: Path, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "examples.flights", *arguments],
            cwd=ROOT,
            env={**os.environ, "FLIGHTS": str(file), "FLIGHTS_FOLDER": str(tmp_path / "run")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def finish(process: subprocess.Popen[str], stop: signal.Signals | None = None) -> tuple[int, str]:
    """What it printed and its exit code; stopped, if asked, as soon as it says that it has moved."""
    with process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if stop is not None and line.startswith("sent "):
                process.send_signal(stop)
                stop = None
        return process.wait(), "".join(lines)


def change(tmp_path: Path, file: Path, *statements: str) -> None:
    """Run statements on the demo's database behind its back."""
    connection = sqlite3.connect(Settings(str(file), tmp_path / "run").database)
    try:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    finally:
        connection.close()


def test_a_slice_reconciles(tmp_path: Path, run: Callable[..., subprocess.Popen[str]]) -> None:
    """A replay ends reconciled, prints its tables and exits with 0; the next run starts afresh."""
    file = write(tmp_path / "slice.csv", slice_of(250))

    code, output = finish(run(file))
    assert code == 0, output
    assert "reconciled: all" in output
    assert "JetBlue Airways" in output
    assert "EWR Newark Liberty" in output

    code, output = finish(run(file))
    assert code == 0, output
    assert "starting afresh" in output


@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_stopped_replay_goes_on(
    tmp_path: Path, run: Callable[..., subprocess.Popen[str]], stop: signal.Signals, code: int
) -> None:
    """Interrupted or killed in the middle, the next run goes on where it stopped and reconciles (G4, G5, G7, G8, G10)."""
    file = write(tmp_path / "slice.csv", slice_of(1500))

    stopped, output = finish(run(file), stop)
    assert stopped == code, output
    assert "reconciled" not in output
    if stop is signal.SIGINT:
        assert "it goes on where it stopped" in output

    code, output = finish(run(file))
    assert code == 0, output
    assert "going on behind command" in output
    assert "reconciled: all" in output


def test_a_wrong_read_model_is_reported(
    tmp_path: Path, run: Callable[..., subprocess.Popen[str]]
) -> None:
    """A figure that was changed, lost or made up in the read model is named, and the exit code is 1."""
    file = write(tmp_path / "slice.csv", slice_of(60))
    code, output = finish(run(file))
    assert code == 0, output

    change(
        tmp_path,
        file,
        "UPDATE replay SET finished = 0",
        "UPDATE delays SET departures = departures + 1 WHERE carrier = 'UA' AND airport = 'EWR'",
        "INSERT INTO whereabouts VALUES ('N0NE', 'EWR', 1, '', 0)",
    )
    code, output = finish(run(file))
    assert code == 1, output
    assert "NOT reconciled" in output
    assert "UA at EWR: departures is" in output
    assert "N0NE: place is EWR in the read model and None in the file" in output


def test_another_file_is_refused(tmp_path: Path, run: Callable[..., subprocess.Popen[str]]) -> None:
    """A database made from other flights is not gone on with, unless `--fresh` says to start over."""
    file = write(tmp_path / "slice.csv", slice_of(60))
    finish(run(file))
    write(file, slice_of(80))

    code, output = finish(run(file))
    assert code == 2, output
    assert "(60 flights), and this is" in output
    code, output = finish(run(file, "--fresh"))
    assert code == 0, output


def test_a_missing_file_is_named(tmp_path: Path, run: Callable[..., subprocess.Popen[str]]) -> None:
    """A file that does not exist is named, with what may be said instead."""
    code, output = finish(run(tmp_path / "none.csv"))
    assert code == 2
    assert "none.csv: there is no such file. Say january, all, or the path" in output


# What occurs in such data ------------------------------------------------------------------------------------------------


def flights(tmp_path: Path, rows: Iterable[Row]) -> list[Flight]:
    return list(read_flights(write(tmp_path / "few.csv", list(rows)), read_airports()))


def first(**wanted: str) -> Row:
    """The first flight of January with these values."""
    return next(row for row in january() if all(row[k] == v for k, v in wanted.items()))


def test_january_is_whole() -> None:
    """The file shipped holds January's 27 004 flights, with the oddities that the README counts."""
    rows = january()
    assert len(rows) == 27_004
    assert sum(row["tailnum"] == "NA" for row in rows) == 155
    assert sum(row["dep_time"] == "NA" for row in rows) == 521
    assert sum(row["dep_time"] != "NA" == row["arr_time"] for row in rows) == 15
    assert sum(row["arr_time"] != "NA" == row["arr_delay"] for row in rows) == 70


def test_a_cancelled_flight_without_an_aircraft(tmp_path: Path) -> None:
    """It is cancelled when it was to leave, counts for its carrier, and makes no aircraft known."""
    found = flights(tmp_path, [first(dep_time="NA", tailnum="NA")])
    assert found[0].tailnum is None
    [happening] = happenings(found)
    assert happening.kind is Kind.CANCELLATION
    assert happening.at == found[0].scheduled_at
    assert [f.cancellations for f in expected(found).delays.values()] == [1]
    assert expected(found).aircraft == {}


def test_a_flight_whose_landing_was_not_recorded(tmp_path: Path) -> None:
    """It departs and does not land; its aircraft was last seen leaving."""
    found = flights(tmp_path, [first(day="1", dep_time="2016", arr_time="NA")])
    assert [h.kind for h in happenings(found)] == [Kind.DEPARTURE]
    assert expected(found).aircraft["N14168"].place == "EWR>OKC"


def test_a_landing_whose_delay_is_not_known(tmp_path: Path) -> None:
    """After a diversion the landing counts, and its delay does not."""
    found = flights(tmp_path, [first(day="1", flight="4525", tailnum="N719MQ", arr_delay="NA")])
    there = expected(found).delays["MQ", "XNA"]
    assert (there.landings, there.landings_timed, there.landing_minutes) == (1, 0, 0)
    assert expected(found).aircraft["N719MQ"].place == "XNA"


def test_a_flight_that_lands_after_midnight(tmp_path: Path) -> None:
    """19:39 in New York and 00:29 in Dallas are six hours apart, and the landing is on the next day."""
    [flight] = flights(tmp_path, [first(day="1", flight="3325", tailnum="N905XJ")])
    assert flight.departed_at == datetime(2013, 1, 2, 0, 39, tzinfo=UTC)
    assert flight.landed_at == datetime(2013, 1, 2, 6, 29, tzinfo=UTC)


def test_midnight_is_2400(tmp_path: Path) -> None:
    """A landing at 2400 is at the end of the day, not at its beginning."""
    [flight] = flights(tmp_path, [first(arr_time="2400", dest="FLL")])
    assert flight.landed_at is not None
    assert (flight.landed_at.hour, flight.landed_at.minute) == (5, 0)


def test_a_landing_on_the_night_when_the_clocks_change() -> None:
    """At 01:59 the clock of Chicago goes to 03:00, so 03:10 is eleven minutes later."""
    chicago = read_airports()["ORD"]
    before = datetime(2013, 3, 10, 7, 59, tzinfo=UTC)
    assert chicago.next_time(310, before) == datetime(2013, 3, 10, 8, 10, tzinfo=UTC)


def test_differences_are_named() -> None:
    """A difference names the carrier, the airport, the figure and both values; agreement is an empty list."""
    one = Figures(delays={("UA", "EWR"): DelayFigures(departures=2)})
    other = Figures(delays={("UA", "EWR"): DelayFigures(departures=3)})
    assert differences(one, one) == []
    assert differences(one, other) == [
        "UA at EWR: departures is 2 in the read model and 3 in the file"
    ]
