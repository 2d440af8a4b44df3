"""A command that changes data asks first, or was told not to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from headrace.cli.ending import Code, Fault
from headrace.cli.output import console

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
"""The option of every command that changes data."""


def confirm(what: str, *, yes: bool) -> None:
    """Ask on the terminal whether to go on. The question goes to the error stream, so that an answer may be piped.

    Args:
        what: what is going to be done, as a sentence without its full stop: "Drop 3 dead letters of 'shop'".
        yes: it was agreed to on the command line: do not ask.

    Raises:
        Fault: the answer was no, or there is no terminal to ask on. Nothing may be changed then.
    """
    if yes:
        return
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        raise Fault(
            f"{what}? There is no terminal to ask on, so nothing was changed. Pass --yes to go on without a question.",
            Code.USAGE,
        )
    ask = console(error=True)
    ask.print(f"{what}? [dim]\\[y/N][/dim] ", end="", soft_wrap=True)
    try:
        answer = input()
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise Fault("nothing was changed.", Code.FAULT)
