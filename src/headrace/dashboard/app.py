"""The dashboard as an ASGI application: its settings, its routes, and how it answers when something is wrong."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.app import Headrace
from headrace.dashboard import audit, backlogs, flow, letters, messages, repairs
from headrace.dashboard.actions import Authorize, AuthorizeView, may_view
from headrace.dashboard.live import Live
from headrace.dashboard.reading import Reader, Unreadable
from headrace.dashboard.security import Refused, protect
from headrace.dashboard.site import STATIC, Site
from headrace.drawing.style import STYLE
from headrace.errors import ConfigurationError
from headrace.redaction import Redact, Redaction

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

Page = Callable[[Site, Request], Awaitable[Response]]


class Dashboard:
    """Pages that show an app: its live flow, the life of a message, backlogs and owners, dead letters, and who did what.

    An ASGI application. Mount it under any prefix, `api.mount("/flow", Dashboard(app))`, or run it by `headrace dashboard`. It
    reads what the processes of the app have stored, so it shows all of them. Nothing on it changes anything unless `authorize` is
    given.

    Args:
        app: running, or only opened by `headrace dashboard`.
        authorize: says who wants to do an action, or None if they may not; see `Authorize`. Default None: there are no actions.
        authorize_view: says whether somebody may see the pages. Default None: everybody who reaches them; so protect the prefix
            in another way, or pass this.
        redact: fields that are never shown; see `Redact`. Fields annotated with `headrace.Sensitive` are hidden too.
        redact_errors: hide texts and tracebacks of errors of types with hidden fields altogether. Default False: only the hidden
            values are taken out of them.
        title: in the header. Default: the app's name.
        timeout_seconds: how long a page waits for the database before it says so. Default 5.
        streams: how many browsers may follow the live figures at once. Default 100: each holds a connection.
        observe_sends: count sends and handlers of this process by name, which the flow shows. Default True. It costs a
            fifth of a microsecond a send. Takes effect at the next start.
        trusted_origins: origins such as "https://ops.example.com" from which forms are accepted although the Host header tells
            another name, as behind a proxy that changes it. Default: none.

    Raises:
        ConfigurationError: a setting cannot be used.
    """

    def __init__(
        self,
        app: Headrace,
        *,
        authorize: Authorize | None = None,
        authorize_view: AuthorizeView | None = None,
        redact: Redact | None = None,
        redact_errors: bool = False,
        title: str | None = None,
        timeout_seconds: float = 5.0,
        streams: int = 100,
        observe_sends: bool = True,
        trusted_origins: Collection[str] = (),
    ) -> None:
        if timeout_seconds <= 0 or streams < 0:
            raise ConfigurationError(
                f"Dashboard(timeout_seconds={timeout_seconds!r}, streams={streams!r}): the time must be above zero, and the "
                "number of streams not below it."
            )
        reader = Reader(timeout_seconds)
        self._site = Site(
            app=app,
            title=title or app.name,
            redaction=Redaction(redact or {}, app.describe().messages, hides_errors=redact_errors),
            reader=reader,
            authorize=authorize,
            authorize_view=authorize_view,
            trusted_origins=frozenset(one.rstrip("/") for one in trusted_origins),
        )
        self._live = Live(app, reader, most=streams)
        app.telemetry.observe_sends |= observe_sends
        self._starlette = Starlette(
            routes=self._routes(),
            middleware=[Middleware(_Guard, site=self._site)],
            exception_handlers={
                Unreadable: self._unreadable,
                Refused: self._refused,
                HTTPException: self._http_error,
                Exception: self._broken,
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            # Starlette's own error page tells of the code; ours tells what to do.
            await self._starlette(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000, "reason": ""})

    def end_streams(self) -> None:
        """End the live figures of all browsers, for good: for a server that waits for its connections before it stops.

        Under uvicorn it is not needed.
        """
        self._live.end()

    def _routes(self) -> list[Route]:
        pages: list[tuple[str, Page]] = [
            ("/", functools.partial(flow.page, self._live)),
            ("/live", functools.partial(flow.stream, self._live)),
            ("/messages", messages.page),
            ("/backlogs", functools.partial(backlogs.page, self._live)),
            ("/dead", letters.groups),
            ("/dead/list", letters.listed),
            ("/dead/{position:int}", letters.one),
            ("/audit", audit.page),
        ]
        forms: list[tuple[str, Page]] = []
        if self._site.authorize is not None:
            pages += [
                ("/dead/{position:int}/edit", repairs.editor),
                ("/dead/ask", repairs.ask),
            ]
            forms = [
                ("/dead/redrive", repairs.redrive),
                ("/dead/drop", repairs.drop),
                ("/dead/{position:int}/edit", repairs.edit),
            ]
        return [
            Route("/static/{name}", _static),
            *(Route(path, self._endpoint(page), methods=["GET"]) for path, page in pages),
            *(Route(path, self._endpoint(page), methods=["POST"]) for path, page in forms),
        ]

    def _endpoint(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await page(self._site, request)

        return endpoint

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """As the only application of a server: its streams end with it."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.end_streams()
        await send({"type": "lifespan.shutdown.complete"})

    # When something is wrong ----------------------------------------------------------------------------------------------

    async def _unreadable(self, request: Request, error: Exception) -> Response:
        response = self._error(request, 503, "This cannot be read now", str(error))
        response.headers["retry-after"] = "5"
        return response

    async def _refused(self, request: Request, error: Exception) -> Response:
        code = error.code if isinstance(error, Refused) else 403
        what = "Not allowed" if code == 403 else "Nothing was done"
        return self._error(request, code, what, str(error))

    async def _http_error(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status == 404:
            return self._error(
                request,
                404,
                "There is no such page",
                "The address is wrong, or what was here is gone.",
            )
        return self._error(request, status, "This cannot be done", getattr(error, "detail", ""))

    async def _broken(self, request: Request, error: Exception) -> Response:
        return self._error(
            request,
            500,
            "The dashboard has a fault",
            f"{type(error).__name__}. The log of this process has the traceback. The app itself runs on.",
        )

    def _error(self, request: Request, status: int, what: str, text: str) -> Response:
        return self._site.page(
            request, "error.html", code=status, what=what, text=text, again=status == 503
        )


class _Guard:
    """Lets only those in who may see the pages."""

    def __init__(self, app: ASGIApp, *, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        if await may_view(self._site.authorize_view, request):
            await self._app(scope, receive, send)
            return
        response = self._site.page(
            request,
            "error.html",
            code=403,
            what="Not allowed",
            text="You may not see this dashboard. Log in to the application that it belongs to, or ask whoever runs it.",
            again=True,
        )
        await response(scope, receive, send)


async def _static(request: Request) -> Response:
    if request.path_params["name"] == "flow.css":
        return _kept(Response(STYLE, media_type="text/css"))
    path = STATIC / request.path_params["name"]
    if path.parent != STATIC or path.suffix not in _TYPES or not path.is_file():
        raise HTTPException(404)
    return _kept(FileResponse(path, media_type=_TYPES[path.suffix]))


def _kept(response: Response) -> Response:
    """Browsers may keep it: its address changes with it."""
    response.headers["cache-control"] = "public, max-age=86400"
    protect(response)
    return response
