"""A server that lets nobody in by this URL: an outage with the reason, and never the fault of a message (G9)."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import make_url

from headrace.drivers.sql import SqlStorage
from headrace.errors import StorageUnavailable
from tests.servers import engine

DRIVERS = [
    ("postgresql", "postgresql+asyncpg"),
    ("postgresql", "postgresql+psycopg"),
    ("mariadb", "mysql+asyncmy"),
]
WRONG = [
    ({"database": "no_such_database"}, "no_such_database"),
    ({"username": "no_such_user", "password": "secret"}, "no_such_user"),
]


@pytest.mark.parametrize(("wrong", "named"), WRONG)
@pytest.mark.parametrize(("server", "driver"), DRIVERS)
async def test_who_is_not_let_in_hears_why(
    server: str, driver: str, wrong: dict[str, str], named: str
) -> None:
    """The error has what the server said and where to look, and no password."""
    url = make_url(engine(server).url).set(drivername=driver, **wrong)
    storage = SqlStorage(url.render_as_string(hide_password=False))
    with pytest.raises(StorageUnavailable, match=f"{named}.*Look whether") as raised:
        await storage.start("app", partitions=4)
    assert storage.transient(raised.value)
    assert "secret" not in str(raised.value)
