"""`headrace check`: every wiring fault of an app, without starting anything."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli.ending import Code, Fault, end, fault_of
from headrace.cli.loading import load

App = Annotated[str, typer.Argument(metavar="APP", help="module:app, or module:make().")]


def check(app: App) -> None:
    """Find every wiring fault, without connecting to anything. For CI: exit code 1 if there is one."""
    try:
        loaded = load(app)
        loaded.check()
    except Fault as fault:
        end(fault)
    except Exception as error:
        end(fault_of(app, error))
    typer.echo(f"{app}: the app {loaded.name!r} has no wiring faults.")
    raise typer.Exit(Code.DONE)
