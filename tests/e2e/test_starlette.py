"""The Starlette integration on real Starlette: lifespan, sending, one unit of work, bodies, problem details; no server."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from headrace.errors import StorageBusy
from headrace.integrations.starlette import (
    Problem,
    RequestHeaders,
    add_problems,
    correlation_id,
    lifespan,
    read_body,
    sender,
    unit_of_work,
)
from tests.e2e.shop import Numbers, Order, PlaceOrder, Refused, Shop, client


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


async def place(request: Request) -> Response:
    """As a user writes it: the body is the command."""
    send = sender(request)
    return JSONResponse(await send(await read_body(request, PlaceOrder)))


async def place_two(request: Request) -> Response:
    async with unit_of_work(request) as unit:
        (await unit.get(AsyncSession)).add(Order(number="by hand"))
        await unit.send(PlaceOrder("1"))
        await sender(request)(PlaceOrder(request.query_params["second"]))
    return JSONResponse({"id": correlation_id(request)}, 201)


def web_app(shop: Shop, *routes: Any, **settings: Any) -> Starlette:
    api = Starlette(
        routes=[
            Route("/orders", place, methods=["POST"]),
            Route("/two", place_two, methods=["POST"]),
            *routes,
        ],
        lifespan=lifespan(shop.app, **settings),
    )
    add_problems(api, {Refused: lambda error: Problem(status=409, title="Refused")})
    return api


async def test_an_endpoint_sends_a_body(shop: Shop) -> None:
    """Section 5: the body is read as the command and sent with the headers of the request."""
    headers = RequestHeaders(correlation_id="x-request-id", metadata={"X-Tenant": "tenant"})
    async with client(web_app(shop, headers=headers)) as http:
        given = {"X-Request-Id": "c1", "x-tenant": "acme"}
        answer = await http.post("/orders", json={"number": "1"}, headers=given)
        assert (answer.status_code, answer.json()) == (200, "order 1")
        assert await shop.placed() == ["1"]
    assert (shop.told[0].correlation_id, shop.told[0].tenant) == ("c1", "acme")
    assert not shop.app.running


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"number": 7}', "Expected `str`, got `int` - at `$.number`"),
        (b"{}", "Object missing required field `number`"),
        (b"[" * 1000, "nested too deeply"),
    ],
)
async def test_a_body_that_does_not_fit_is_a_problem(shop: Shop, body: bytes, detail: str) -> None:
    """G14: a body that does not fit is a 422 that says where, and names nothing of ours."""
    async with client(web_app(shop)) as http:
        answer = await http.post("/orders", content=body)
    assert (answer.status_code, answer.json()["status"]) == (422, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]
    assert "PlaceOrder" not in answer.text


async def test_a_pydantic_body_says_what_does_not_fit(shop: Shop) -> None:
    """G14: the faults of a pydantic model come with their places, and without the input."""

    class Payment(BaseModel):
        cents: int

    async def pay(request: Request) -> Response:
        return JSONResponse((await read_body(request, Payment)).cents)

    async with client(web_app(shop, Route("/pay", pay, methods=["POST"]))) as http:
        assert (await http.post("/pay", json={"cents": 7})).json() == 7
        answer = await http.post("/pay", json={"cents": "a secret"})
    assert answer.json()["detail"].startswith("cents: Input should be a valid integer")
    assert "secret" not in answer.text


async def test_a_block_of_an_endpoint_is_one_unit_of_work(shop: Shop) -> None:
    """G4: what the block writes and sends commits together when it ends."""
    async with client(web_app(shop)) as http:
        answer = await http.post("/two?second=2", headers={"x-correlation-id": "c1"})
        assert (answer.status_code, answer.json()) == (201, {"id": "c1"})
        assert await shop.app.send(Numbers()) == ["1", "2", "by hand"]
        assert await shop.placed() == ["1", "2"]
    assert {told.correlation_id for told in shop.told} == {"c1"}


async def test_a_block_that_fails_leaves_nothing(shop: Shop) -> None:
    """G4: the error of a send in the block becomes the mapped problem, and nothing of the block is kept."""
    async with client(web_app(shop)) as http:
        answer = await http.post("/two?second=13")
        assert (answer.status_code, answer.json()["title"]) == (409, "Refused")
        assert answer.json()["detail"] == "no order has the number 13"
        assert await shop.app.send(Numbers()) == []
        assert await shop.placed() == []


async def test_background_work_sends_on_its_own(shop: Shop) -> None:
    """G4: a background task runs after the response, so its send is a unit of its own with the same correlation id."""

    async def later(request: Request) -> Response:
        task = BackgroundTask(sender(request), PlaceOrder("late"))
        return Response(status_code=202, background=task)

    async with client(web_app(shop, Route("/later", later))) as http:
        assert (await http.get("/later", headers={"x-correlation-id": "c1"})).status_code == 202
        assert await shop.placed() == ["late"]
    assert shop.told[0].correlation_id == "c1"


async def test_a_busy_storage_is_a_503_with_retry_after(shop: Shop) -> None:
    """Section 5: StorageBusy says when to come again."""

    async def busy(request: Request) -> Response:
        raise StorageBusy("the turn to write could not be had")

    async with client(web_app(shop, Route("/busy", busy))) as http:
        answer = await http.get("/busy")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["title"] == "Busy"


async def test_what_is_raised_to_redirect_is_no_problem(shop: Shop) -> None:
    """Section 5: an HTTPException below 400 is answered as Starlette does."""

    async def moved(request: Request) -> Response:
        raise HTTPException(307, headers={"location": "/orders"})

    async with client(web_app(shop, Route("/moved", moved))) as http:
        answer = await http.get("/moved")
    assert (answer.status_code, answer.headers["location"], answer.content) == (307, "/orders", b"")


async def test_a_mounted_app_is_served_too(shop: Shop) -> None:
    """Section 5: endpoints below a Mount find the app of the outermost web app."""
    api = web_app(shop, Mount("/v1", routes=[Route("/orders", place, methods=["POST"])]))
    async with client(api) as http:
        assert (await http.post("/v1/orders", json={"number": "1"})).json() == "order 1"


async def talk(api: Starlette, *texts: str) -> AsyncGenerator[dict[str, Any]]:
    """A websocket's client: says texts, answers what comes back."""
    said: list[dict[str, Any]] = [{"type": "websocket.connect"}]
    said += [{"type": "websocket.receive", "text": text} for text in texts]
    heard: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return said.pop(0) if said else {"type": "websocket.disconnect", "code": 1000}

    async def tell(message: Any) -> None:
        heard.append(message)

    scope = {
        "type": "websocket",
        "path": "/talk",
        "raw_path": b"/talk",
        "query_string": b"",
        "headers": [(b"x-correlation-id", b"c1")],
        "subprotocols": [],
        "scheme": "ws",
        "root_path": "",
    }
    await api(scope, receive, tell)
    for message in heard:
        yield message


async def serve_talk(socket: WebSocket) -> None:
    await socket.accept()
    send = sender(socket)
    async for text in socket.iter_text():
        async with unit_of_work(socket) as unit:
            assert await unit.get(AsyncSession)
            await socket.send_text(await send(PlaceOrder(text)))


async def test_a_websocket_sends_too(shop: Shop) -> None:
    """Section 5: each message of a websocket may be a unit of its own, with the correlation id of the handshake."""
    api = web_app(shop, WebSocketRoute("/talk", serve_talk))
    async with client(api):
        heard = [message async for message in talk(api, "1", "2")]
        assert [message.get("text") for message in heard] == [None, "order 1", "order 2"]
        assert await shop.placed() == ["1", "2"]
    assert {told.correlation_id for told in shop.told} == {"c1"}


async def test_an_error_in_a_websocket_goes_to_the_server(shop: Shop) -> None:
    """Section 5: a websocket has no responses, so its errors are not made problems of."""
    api = web_app(shop, WebSocketRoute("/talk", serve_talk))
    async with client(api):
        with pytest.raises(Refused):
            _ = [message async for message in talk(api, "13")]


async def test_unforeseen_errors_reach_the_server_too(shop: Shop) -> None:
    """Section 5: the client gets a problem, and the server the exception, to log its traceback."""

    async def broken(request: Request) -> Response:
        raise RuntimeError("secret")

    api = web_app(shop, Route("/broken", broken))
    sent: list[Any] = []

    async def tell(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async with api.router.lifespan_context(api):
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/broken",
            "query_string": b"",
            "headers": [],
            "scheme": "http",
            "server": ("test", 80),
        }
        with pytest.raises(RuntimeError, match="secret"):
            await api(scope, receive, tell)
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["title"] == "Internal Server Error"
