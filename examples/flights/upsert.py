"""One spelling of "insert or change" for the databases: SQLite and PostgreSQL share one, MariaDB has its own."""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

_CONFLICT: Final = re.compile(r"ON CONFLICT \([^)]*\) DO UPDATE\s+SET")


class Upsert:
    """An INSERT with ON CONFLICT (keys) DO UPDATE SET, as the database at hand spells it.

    Args:
        sql: in the words of SQLite and PostgreSQL. Columns that are read are named with their table.
    """

    def __init__(self, sql: str) -> None:
        self._usual = text(sql)
        self._mysql = text(_CONFLICT.sub("ON DUPLICATE KEY UPDATE", sql))

    def on(self, connection: AsyncConnection) -> TextClause:
        """The statement for this connection's database."""
        return self._mysql if connection.dialect.name in ("mysql", "mariadb") else self._usual
