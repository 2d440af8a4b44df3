"""Headrace in Starlette: the lifespan, sending from an endpoint, one unit of work for a request, errors as problem details.

Source: Starlette, https://starlette.dev (lifespan, exceptions).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar, cast

from headrace.app import Headrace
from headrace.errors import DecodeError, EnvelopeError, HeadraceError, MissingExtra
from headrace.integrations.asgi import (
    STATE,
    RequestHeaders,
    Sender,
    Serving,
    app_for,
    correlation_of,
    metadata_of,
    serve,
    trace_of,
    traced,
)
from headrace.integrations.problems import (
    MEDIA_TYPE,
    OWN,
    OWN_MEMBERS,
    UNKNOWN,
    Problem,
    Problems,
    problem_of,
)
from headrace.open_unit import OpenUnit
from headrace.telemetry import LogEvent, Telemetry

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse, Response
    from starlette.websockets import WebSocket
except ModuleNotFoundError as error:
    raise MissingExtra.of(__name__, "starlette", error.name or "starlette") from error

if TYPE_CHECKING:
    from dishka import AsyncContainer

__all__ = [
    "Lifespan",
    "Problem",
    "Problems",
    "RequestHeaders",
    "Sender",
    "add_problems",
    "correlation_id",
    "lifespan",
    "read_body",
    "sender",
    "unit_of_work",
]

T = TypeVar("T")

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[Mapping[str, object] | None]]
"""What runs around a web app, and answers the state that its requests share, or nothing."""


def lifespan(
    *apps: Headrace, headers: RequestHeaders | None = None, outer: Lifespan | None = None
) -> Callable[[Starlette], AbstractAsyncContextManager[Mapping[str, object]]]:
    """Run apps with a web app: `Starlette(lifespan=lifespan(app))`. The last that started is the first to stop.

    Args:
        *apps: the apps. One that runs already is used and left running, so that a test may run it: `harness.app`.
        headers: which headers of a request go with what it sends. Default: `x-correlation-id`.
        outer: the web app's own lifespan: entered before the apps start and left when they have stopped.

    Raises:
        ConfigurationError: when it is entered: no apps were given, or two of one name.
    """

    @asynccontextmanager
    async def run(api: Starlette) -> AsyncGenerator[Mapping[str, object]]:
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(outer(api)) if outer is not None else None
            serving = await serve(stack, apps, headers or RequestHeaders())
            before = getattr(api.state, STATE, None)
            # Of the two only `api.state` is there when a test calls the web app without a server.
            setattr(api.state, STATE, serving)
            try:
                yield {**(state or {}), STATE: serving}
            finally:
                setattr(api.state, STATE, before)

    return run


def sender(connection: HTTPConnection, app: Headrace | None = None) -> Sender:
    """Answers what sends requests for an HTTP request, with its correlation id and metadata.

    `send = sender(request)`, then `await send(JoinMeeting("u1", "m1"))`.

    Args:
        connection: the HTTP request, or the websocket.
        app: default: the only one of the web app.

    Raises:
        AppNotRunning: the web app's lifespan was not entered.
        ConfigurationError: the web app has several apps, and none was named.
        HTTPException: 400: a header cannot be metadata.
    """
    return Sender(
        app_for(_serving(connection), app),
        correlation_id=correlation_id(connection),
        metadata=_metadata(connection),
        traceparent=trace_of(connection.scope, headers_of(connection)),
    )


@asynccontextmanager
async def unit_of_work(
    connection: HTTPConnection, app: Headrace | None = None, *, read_only: bool = False
) -> AsyncGenerator[OpenUnit]:
    """One unit of work for a block of an endpoint; see `Headrace.unit_of_work`. Make the response when it has ended.

    The request's correlation id and metadata go with it. If the web app has a dishka container, and the app the same one,
    `FromDishka` and `unit.get` give the same objects in the block.

    Args:
        connection: the HTTP request, or the websocket.
        app: default: the only one of the web app.
        read_only: nothing may be written.
    """
    kind = Request if isinstance(connection, Request) else WebSocket
    opening = app_for(_serving(connection), app).unit_of_work(
        correlation_id=correlation_id(connection),
        metadata=_metadata(connection),
        read_only=read_only,
        context={kind: connection},
    )
    with traced(trace_of(connection.scope, headers_of(connection))):
        async with opening as unit, _shared_scope(connection, unit):
            yield unit


def correlation_id(connection: HTTPConnection) -> str:
    """The correlation id of an HTTP request: the caller's, or one made for it."""
    return correlation_of(connection.scope, headers_of(connection))


async def read_body(request: Request, kind: type[T]) -> T:
    """The body of a request as a message: a dataclass, a Struct, a pydantic model, as in Headrace's own JSON.

    Args:
        request: the HTTP request.
        kind: the class, such as that of a command.

    Raises:
        HTTPException: 422: the body does not fit; the detail says where.
    """
    codec = app_for(_serving(request), None).codec
    try:
        return codec.decode(await request.body(), kind)
    except DecodeError as error:
        raise HTTPException(422, detail=_fault(error.__cause__)) from error


def _fault(cause: BaseException | None) -> str:
    """What does not fit, without the name of our class."""
    if cause is None:
        return "the body is nested too deeply"
    errors = getattr(cause, "errors", None)
    if not callable(errors):
        return str(cause)
    found = cast("list[dict[str, object]]", errors())  # pydantic's
    parts = [(cast("tuple[object, ...]", one["loc"]), one["msg"]) for one in found]
    return "; ".join(f"{'.'.join(map(str, loc)) or 'the body'}: {text}" for loc, text in parts)


def add_problems(api: Starlette, problems: Problems | None = None) -> None:
    """Answer errors as problem details (RFC 9457): those of the application, of Headrace, of HTTP, and those unforeseen.

    Args:
        api: the web app.
        problems: what the application's errors become, by class: `{OrderNotFound: 404}`. They go before Headrace's own.
    """
    own = problems or {}
    known: Problems = {**OWN, **own}

    async def answer(connection: HTTPConnection, error: Exception) -> Response:
        return respond(connection, error, problem_of(error, known))

    async def answer_http(connection: HTTPConnection, error: Exception) -> Response:
        found = cast(HTTPException, error)
        if found.status_code < 400:  # a redirect, or an answer without a body, that was raised
            return Response(status_code=found.status_code, headers=found.headers)
        return respond(connection, error, _of_http(found), headers=found.headers)

    handlers = {HeadraceError: answer, HTTPException: answer_http, Exception: answer}
    for kind, handler in {**handlers, **dict.fromkeys(own, answer)}.items():
        api.add_exception_handler(kind, cast("Callable[[Request, Exception], Response]", handler))


def respond(
    connection: HTTPConnection,
    error: Exception,
    problem: Problem,
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response that tells of a problem. One of the service itself, 500 or more, is logged.

    Raises:
        Exception: the error itself, if the connection is a websocket, which has no responses.
    """
    if isinstance(connection, WebSocket):
        raise error
    correlation = correlation_id(connection)
    name = headers_of(connection).correlation_id
    sent = {**(headers or {}), **({name: correlation} if name else {})}
    if problem.retry_after_seconds is not None:
        sent["retry-after"] = str(problem.retry_after_seconds)
    if problem.status >= 500:
        _log(connection, error, problem, correlation)
    body = problem.body(error=error, instance=connection.url.path, correlation_id=correlation)
    return JSONResponse(body, problem.status, sent, MEDIA_TYPE)


def _log(connection: HTTPConnection, error: Exception, problem: Problem, correlation: str) -> None:
    serving = _serving(connection)
    app = next(iter(serving.apps.values())) if serving is not None else None
    telemetry = app.telemetry if app is not None else Telemetry("web")
    what = f"{connection.scope.get('method')} {connection.url.path}"
    text = f"{what} was answered with {problem.status}: {error!r}"
    if problem.status == 503:  # a state of the surroundings: its traceback tells nothing
        telemetry.warning(LogEvent.HTTP_FAILED, text, correlation_id=correlation)
    else:  # the server logs the traceback of what nobody expected
        known = None if problem is UNKNOWN else error
        telemetry.error(LogEvent.HTTP_FAILED, text, known, correlation_id=correlation)


def _of_http(error: HTTPException) -> Problem:
    """FastAPI's detail may be any JSON: what is no text goes beside it."""
    detail = cast("object", error.detail)
    if isinstance(detail, str):
        return Problem(status=error.status_code, detail=detail)
    if isinstance(detail, Mapping):
        members = cast("Mapping[str, object]", detail).items()
        extensions = {name: value for name, value in members if name not in OWN_MEMBERS}
    else:
        extensions = {"errors": detail}
    title = HTTPException(error.status_code).detail
    return Problem(status=error.status_code, detail=title, extensions=extensions)


def _serving(connection: HTTPConnection) -> Serving | None:
    found = getattr(connection.state, STATE, None)
    if found is None and "app" in connection.scope:
        found = getattr(connection.scope["app"].state, STATE, None)
    return cast("Serving | None", found)


def headers_of(connection: HTTPConnection) -> RequestHeaders:
    """What is read of the headers of a request."""
    serving = _serving(connection)
    return serving.headers if serving is not None else RequestHeaders()


def _metadata(connection: HTTPConnection) -> dict[str, str] | None:
    headers = headers_of(connection)
    try:
        return metadata_of(connection.scope, headers)
    except EnvelopeError as error:
        names = ", ".join(headers.metadata)
        raise HTTPException(
            400, detail=f"one of the headers {names} cannot be used: visible text, 8 KiB in all"
        ) from error


@asynccontextmanager
async def _shared_scope(connection: HTTPConnection, unit: OpenUnit) -> AsyncGenerator[None]:
    """In the block, `FromDishka` looks into the unit's scope, if the web app and the app have one container."""
    outer = cast("AsyncContainer | None", getattr(connection.state, "dishka_container", None))
    root = getattr(connection.app.state, "dishka_container", None) if outer is not None else None
    if outer is None or root is None:
        yield
        return
    from dishka import AsyncContainer

    from headrace.errors import BindingError

    try:
        own: AsyncContainer | None = await unit.get(AsyncContainer)
    except BindingError:
        own = None
    above = own
    while above is not None and above is not root:
        above = above.parent_container
    if above is None:  # a container of its own
        yield
        return
    connection.state.dishka_container = own
    try:
        yield
    finally:
        connection.state.dishka_container = outer
