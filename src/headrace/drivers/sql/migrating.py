"""What is to be done to the tables of a database, as statements for whoever wants to see them, or to run them by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeGuard

from sqlalchemy import inspect
from sqlalchemy.schema import CreateIndex, CreateTable

from headrace.drivers.sql import setup
from headrace.drivers.sql.schema import VERSION, headrace_metadata, meta

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table
    from sqlalchemy.engine import Connection, Dialect

_DDL_COMMITS: Final = frozenset({"mysql", "mariadb"})
"""The databases where each such statement is a transaction of its own."""


@dataclass(frozen=True, slots=True)
class Migration:
    """How the tables are, and what brings them to this version.

    Args:
        found: their version; None if there are none.
        wanted: the version that this Headrace needs.
        statements: what is to be run, in order; none if all is well, or if the tables are of a newer Headrace.
        tables: those that are to be made, the app's own among them.
        atomic: the statements may stand in one transaction.
        partitions: how many partitions the outbox of each app has that was ever started here.
    """

    found: int | None
    wanted: int
    statements: tuple[str, ...]
    tables: tuple[str, ...]
    atomic: bool
    partitions: tuple[tuple[str, int], ...] = ()

    @property
    def newer(self) -> bool:
        """True if the tables are of a newer Headrace than this one."""
        return self.found is not None and self.found > self.wanted


def migration_of(connection: Connection, metadata: MetaData | None) -> Migration:
    """What a database needs. Reads only.

    Args:
        connection: to the database.
        metadata: the app's own tables, which are made too where they are missing.
    """
    found = setup.version_in(connection)
    there = frozenset(inspect(connection).get_table_names())
    partitions = _partitions(connection) if meta.name in there else ()
    upgrades = setup.open_upgrades(connection, found) if _is_older(found) else []
    return _migration(connection.dialect, found, there, metadata, partitions, upgrades)


def _is_older(found: int | None) -> TypeGuard[int]:
    return found is not None and found < VERSION


def missing_database(dialect: Dialect, metadata: MetaData | None) -> Migration:
    """What a database needs that is not there yet."""
    return _migration(dialect, None, frozenset(), metadata, (), [])


def _migration(
    dialect: Dialect,
    found: int | None,
    there: frozenset[str],
    metadata: MetaData | None,
    partitions: tuple[tuple[str, int], ...],
    upgrades: list[str],
) -> Migration:
    tables: list[Table] = []
    statements: list[str] = []
    if found is None or found <= VERSION:
        statements += upgrades
        own = headrace_metadata.sorted_tables
        users = metadata.sorted_tables if metadata is not None else []
        tables = [one for one in (*own, *users) if one.name not in there]
        statements += _made(dialect, tables)
        if found is None:
            statements.append(
                f"INSERT INTO headrace_meta (app, name, value) VALUES ('', 'schema', '{VERSION}')"
            )
        elif found < VERSION:
            statements.append(
                f"UPDATE headrace_meta SET value = '{VERSION}' WHERE app = '' AND name = 'schema'"
            )
    return Migration(
        found=found,
        wanted=VERSION,
        statements=tuple(statements),
        tables=tuple(one.name for one in tables),
        atomic=dialect.name not in _DDL_COMMITS,
        partitions=partitions,
    )


def _made(dialect: Dialect, tables: Iterable[Table]) -> list[str]:
    found: list[str] = []
    for table in tables:
        found.append(_text(str(CreateTable(table).compile(dialect=dialect))))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        found += [_text(str(CreateIndex(one).compile(dialect=dialect))) for one in indexes]
    return found


def _text(statement: str) -> str:
    """Without empty lines, tabs and spaces at the ends."""
    lines = (line.rstrip().replace("\t", "    ") for line in statement.splitlines())
    return "\n".join(line for line in lines if line)


def _partitions(connection: Connection) -> tuple[tuple[str, int], ...]:
    rows = connection.execute(
        meta.select().where(meta.c.name == "partitions").order_by(meta.c.app)
    ).all()
    return tuple((str(row.app), int(row.value)) for row in rows)
