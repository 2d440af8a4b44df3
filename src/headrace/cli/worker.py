"""`headrace worker`: relay and consumers as a process of their own."""

from __future__ import annotations

import enum
import logging
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from headrace.app import Role
from headrace.cli.ending import Code, Fault, end, fault_of
from headrace.cli.loading import load
from headrace.cli.probes import address_of
from headrace.cli.processes import Processes, command_of
from headrace.cli.reloading import Reloading, folders_of
from headrace.cli.running import restricted, run
from headrace.cli.stopping import Stopping


class Only(enum.StrEnum):
    """What a worker may be restricted to."""

    RELAY = "relay"
    CONSUME = "consume"


class Level(enum.StrEnum):
    """The least grave records that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def worker(
    app: Annotated[str, typer.Argument(metavar="APP", help="module:app, or module:make().")],
    only: Annotated[
        list[Only] | None,
        typer.Option(help="Take this role alone; may be given twice. Default: relay and consume."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="How many processes; one that dies is started again.")
    ] = 1,
    log_level: Annotated[
        Level, typer.Option(help="The least grave records written, unless the app sets up logging.")
    ] = Level.INFO,
    health: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Answer /live and /ready there over HTTP."),
    ] = None,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="For development: start again when a .py file changes."),
    ] = False,
    reload_dir: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --reload: watch below this folder; may be repeated. Default: here."
        ),
    ] = None,
    until_end_of_input: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Relay the outbox and consume, until told to stop.

    SIGTERM or SIGINT lets it end what it does and stop; a second one stops it at once.

    Exit codes: 0 drained, 1 the app is wired or configured wrongly, 2 the command line is wrong, 3 database or broker could not
    be reached at the start, 4 stopped before all running work had ended.
    """
    roles: list[Role] = [_ROLES[one] for one in dict.fromkeys(only or Only)]
    code: int = Code.DONE
    # Until something has begun. Not a KeyboardInterrupt: one that comes in a callback of an import is lost.
    signal.signal(signal.SIGINT, _leave)
    try:
        if reload or reload_dir:
            command = command_of(app, roles, log_level)
            raise typer.Exit(_reload(command, reload_dir, processes, health))
        loaded, limits = restricted(load(app), roles)
        _set_up_logging(log_level)
        if processes == 1:
            address = address_of(health) if health is not None else None
            code = run(
                *(loaded, limits, Stopping()),
                until_end_of_input=until_end_of_input,
                health=address,
            )
        elif health is not None:
            raise Fault(
                "--health answers for one process, and --processes starts several, of which one may be ready and another not. "
                "Run one process for each address, as an orchestrator does with replicas.",
                Code.USAGE,
            )
        else:
            loaded.check()
            children = Processes(command_of(app, roles, log_level), processes, loaded.telemetry)
            code = children.run(Stopping(children.kill), limits.drain_seconds)
    except typer.Exit:
        raise
    except Fault as fault:
        end(fault)
    except Exception as error:
        end(fault_of(app, error))
    raise typer.Exit(code)


def _reload(
    command: tuple[str, ...], folders: list[Path] | None, processes: int, health: str | None
) -> int:
    if processes != 1:
        raise Fault(
            "--reload is for development and runs one process: leave --processes out.", Code.USAGE
        )
    if health is not None:
        address_of(health)
        command = (*command, "--health", health)
    worker = Reloading(command, folders_of(folders))
    return worker.run(Stopping(worker.kill))


def _leave(number: int, _: FrameType | None) -> None:
    Stopping().end(Code.DONE)


_ROLES: dict[Only, Role] = {Only.RELAY: "relay", Only.CONSUME: "consume"}


def _set_up_logging(level: Level) -> None:
    """Records go to the error stream. Does nothing if the app's module has set up the root logger."""
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(process)d %(levelname)-7s %(name)s: %(message)s",
    )
