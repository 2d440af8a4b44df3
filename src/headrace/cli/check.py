"""`headrace check`: everything that can be found out about an app before it is started, for CI and deployments."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headrace.cli.checks import Finding, State, connected_findings, route_findings, wiring_findings
from headrace.cli.ending import Code
from headrace.cli.loading import load
from headrace.cli.opening import keep_quiet
from headrace.cli.output import App, Json, Output, answering


def check(
    app: App,
    offline: Annotated[
        bool, typer.Option("--offline", help="Look at the wiring alone; connect to nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Find out what is wrong with an app.

    Every wiring fault, and whether database, broker and topics are as the app needs them. Nothing is changed.

    Exit codes: 0 all is well, 1 something is wrong with the app or its database, 2 the command line is wrong, 3 database or
    broker could not be reached.
    """
    keep_quiet()
    with answering(app, json) as out:
        loaded = load(app)
        findings = wiring_findings(loaded)
        if not any(one.state is State.FAULT for one in findings):
            findings += route_findings(loaded)
            if not offline:
                findings += asyncio.run(connected_findings(loaded))
        states = {one.state for one in findings}
        if json:
            ok = not states & {State.FAULT, State.AWAY}
            out.data({"app": loaded.name, "ok": ok, "findings": findings})
        else:
            _show(out, loaded.name, findings)
    if State.FAULT in states:
        raise typer.Exit(Code.FAULT)
    if State.AWAY in states:
        raise typer.Exit(Code.UNREACHABLE)


def _show(out: Output, name: str, findings: Sequence[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for one in findings:
        table.add_row(
            Text(_MARKS[one.state][0], _MARKS[one.state][1]),
            Text(one.what, "dim"),
            Text(one.text),
        )
    out.show(Text(name, "bold"), Padding(table, (0, 0, 0, 2), expand=False))
    faults = sum(one.state is State.FAULT for one in findings)
    away = sum(one.state is State.AWAY for one in findings)
    parts = [f"{faults} fault{'s' if faults != 1 else ''}" if faults else ""]
    parts.append(f"{away} not reached" if away else "")
    told = ", ".join(part for part in parts if part)
    out.show(Text(told or "No faults.", "bold red" if told else "bold green"))


_MARKS: Mapping[State, tuple[str, str]] = {
    State.OK: ("ok", "green"),
    State.NOTE: ("note", "yellow"),
    State.FAULT: ("fault", "bold red"),
    State.AWAY: ("away", "bold red"),
}
