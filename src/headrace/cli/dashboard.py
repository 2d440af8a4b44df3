"""`headrace dashboard`: the pages of an app on an address of this machine, while its processes run elsewhere."""

from __future__ import annotations

import asyncio
import getpass
import importlib.util
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app import Headrace
from headrace.cli.ending import Code, Fault
from headrace.cli.hiding import Hide, fields_of
from headrace.cli.loading import load
from headrace.cli.opening import opened
from headrace.cli.output import App, Json, Output, answering
from headrace.errors import MissingExtra

if TYPE_CHECKING:
    from starlette.requests import Request

    from headrace.dashboard import Action, Redact

PORT = 8765
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def dashboard(
    app: App,
    host: Annotated[
        str, typer.Option(help="Listen here. The default is seen on this machine only.")
    ] = LOOPBACK[0],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = PORT,
    allow_actions: Annotated[
        bool,
        typer.Option(
            "--allow-actions",
            help="Let dead letters be redriven, edited and dropped, in your name. Only on this machine.",
        ),
    ] = False,
    redact: Hide = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also answer to this name, as that of a proxy."),
    ] = None,
    json: Json = False,
) -> None:
    """Show the app in the browser.

    Live flow, messages, backlogs and owners, dead letters, audit: it reads what the app's processes have stored, and runs
    nothing of the app itself. SIGINT or SIGTERM ends it. To have it in your web application, with your log-in, mount
    headrace.dashboard.Dashboard there.
    """
    with answering(app, json) as output:
        if allow_actions and host not in LOOPBACK:
            raise Fault(
                f"--allow-actions is for this machine alone, and --host {host} may be reached by others, whom this command "
                "cannot tell apart. Leave one of them out, or mount headrace.dashboard.Dashboard(app, authorize=...) in your web "
                "application.",
                Code.USAGE,
            )
        if importlib.util.find_spec("uvicorn") is None:
            raise MissingExtra.of("headrace dashboard", "dashboard", "uvicorn")
        hidden = fields_of(redact or ())
        hosts = [*LOOPBACK, host, *(allowed_host or ())] if host in LOOPBACK else allowed_host
        loaded = load(app)
        asyncio.run(
            _serve(
                loaded,
                output,
                _listening(host, port),
                hosts=hosts,
                redact=hidden,
                acts=allow_actions,
            )
        )


async def _serve(
    app: Headrace,
    output: Output,
    listening: socket.socket,
    *,
    hosts: Sequence[str] | None,
    redact: Redact,
    acts: bool,
) -> None:
    from headrace.cli.serving import serve
    from headrace.dashboard import Dashboard

    def who(_: Request, action: Action) -> str | None:
        return getpass.getuser()

    async with opened(app, broker=True) as found:
        pages = Dashboard(found.app, authorize=who if acts else None, redact=redact)
        _say(app, output, listening, acts, found.broker_error)
        await serve(pages, listening, hosts=hosts or ["*"], ending=pages.end_streams)


def _say(
    app: Headrace, output: Output, listening: socket.socket, acts: bool, problem: str | None
) -> None:
    host, port = listening.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    if output.json:
        output.data({"app": app.name, "url": url, "actions": acts}, lines=True)
        return
    does = (
        f"actions are recorded as {getpass.getuser()}" if acts else "nothing can be changed on it"
    )
    sys.stdout.write(f"The dashboard of {app.name} is on {url} ({does}). Ctrl-C ends it.\n")
    if host not in LOOPBACK:
        sys.stdout.write("Whoever reaches that address sees all of it: there is no log-in.\n")
    if problem is not None:
        sys.stdout.write(
            f"The broker cannot be reached, so it is not shown how far groups are: {problem}\n"
        )
    sys.stdout.flush()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        raise Fault(
            f"the dashboard cannot listen on {host}, port {port}: {error.strerror or error}. Pass another --port, or --port 0 "
            "for a free one.",
            Code.USAGE,
        ) from error
    return made
