"""A web server that ends in the command's own order. Imported only by a command that serves: it needs uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
from collections.abc import Callable, Generator, Sequence

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

GRACE_SECONDS = 3
"""How long requests that are under way may take at the end."""


class _Server(uvicorn.Server):
    """Leaves signals alone: uvicorn raises them once more at its end, in the middle of closing the database."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    *,
    hosts: Sequence[str],
    ending: Callable[[], None],
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        app: what answers.
        listening: bound already.
        hosts: the names that it answers to; "*" for any. A page of another site must not reach it under a name of that site's.
        ending: called when it is to end, before the server waits for its connections.
    """
    guarded = TrustedHostMiddleware(app, allowed_hosts=hosts, www_redirect=False)
    server = _Server(
        uvicorn.Config(
            guarded, log_level="warning", lifespan="off", timeout_graceful_shutdown=GRACE_SECONDS
        )
    )
    end = functools.partial(_end, server, ending)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)
    await server.serve(sockets=[listening])


def _end(server: uvicorn.Server, ending: Callable[[], None]) -> None:
    ending()
    server.should_exit = True
