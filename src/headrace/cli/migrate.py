"""`headrace migrate`: the tables of Headrace in an app's database."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from headrace.app import Headrace
from headrace.assembly.parts import OUTBOX_PARTITIONS
from headrace.cli.asking import Yes, confirm
from headrace.cli.ending import Code, Fault
from headrace.cli.loading import load
from headrace.cli.opening import existing
from headrace.cli.output import App, Json, Output, answering
from headrace.cli.tables import indented

if TYPE_CHECKING:
    from headrace.drivers.sql.existing import ExistingStorage
    from headrace.drivers.sql.migrating import Migration


def migrate(
    app: App,
    check: Annotated[
        bool,
        typer.Option("--check", help="Change nothing; exit with 1 if something is to be done."),
    ] = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="Change nothing; write the statements for a DBA.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Make or upgrade the tables of Headrace.

    Makes those that are missing, and brings older ones to this version. Running it again does nothing. Tables that were given
    as SqlStorage(metadata=...) are made too. Exit codes: 0 done, or nothing to do; 1 not done, or with --check something is
    to be done; 2 the command line is wrong; 3 the database could not be reached.
    """
    with answering(app, json) as out:
        if check and sql:
            raise Fault("give --check or --sql, not both.", Code.USAGE)
        loaded = load(app)
        storage = _database(loaded)
        code = asyncio.run(_run(loaded.name, storage, out, check=check, sql=sql, yes=yes))
        raise typer.Exit(code)


def _database(app: Headrace) -> ExistingStorage:
    storage = existing(app)
    from headrace.drivers.sql.existing import ExistingStorage

    if not isinstance(storage, ExistingStorage):
        raise Fault(
            f"the storage of the app {app.name!r} is {type(storage).__name__}, which has no tables that this command knows.",
            Code.FAULT,
        )
    return storage


async def _run(
    name: str, storage: ExistingStorage, out: Output, *, check: bool, sql: bool, yes: bool
) -> Code:
    migration = await storage.migration()
    _refuse(name, migration)
    if sql:
        _write(name, migration, out)
        return Code.DONE
    if not migration.statements or check:
        _tell(name, storage, migration, out, changed=False)
        return Code.FAULT if migration.statements else Code.DONE
    if not out.json:
        out.show(*_view(name, storage, migration), "")
    what = "Make the tables" if migration.found is None else "Change the tables"
    confirm(f"{what} in {storage.where}", yes=yes)
    await storage.create_schema()
    left = await storage.migration()
    if left.statements:
        raise Fault(
            f"the tables are not as they should be after the change: {'; '.join(left.statements)}. Run --sql, and look at "
            "the database.",
            Code.FAULT,
        )
    if out.json:
        _tell(name, storage, migration, out, changed=True)
    else:
        out.show(f"Done: the tables of Headrace have version {left.found}.")
    return Code.DONE


def _refuse(name: str, migration: Migration) -> None:
    """What this command cannot mend."""
    if migration.newer:
        raise Fault(
            f"the tables of Headrace in the database of the app {name!r} have version {migration.found}, and this Headrace knows "
            f"{migration.wanted}: it is older than the one that made them. Install that one here too; tables are not "
            "brought back to an older version.",
            Code.FAULT,
        )
    count = dict(migration.partitions).get(name, OUTBOX_PARTITIONS)
    if count != OUTBOX_PARTITIONS:
        raise Fault(
            f"the outbox of the app {name!r} was first started with {count} partitions, and this Headrace has "
            f"{OUTBOX_PARTITIONS}: the place of a key depends on it, so it cannot change while messages are there. Something "
            "else than an app of Headrace has started this storage by hand; start it with that number.",
            Code.FAULT,
        )


def _tell(
    name: str, storage: ExistingStorage, migration: Migration, out: Output, *, changed: bool
) -> None:
    if not out.json:
        out.show(*_view(name, storage, migration))
        return
    out.data(
        {
            "app": name,
            "database": storage.where,
            "found": migration.found,
            "wanted": migration.wanted,
            "tables": migration.tables,
            "statements": migration.statements,
            "changed": changed,
            "outbox_partitions": dict(migration.partitions).get(name),
        }
    )


def _view(name: str, storage: ExistingStorage, migration: Migration) -> list[RenderableType]:
    parts: list[RenderableType] = [
        Text.assemble((name, "bold"), (f"  {storage.where}", "dim")),
    ]
    if migration.found is None and "headrace_queue" not in migration.tables:
        parts.append(
            "There are tables of Headrace here, and no row that tells their version. They are taken to be of version "
            f"{migration.wanted}; if an older Headrace made them, write that row first: "
            "INSERT INTO headrace_meta (app, name, value) VALUES ('', 'schema', '<version>')."
        )
    elif migration.found is None:
        parts.append(
            f"There are no tables of Headrace here. Version {migration.wanted} is to be made."
        )
    elif migration.found < migration.wanted:
        parts.append(
            f"The tables of Headrace have version {migration.found}; this Headrace needs {migration.wanted}."
        )
    elif migration.statements:
        parts.append(
            f"The tables of Headrace have version {migration.found}, but some are missing."
        )
    else:
        parts.append(
            f"The tables of Headrace have version {migration.found}: nothing is to be done."
        )
    if migration.tables:
        parts += ["Tables to make:", indented(Text(", ".join(migration.tables)))]
    changes = [one for one in migration.statements if not _makes(one, migration)]
    if changes and migration.found is not None:
        parts += ["Changes:", indented(Text("\n".join(changes)))]
    count = dict(migration.partitions).get(name)
    if count is not None:
        parts.append(
            Text(f"The outbox has {count} partitions, which is fixed.", "dim"),
        )
    return parts


def _makes(statement: str, migration: Migration) -> bool:
    """True if it makes one of the missing tables, or an index of one."""
    first = statement.partition("\n")[0]
    return any(f" {table} " in f"{first} " for table in migration.tables)


def _write(name: str, migration: Migration, out: Output) -> None:
    if out.json:
        out.data({"statements": migration.statements, "atomic": migration.atomic})
        return
    found = "none" if migration.found is None else f"version {migration.found}"
    lines = [
        f"-- Tables of Headrace for the app {name!r}: {found} here, {migration.wanted} wanted."
    ]
    if not migration.statements:
        lines.append("-- Nothing is to be done.")
    else:
        lines += ["BEGIN;"] if migration.atomic else []
        lines += [f"{statement};" for statement in migration.statements]
        lines += ["COMMIT;"] if migration.atomic else []
    sys.stdout.write("\n".join(lines) + "\n")  # for a file or a client: no line is cut
    sys.stdout.flush()
