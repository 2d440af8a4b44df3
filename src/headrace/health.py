"""Health: whether a process lives and is ready, with the reasons in words, and an ASGI endpoint that tells it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

from msgspec import Struct, json

__all__ = ["Answer", "Checked", "Health", "HealthEndpoint", "answer"]


class Health(Struct, frozen=True, kw_only=True):
    """What a process says of itself (G13).

    Args:
        app: the app's name.
        roles: what the process does, sorted.
        live: the app is started. Whoever gets an answer at all knows that the event loop runs.
        ready: the process can do what its roles are for.
        reasons: why it is not ready, each a sentence; empty if it is.
        notes: what is wrong elsewhere, or will be soon, and does not make this process unready; each a sentence.
    """

    app: str
    roles: tuple[str, ...]
    live: bool
    ready: bool
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Checked(Protocol):
    """What an endpoint needs of an app; `Headrace` is one."""

    async def health(self, *, timeout_seconds: float = 2.0, strict: bool = False) -> Health:
        """The health now, within the time."""
        ...


class Answer(Struct, frozen=True):
    """An answer to a probe.

    Args:
        status: 200, 404, 405 or 503.
        body: JSON.
    """

    status: int
    body: bytes


async def answer(
    app: Checked, method: str, path: str, *, timeout_seconds: float, strict: bool
) -> Answer:
    """What a probe gets.

    Args:
        app: whose health it asks for.
        method: GET or HEAD.
        path: `/live`: 200 while the app is started. `/ready` and `/`: 200 while it is ready.
        timeout_seconds: see `Headrace.health`.
        strict: see `Headrace.health`.
    """
    path = path.rstrip("/") or "/"
    if path not in ("/", "/live", "/ready"):
        return _written(404, {"error": f"there is no {path}; ask for /live, /ready or /"})
    if method not in ("GET", "HEAD"):
        return _written(405, {"error": f"{method} is not answered; use GET"})
    health = await app.health(timeout_seconds=timeout_seconds, strict=strict)
    good = health.live if path == "/live" else health.ready
    found: dict[str, object] = {
        "status": "ok" if good else "failing",
        "app": health.app,
        "roles": health.roles,
        "live": health.live,
        "ready": health.ready,
        "reasons": health.reasons,
        "notes": health.notes,
    }
    return _written(200 if good else 503, found)


def _written(status: int, found: Mapping[str, object]) -> Answer:
    return Answer(status, json.format(json.encode(found), indent=2) + b"\n")


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class HealthEndpoint:
    """An ASGI application that answers `/live`, `/ready` and `/` with JSON: 200, or 503 with the reasons.

    Mount it in FastAPI or Starlette, `web.mount("/health", HealthEndpoint(app))`, or serve it alone. It needs nothing but the
    standard library, and shows no URL, password or payload. It starts and stops nothing.

    Args:
        app: the app that this process runs.
        timeout_seconds: how long an answer may take, also when the database hangs. Default 2: probes wait longer.
        strict: let `Health.notes` make the process unready too. Default False: a broker outage does not take web processes
            out.
    """

    def __init__(self, app: Checked, *, timeout_seconds: float = 2.0, strict: bool = False) -> None:
        self._app = app
        self._timeout = timeout_seconds
        self._strict = strict

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        method = str(scope["method"])
        found = await answer(
            self._app,
            method,
            _below_mount(scope),
            timeout_seconds=self._timeout,
            strict=self._strict,
        )
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(found.body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": found.status, "headers": headers})
        body = b"" if method == "HEAD" else found.body
        await send({"type": "http.response.body", "body": body})


def _below_mount(scope: Scope) -> str:
    # `root_path` is where this application is mounted; since ASGI 2.4 the path begins with it.
    path, mount = str(scope["path"]), str(scope.get("root_path") or "")
    return path.removeprefix(mount) if path == mount or path.startswith(f"{mount}/") else path


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
