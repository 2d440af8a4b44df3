"""`headrace status`: how an app stands, whichever processes of it run and wherever."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from headrace.cli.ending import Code
from headrace.cli.loading import load
from headrace.cli.opening import Opened, with_opened
from headrace.cli.output import App, Json, Output, answering
from headrace.cli.sheets import Sheet
from headrace.cli.standing import Line, Looking, Standing, short
from headrace.cli.tables import indented, table
from headrace.cli.times import for_long
from headrace.errors import StorageBusy, StorageUnavailable
from headrace.telemetry import Count


def status(
    app: App,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How often, with --watch.")
    ] = 2.0,
    fail: Annotated[
        bool,
        typer.Option("--fail-if-unhealthy", help="Exit with 1 if something is wrong, for scripts."),
    ] = False,
    json: Json = False,
) -> None:
    """Show what runs, what waits and what failed.

    Processes, backlogs, lag, owners, rates and dead letters: it reads the storage, asks the broker, and changes nothing.

    Exit codes: 0 told, 1 the app or its tables cannot be used (or, with --fail-if-unhealthy, something is wrong), 2 the command
    line is wrong, 3 the database could not be reached.
    """
    with answering(app, json) as out:
        try:
            last = with_opened(
                load(app), lambda one: _run(one, out, every if watch else None), broker=True
            )
        except KeyboardInterrupt:
            raise typer.Exit(Code.DONE) from None
        if fail and last.problems:
            raise typer.Exit(Code.FAULT)


async def _run(opened: Opened, out: Output, every: float | None) -> Standing:
    looking = Looking(opened)
    standing = await looking.look()
    if every is None:
        if out.json:
            out.data(standing)
        else:
            out.show(view(standing))
        return standing
    if out.json or not out.console.is_terminal:
        return await _lines(looking, standing, out, every)
    with Live(view(standing), console=out.console, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(every)
            try:
                standing = await looking.look()
            except (StorageUnavailable, StorageBusy) as error:
                away = Text(
                    f"The database cannot be reached; this is how it stood. {error}", "bold red"
                )
                live.update(Group(view(standing), "", away), refresh=True)
            else:
                live.update(view(standing), refresh=True)


async def _lines(looking: Looking, standing: Standing, out: Output, every: float) -> Standing:
    """Without a terminal: one after the other, as JSON a line each."""
    while True:
        if out.json:
            out.data(standing, lines=True)
        else:
            out.show(view(standing), "")
        await asyncio.sleep(every)
        standing = await looking.look()


def view(standing: Standing) -> RenderableType:
    """A standing for people."""
    count = len(standing.processes)
    alive = f"{count or 'no'} process{'' if count == 1 else 'es'} alive"
    parts: list[RenderableType] = [
        Text.assemble((standing.app, "bold"), (f"  {alive}", "dim" if count else "bold yellow"))
    ]
    if standing.processes:
        parts.append(indented(_processes(standing)))
    if standing.lines:
        since = "since each process started" if standing.rates_since_start else "now"
        parts += [
            "",
            Text.assemble(
                ("queues", "bold"),
                (
                    f"  rates are means {since}" if count and standing.rates_since_start else "",
                    "dim",
                ),
            ),
        ]
        parts.append(indented(_queues(standing)))
    if standing.dead:
        parts += ["", Text("dead letters", "bold"), indented(_dead(standing))]
    if standing.problems:
        parts += ["", Text("look at this", "bold red")]
        parts += [indented(Text(one)) for one in standing.problems]
    return Group(*parts)


def _processes(standing: Standing) -> Sheet:
    made = table("process", "roles", ">up", ">sent/s", ">published/s", ">handled/s")
    for one in standing.processes:
        up = max(one.at - one.started_at, 1e-9)
        shown = [one.counts.get(name, 0) / up for name in _COUNTED]
        made.add_row(
            short(one.process),
            ", ".join(one.roles),
            for_long(up + one.age_seconds),
            *(_rate(rate) for rate in shown),
        )
    return made


def _queues(standing: Standing) -> Sheet:
    made = table(
        "queue", ">ready", ">waiting", ">held", ">dead", ">oldest", ">behind", ">/s", "worked by"
    )
    for line in standing.lines:
        stored = line.backlog
        made.add_row(
            line.name if line.topic is None else f"{line.name}, {line.topic}",
            *(_count(number) for number in (stored.ready, stored.waiting, stored.held)),
            Text(_count(stored.dead), "red" if stored.dead else ""),
            for_long(stored.oldest_seconds) if stored.oldest_seconds else "-",
            "?" if line.behind is None and line.topic is not None else _count(line.behind or 0),
            _rate(line.per_second) if line.per_second is not None else "-",
            _owners(line),
        )
    return made


def _owners(line: Line) -> Text:
    parts = [f"{short(owner)} ({count})" for owner, count in line.owners.items()]
    text = Text(", ".join(parts))
    if line.ownerless:
        style = "bold red" if line.waits else "yellow"
        text.append(", " if parts else "").append(
            f"nobody ({len(line.ownerless)})" if parts else "nobody", style
        )
    return text


def _dead(standing: Standing) -> Sheet:
    names = {line.queue: line.name for line in standing.lines}
    dead = standing.dead
    made = table(">count", "queue", "topic", "error", "newest says")
    for one in dead[:10]:
        made.add_row(
            str(one.count),
            names.get(one.queue, one.queue),
            one.topic,
            one.error,
            Text(one.sample.partition("\n")[0]),
        )
    if len(dead) > 10:
        made.add_row("", f"and {len(dead) - 10} more", "", "", "")
    return made


_COUNTED = (Count.SENT, Count.PUBLISHED, Count.CONSUMED)


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ") if number else "-"


def _rate(rate: float) -> str:
    if not rate:
        return "-"
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 0.05 else "<0.1"
