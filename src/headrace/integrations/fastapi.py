"""Headrace in FastAPI: what `headrace.integrations.starlette` has, as dependencies of routes.

Source: FastAPI, https://fastapi.tiangolo.com (lifespan events, dependencies with yield: their scope).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias, TypeVar, cast

from headrace.app import Headrace
from headrace.errors import MissingExtra
from headrace.integrations.asgi import RequestHeaders, Sender
from headrace.integrations.problems import MEDIA_TYPE, Problem, Problems
from headrace.open_unit import OpenUnit

try:
    from fastapi import Depends, FastAPI, Response, params
    from fastapi.exceptions import RequestValidationError
    from starlette.requests import HTTPConnection
except ModuleNotFoundError as error:
    raise MissingExtra.of(__name__, "fastapi", error.name or "fastapi") from error

# After FastAPI: where both are missing, the extra to install is FastAPI's, which has Starlette too.
from headrace.integrations import starlette as on_starlette
from headrace.integrations.starlette import Lifespan, lifespan

__all__ = [
    "PROBLEM_RESPONSES",
    "CorrelationId",
    "Lifespan",
    "Problem",
    "Problems",
    "Provided",
    "ReadUnit",
    "RequestHeaders",
    "Send",
    "Sender",
    "Unit",
    "add_problems",
    "lifespan",
    "provided",
    "sender",
    "unit_of_work",
]

T = TypeVar("T")


def sender(app: Headrace | None = None) -> params.Depends:
    """A dependency that sends requests, for a web app with several apps; see `Send`.

    `SendBilling = Annotated[Sender, sender(billing)]`.

    Args:
        app: which app; default: the only one of the web app.
    """

    async def headrace_sender(connection: HTTPConnection, response: Response) -> Sender:
        _tell(connection, response)
        return on_starlette.sender(connection, app)

    return cast(params.Depends, Depends(headrace_sender))


def unit_of_work(app: Headrace | None = None, *, read_only: bool = False) -> params.Depends:
    """A dependency that is one unit of work for the route, for a web app with several apps; see `Unit`.

    `BillingUnit = Annotated[OpenUnit, unit_of_work(billing)]`. It commits when the route has returned and before the response
    is sent.

    Args:
        app: which app; default: the only one of the web app.
        read_only: nothing may be written.
    """

    async def headrace_unit(
        connection: HTTPConnection, response: Response
    ) -> AsyncGenerator[OpenUnit]:
        _tell(connection, response)
        async with on_starlette.unit_of_work(connection, app, read_only=read_only) as unit:
            yield unit

    # Without the scope FastAPI would send the response first, and a commit that fails would come too late to say so.
    return cast(params.Depends, Depends(headrace_unit, scope="function"))


def _tell(connection: HTTPConnection, response: Response) -> None:
    """The response says under which correlation id the log, and the other services, know the request."""
    name = on_starlette.headers_of(connection).correlation_id
    if name is not None:
        response.headers[name] = on_starlette.correlation_id(connection)


async def _correlation_id(connection: HTTPConnection) -> str:
    return on_starlette.correlation_id(connection)


_only_unit = unit_of_work()

CorrelationId: TypeAlias = Annotated[str, Depends(_correlation_id)]
"""A parameter of a route: the correlation id of the HTTP request."""

Send: TypeAlias = Annotated[Sender, sender()]
"""A parameter of a route: `send: Send`, then `await send(JoinMeeting("u1", "m1"))`, for a web app with one Headrace app."""

Unit: TypeAlias = Annotated[OpenUnit, _only_unit]
"""A parameter of a route: one unit of work for all that the route sends and writes, committed before the response is sent."""

ReadUnit: TypeAlias = Annotated[OpenUnit, unit_of_work(read_only=True)]
"""A parameter of a route: a unit of work that may only read."""


def provided(key: type[T], app: Headrace | None = None) -> params.Depends:
    """A dependency that is an object of the route's unit, for a web app with several apps; see `Provided`.

    `BillingLedger = Annotated[Ledger, provided(Ledger, billing)]`.

    Args:
        key: what a handler would ask for: `AsyncSession`, or anything in `providers`.
        app: which app; default: the only one of the web app.
    """
    opened = _only_unit if app is None else unit_of_work(app)

    async def headrace_provided(unit: OpenUnit) -> T:
        return await unit.get(key)

    # Written out, because it is known only now.
    headrace_provided.__annotations__["unit"] = Annotated[OpenUnit, opened]
    return cast(params.Depends, Depends(headrace_provided))


if TYPE_CHECKING:
    Provided: TypeAlias = Annotated[T, "headrace"]
else:

    class Provided:
        """A parameter of a route: `meetings: Provided[Meetings]` is what a handler would be given, from the route's unit."""

        def __class_getitem__(cls, key: type[T]) -> object:
            return Annotated[key, provided(key)]


PROBLEM_RESPONSES: Final[dict[int | str, dict[str, object]]] = {
    "default": {
        "description": "What went wrong (RFC 9457)",
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "title": "Problem",
                    "type": "object",
                    "properties": {
                        "type": {"type": "string", "format": "uri-reference"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "instance": {"type": "string", "format": "uri-reference"},
                        "correlation_id": {"type": "string"},
                    },
                    "required": ["type", "title", "status", "instance", "correlation_id"],
                }
            }
        },
    }
}
"""For the OpenAPI document: `FastAPI(responses=PROBLEM_RESPONSES)` says that errors are problem details."""


def add_problems(api: FastAPI, problems: Problems | None = None) -> None:
    """Answer errors as problem details (RFC 9457): those of the application, of Headrace, of HTTP, and those unforeseen.

    What does not validate is a 422 with the member `errors`: where, what and of which type, without the input.

    Args:
        api: the web app.
        problems: what the application's errors become, by class: `{OrderNotFound: 404}`. They go before Headrace's own.
    """
    on_starlette.add_problems(api, problems)
    if RequestValidationError in (problems or {}):
        return

    async def answer(connection: HTTPConnection, error: Exception) -> Response:
        found = cast(RequestValidationError, error).errors()
        errors = [{name: one[name] for name in ("loc", "msg", "type")} for one in found]
        problem = Problem(
            status=422,
            title="Not valid",
            detail="; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors),
            extensions={"errors": errors},
        )
        return on_starlette.respond(connection, error, problem)

    api.add_exception_handler(RequestValidationError, answer)
