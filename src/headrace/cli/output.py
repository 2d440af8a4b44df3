"""What commands write: for people by rich, plain where there is no terminal; for programs as JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.text import Text

from headrace.cli.ending import Fault, end, fault_of

App = Annotated[str, typer.Argument(metavar="APP", help="module:app, or module:make().")]
"""The app that a command is about."""

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
"""Every command has this option."""

PIPE_WIDTH = 200
"""Columns where there is no terminal: wide enough that no line of a table is cut, for `grep` and logs."""


class Output:
    """Where a command writes its answer.

    Args:
        json: for programs: one JSON document, or a line for each.
    """

    def __init__(self, json: bool = False) -> None:
        self.json = json
        self.console = console()

    def data(self, value: object, *, lines: bool = False) -> None:
        """Write a JSON document: plain values, dataclasses and Structs.

        Args:
            value: what to write.
            lines: on one line, where several documents follow each other. Default: indented.
        """
        written = msgspec.json.encode(value, enc_hook=str)
        text = written if lines else msgspec.json.format(written, indent=2)
        sys.stdout.write(text.decode() + "\n")
        sys.stdout.flush()

    def show(self, *what: RenderableType) -> None:
        """Write for people: text with marks of rich, tables, trees. Text that is not yours goes through `rich.markup.escape`."""
        if self.console.is_terminal:
            for one in what:
                self.console.print(one, soft_wrap=_as_it_is(one))
            return
        with self.console.capture() as written:
            for one in what:
                self.console.print(one, soft_wrap=_as_it_is(one))
        # Columns are filled with blanks, which nobody sees on a terminal and everybody in a file.
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in written.get().splitlines()))
        sys.stdout.flush()


def _as_it_is(what: RenderableType) -> bool:
    """Whether its lines are left to the terminal to break."""
    return isinstance(what, str) or (isinstance(what, Text) and bool(what.no_wrap))


def console(*, error: bool = False) -> Console:
    """A console on standard output, or on the error stream. Without a terminal it has no colours and wide lines."""
    made = Console(stderr=error, highlight=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_WIDTH
    return made


@contextmanager
def answering(what: str, json: bool = False) -> Generator[Output]:
    """Around a whole command: an error ends it with words for people, or as `{"error": {...}}`, and its exit code.

    Args:
        what: what is being done, as the beginning of a sentence; most often the app as it was named.
        json: see `Output`.
    """
    output = Output(json)
    try:
        yield output
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:
        # Whoever read has seen enough, as `head` does. The interpreter would flush once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except Fault as fault:
        end(fault, json=json)
    except Exception as error:
        end(fault_of(what, error), json=json)
