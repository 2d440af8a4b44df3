"""All subcommands. A new one is a module of its own and a line here, at its place in the help."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from headrace.cli.asyncapi import asyncapi
from headrace.cli.check import check
from headrace.cli.dashboard import dashboard
from headrace.cli.dead import dead
from headrace.cli.explain import explain
from headrace.cli.flow import flow
from headrace.cli.migrate import migrate
from headrace.cli.status import status
from headrace.cli.worker import worker

application = typer.Typer(
    name="headrace",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
"""The command `headrace`."""


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headrace {version('headrace')}")
        raise typer.Exit


@application.callback()
def _headrace(  # pyright: ignore[reportUnusedFunction]
    _: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    """See, run, check and repair Headrace apps.

    APP is module:app, or 'module:make()' for a function that makes the app. Every command but worker takes --json.
    """


application.command()(check)
application.command()(flow)
application.command()(worker)
application.command()(status)
application.command()(dashboard)
application.command()(explain)
application.command()(migrate)
application.command()(asyncapi)
application.add_typer(dead)
