"""How commands end: the exit codes, which docs/worker.md explains, and the words for people."""

from __future__ import annotations

import enum
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import msgspec
import typer

from headrace.errors import BrokerUnavailable, HeadraceError, StorageBusy, StorageUnavailable


class Code(enum.IntEnum):
    """What an exit code of the command tells whoever started it."""

    DONE = 0
    FAULT = 1
    """The app is wired or configured wrongly, or raised while it was made or started: starting again will not help."""
    USAGE = 2
    """The command line cannot be used: an unknown option, or no app where it says."""
    UNREACHABLE = 3
    """Database or broker could not be reached at the start: try again later."""
    CUT = 4
    """It stopped before all running work had ended; that is rolled back and done again by whoever is next."""


class Fault(Exception):
    """A command cannot go on.

    Args:
        text: for people: what happened and what to do.
        code: what the process exits with.
        name: the code of the error of Headrace behind it (`HR030`), or None.
    """

    def __init__(self, text: str, code: Code, *, name: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.name = name


def end(fault: Fault, *, json: bool = False) -> NoReturn:
    """Say what is wrong on the error stream, or as JSON on standard output, and exit."""
    if json:
        told = {"message": str(fault), "code": fault.name, "exit_code": int(fault.code)}
        sys.stdout.write(msgspec.json.encode({"error": told}).decode() + "\n")
    else:
        sys.stderr.write(f"headrace: {fault}\n")
    raise typer.Exit(fault.code)


def fault_of(what: str, error: Exception) -> Fault:
    """An error that an app raised, as the end of a command.

    Args:
        what: what was being done, as the beginning of a sentence.
        error: Headrace's own explain themselves; of others the traceback is shown, from the app's own code on.
    """
    if isinstance(error, StorageUnavailable | StorageBusy | BrokerUnavailable):
        return Fault(f"{what}: {error}", Code.UNREACHABLE, name=error.code)
    if isinstance(error, HeadraceError):
        return Fault(f"{what}: {error}", Code.FAULT, name=error.code)
    text = "".join(traceback.format_exception(type(error), error, _of_the_app(error)))
    return Fault(f"{what}: {type(error).__name__}: {error}\n{text.rstrip()}", Code.FAULT)


def _of_the_app(error: BaseException) -> TracebackType | None:
    """The traceback without its beginning in this command and in the machinery of imports."""
    found = error.__traceback__
    while found is not None:
        file = found.tb_frame.f_code.co_filename
        if "importlib" not in file and Path(file).parent != Path(__file__).parent:
            return found
        found = found.tb_next
    return None
