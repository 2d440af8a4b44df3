"""Replays New York's flights, shows how they flow, and reconciles the result with the file: `make demo`.

Exits with 0 if every figure agrees, 1 if something differs, 2 if there is nothing to replay, 130 if interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from examples.flights import app, log, settings, storage
from examples.flights.fetch import NoFlights
from examples.flights.figures import Figures, expected
from examples.flights.flying import Flying
from examples.flights.forget import forget
from examples.flights.progress import view_for
from examples.flights.reconcile import compared, differences
from examples.flights.replay import FindPlace, FinishReplay
from examples.flights.statistics import ReadFigures
from examples.flights.summary import show_summary
from headrace.errors import DrainTimeout

SHOWN = 20


async def replay(console: Console) -> Figures:
    """Replay what is left in the running app, show it, and answer what the read model says in the end."""
    flying = Flying(app, storage, log)
    start = await flying.find_place()
    if start.replayed:
        console.print(f"going on behind command {start.replayed:,} of {flying.commands:,}")
    started = time.monotonic()
    with view_for(console, flying.commands, flying.notifications, start) as view:
        await flying.fly(view.show)
    console.print(
        f"sent {flying.commands - start.replayed:,} commands and handled "
        f"{flying.notifications - start.handled:,} events in {time.monotonic() - started:.1f} s"
    )
    return await app.send(ReadFigures())


async def reconcile(console: Console, read: Figures, wanted: Figures) -> int:
    """Say whether the read model agrees with the file; if it does, the replay is finished."""
    dead = await app.dead_letters.list(limit=SHOWN)
    found = differences(read, wanted)
    for fault in [*(f"dead letter: {letter}" for letter in dead), *found[:SHOWN]]:
        console.print(fault, style="red", markup=False, soft_wrap=True)
    if found or dead:
        console.print(
            f"NOT reconciled: {len(found):,} of {compared(wanted):,} figures differ from the file. "
            f"To start over: python -m examples.flights --fresh",
            style="bold red",
            soft_wrap=True,
        )
        return 1
    await app.send(FinishReplay())
    console.print(
        f"reconciled: all {compared(wanted):,} figures agree with the file; {wanted.handled:,} events handled, "
        f"each once, in order for each of {len(wanted.aircraft):,} aircraft",
        style="bold green",
        soft_wrap=True,
    )
    return 0


async def prepare(console: Console, *, fresh: bool) -> None:
    """Start over if asked for, or if the last replay was finished."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    if not fresh and (settings.storage or settings.database.exists()):
        async with app:
            place = await app.send(FindPlace())
        if place is not None and place.log != log.name:
            raise NoFlights(
                f"{settings.place} was made from {place.log}, and this is {log.name}. "
                f"To start over: python -m examples.flights --fresh"
            )
        fresh = place is not None and place.finished
        if fresh:
            console.print("the last replay was finished and reconciled: starting afresh")
    if fresh:
        await forget(settings)


async def run(console: Console, *, fresh: bool) -> int:
    """The whole demo. Returns the exit code."""
    started = time.monotonic()
    wanted = expected(log.flights)
    console.print(
        f"read {len(log.flights):,} flights, {len(log.happenings):,} happenings, in "
        f"{time.monotonic() - started:.1f} s"
    )
    await prepare(console, fresh=fresh)
    app.telemetry.observe_sends = True  # so that `make dashboard` shows every handler
    async with app:
        read = await replay(console)
        show_summary(console, read)
        return await reconcile(console, read, wanted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m examples.flights", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="forget what was replayed before")
    parser.add_argument(
        "--engines", action="store_true", help="fly on every pair of storage and broker found here"
    )
    given = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        if given.engines:
            from examples.flights.pairs import fly_all  # here: it needs what tests need

            return fly_all(console)
        return asyncio.run(run(console, fresh=given.fresh))
    except NoFlights as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 2
    except DrainTimeout as error:
        console.print(f"it does not go on: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\ninterrupted. Run it again: it goes on where it stopped.", soft_wrap=True)
        return 130


if __name__ == "__main__":
    sys.exit(main())
