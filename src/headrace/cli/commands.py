"""All subcommands, and how a command that cannot go on ends. A new subcommand is a module of its own and a line here."""

from __future__ import annotations

import typer

from headrace.cli.check import check
from headrace.cli.worker import worker

application = typer.Typer(
    name="headrace",
    help="Run, check and repair Headrace apps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
"""The command `headrace`."""


@application.callback()
def _headrace() -> None:  # pyright: ignore[reportUnusedFunction]
    """Run, check and repair Headrace apps. APP is module:app, or module:make() for a function that makes the app."""


application.command()(worker)
application.command()(check)
