"""The health of a worker over HTTP: as much of HTTP/1.1 as the probes of an orchestrator speak, and no more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus

from headrace.cli.ending import Code, Fault
from headrace.health import Answer, Checked, answer

HEAD_BYTES = 8 * 1024
"""The longest head of a request: probes send a few hundred bytes."""

READ_SECONDS = 5.0
"""How long a client may take to send the head of its request, and to take the answer."""

CONNECTIONS = 64
"""Connections at a time; more are closed at once, so that nobody can fill the process's memory."""

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (\S{1,2048}) HTTP/1\.[01]\r?\n")
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^:\[\]]*)):(?P<port>\d{1,5})")


def address_of(given: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `:PORT` (all addresses) or `[IPv6]:PORT`.

    Raises:
        Fault: it is none of these.
    """
    found = _ADDRESS.fullmatch(given)
    if found is None or int(found["port"]) > 65535:
        raise Fault(
            f"--health {given!r} is no HOST:PORT. Write for example 127.0.0.1:8080, or 0.0.0.0:8080 for all addresses.",
            Code.USAGE,
        )
    return found["six"] or found["host"] or "0.0.0.0", int(found["port"])


@asynccontextmanager
async def probes(app: Checked, host: str, port: int) -> AsyncGenerator[int]:
    """Answer `/live` and `/ready` on this address meanwhile; gives the port, which the system chose if 0 was asked for.

    Raises:
        Fault: it cannot listen there.
    """
    served = _Probes(app)
    try:
        server = await asyncio.start_server(served.serve, host, port, limit=HEAD_BYTES)
    except OSError as error:
        raise Fault(
            f"--health {host}:{port}: it cannot listen there: {error.strerror or error}. Take a free port and an address of "
            "this machine.",
            Code.USAGE,
        ) from error
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        served.cancel()


class _Probes:
    def __init__(self, app: Checked) -> None:
        self._app = app
        self._open: set[asyncio.Task[None]] = set()

    def cancel(self) -> None:
        for task in tuple(self._open):
            task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request, one answer. Whatever a client does, the worker goes on."""
        task = asyncio.current_task()
        if task is None or len(self._open) >= CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            async with asyncio.timeout(READ_SECONDS):
                method, found = await self._answer(reader)
                writer.write(_written(found, with_body=method != "HEAD"))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.CancelledError):
            # Gone, too slow, or the worker ends: nobody waits for the answer. A task of the server's own is not to raise.
            writer.transport.abort()
        finally:
            self._open.discard(task)

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[str, Answer]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return "GET", _plain(400)
        line = _REQUEST_LINE.match(head)
        if line is None:
            return "GET", _plain(400)
        method, target = line[1].decode("ascii"), line[2].decode("ascii", "replace")
        path = target.partition("?")[0]
        try:
            return method, await answer(self._app, method, path, timeout_seconds=2.0, strict=False)
        except Exception:
            return method, _plain(500)


def _plain(status: int) -> Answer:
    return Answer(status, b'{"error": "%s"}\n' % HTTPStatus(status).phrase.encode())


def _written(found: Answer, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {found.status} {HTTPStatus(found.status).phrase}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(found.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (found.body if with_body else b"")
