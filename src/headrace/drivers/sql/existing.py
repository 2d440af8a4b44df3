"""The database of a storage as it is: for commands that look at an app, or repair it, from outside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headrace.drivers.listeners import Listeners
from headrace.drivers.sql import setup
from headrace.drivers.sql.migrating import Migration, migration_of, missing_database
from headrace.drivers.sql.schema import VERSION
from headrace.drivers.sql.storage import SqlStorage
from headrace.errors import SchemaVersionError


class ExistingStorage(SqlStorage):
    """A twin of a `SqlStorage` whose start makes no tables, no file and no records: it checks what is there.

    Args:
        of: the storage that the app was given; it stays as it is.
    """

    wanted_version = VERSION
    """Of the tables, as this Headrace needs them."""

    _records = False

    def __init__(self, of: SqlStorage) -> None:
        vars(self).update(vars(of))
        self.makes_tables = of._create
        """Whether a start of the app itself makes or upgrades the tables."""
        self._create = False
        self._running = None
        self.listeners = Listeners()

    async def start(self, app: str, *, partitions: int) -> Sequence[str]:
        """See `Storage.start`.

        Raises:
            SchemaVersionError: there are no tables, or they are of another version.
        """
        if (file := self._missing_file()) is not None:
            raise SchemaVersionError(
                f"there is no database yet: the file {file} does not exist. A start of the app makes it"
            )
        return await super().start(app, partitions=partitions)

    async def version(self) -> int | None:
        """The version of the tables in the database, or None if there are none.

        Raises:
            StorageUnavailable: the database cannot be reached.
        """
        if self._missing_file() is not None:
            return None
        database = self._open()
        try:
            await database.learn()
            return await setup.version_of(database)
        except Exception as error:
            raise database.fault(error) from error
        finally:
            await database.close()

    async def migration(self) -> Migration:
        """What `create_schema` would do now; it makes nothing, not even the file of an SQLite database.

        Raises:
            StorageUnavailable: the database cannot be reached.
        """
        is_missing = self._missing_file() is not None
        database = self._open()
        try:
            if is_missing:
                return missing_database(database.engine.dialect, self.metadata)
            async with database.engine.connect() as connection:
                return await connection.run_sync(migration_of, self.metadata)
        except Exception as error:
            raise database.fault(error) from error
        finally:
            await database.close()

    @property
    def where(self) -> str:
        """Its URL, without the password."""
        return self._url.render_as_string(hide_password=True)

    def _missing_file(self) -> Path | None:
        """The file of an SQLite database that connecting would make."""
        name = self._url.database
        if self._url.get_backend_name() != "sqlite" or not name or name.startswith("file:"):
            return None
        file = Path(name)
        return None if file.exists() else file
