"""The command `headrace`: run, check and repair an app from a terminal. Needs the extra `cli`."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and exit."""
    if importlib.util.find_spec("typer") is None:
        sys.stderr.write(
            "The command headrace needs the package 'typer', which is not installed. Install the extra: "
            "pip install 'headrace[cli]'\n"
        )
        sys.exit(1)
    from headrace.cli.commands import application

    application(prog_name="headrace")
