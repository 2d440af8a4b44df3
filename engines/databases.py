"""Databases with random names: each test, benchmark or demo has one of its own on a shared server."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from engines import answers


class Database(NamedTuple):
    """A database of one's own.

    Args:
        url: where it is, as `SqlStorage` takes it.
        drop: ends all connections to it and removes it; once it is gone, does nothing.
    """

    url: str
    drop: Callable[[], None]

    @classmethod
    def on(cls, url: str) -> Self:
        """Create one on the server at `url`.

        Raises:
            ValueError: the URL is not one of a PostgreSQL, MariaDB or MySQL.
        """
        name = f"headrace_{secrets.token_hex(6)}"
        scheme = urlsplit(url).scheme.partition("+")[0]
        if scheme == "postgresql":
            _on_postgresql(url, f'CREATE DATABASE "{name}"')
            drop = f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
            return cls(_named(url, name), lambda: _on_postgresql(url, drop))
        if scheme in ("mysql", "mariadb"):
            _on_mariadb(url, f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
            return cls(_named(url, name), lambda: _drop_on_mariadb(url, name))
        raise ValueError(
            f"{scheme}:// is no database server: databases are made on postgresql and mariadb"
        )


def _named(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def _on_postgresql(url: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(answers.libpq(url), autocommit=True, connect_timeout=10) as connection:
        connection.execute(statement.encode())


def _on_mariadb(url: str, *statements: str) -> list[tuple[object, ...]]:
    return answers.run(lambda: answers.mysql_rows(_named(url, ""), *statements))


def _drop_on_mariadb(url: str, name: str) -> None:
    # A transaction left open in the database would hold the DROP up for ever.
    left = _on_mariadb(url, f"SELECT id FROM information_schema.processlist WHERE db = '{name}'")
    for (connection,) in left:
        try:
            _on_mariadb(url, f"KILL {connection}")
        except Exception as error:
            if error.args[:1] != (1094,):  # It has gone by itself meanwhile.
                raise
    _on_mariadb(url, f"DROP DATABASE IF EXISTS `{name}`")
