"""The FastAPI integration on real FastAPI: Send, Unit, Provided, problem details, several apps, dishka; without a server."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from dishka import Provider, Scope, make_async_container
from dishka.integrations.fastapi import FastapiProvider, FromDishka, inject, setup_dishka
from fastapi import FastAPI, HTTPException
from fastapi import Request as HttpRequest
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace import Headrace, OpenUnit, RequestMediator
from headrace.container.dishka import headrace_provider
from headrace.errors import (
    ConfigurationError,
    UnitOfWorkClosed,
    UnitOfWorkError,
)
from headrace.integrations.fastapi import (
    CorrelationId,
    Problem,
    Provided,
    ReadUnit,
    RequestHeaders,
    Send,
    Sender,
    Unit,
    add_problems,
    lifespan,
    provided,
    sender,
    unit_of_work,
)
from headrace.testing import Harness
from tests.e2e.shop import (
    Basket,
    Numbers,
    Order,
    OrderPlaced,
    PlaceOrder,
    Refused,
    Shop,
    client,
)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def api(shop: Shop) -> FastAPI:
    headers = RequestHeaders(metadata={"x-tenant": "tenant"})
    api = FastAPI(lifespan=lifespan(shop.app, headers=headers))
    add_problems(api, {Refused: 409, IntegrityError: Problem(status=409, detail="there is one")})

    @api.post("/orders/{number}")
    async def place(number: str, send: Send) -> str:
        return await send(PlaceOrder(number))

    return api


async def test_a_route_sends_with_the_callers_correlation_id(api: FastAPI, shop: Shop) -> None:
    """Section 5: correlation id and metadata of the request reach the consumer; the response has the id too."""
    async with client(api) as http:
        headers = {"x-correlation-id": "c1", "x-tenant": "acme"}
        answer = await http.post("/orders/1", headers=headers)
        assert (answer.json(), answer.headers["x-correlation-id"]) == ("order 1", "c1")
        assert await shop.placed() == ["1"]
    assert (shop.told[0].correlation_id, shop.told[0].tenant) == ("c1", "acme")


@pytest.mark.parametrize("given", [{}, {"x-correlation-id": "not one word"}])
async def test_a_request_without_a_usable_correlation_id_gets_one(
    api: FastAPI, shop: Shop, given: Mapping[str, str]
) -> None:
    """Section 5: the response tells the id that was made, and the consumer has the same."""
    async with client(api) as http:
        answer = await http.post("/orders/1", headers=given)
        await shop.placed()
    made = answer.headers["x-correlation-id"]
    assert made not in given.values()
    assert shop.told[0].correlation_id == made


@pytest.mark.parametrize("path", ["/orders/1", "/unit"])
@pytest.mark.parametrize(
    ("given", "told"), [(TRACE, TRACE), ("00-0-0-00", None), (TRACE.replace("00-", "ff-"), None)]
)
async def test_the_trace_of_the_caller_goes_on(
    api: FastAPI, shop: Shop, path: str, given: str, told: str | None
) -> None:
    """Section 5: without OpenTelemetry a valid `traceparent` reaches the consumer, and one that is not valid is ignored."""

    @api.post("/unit")
    async def place(unit: Unit) -> str:
        return await unit.send(PlaceOrder("1"))

    async with client(api) as http:
        await http.post(path, headers={"traceparent": given})
        await shop.placed()
    assert [one.traceparent for one in shop.told] == [told]


async def test_a_header_that_cannot_travel_is_refused(api: FastAPI, shop: Shop) -> None:
    """G14: a header with control characters is the caller's fault, and nothing is sent."""
    async with client(api) as http:
        answer = await http.post("/orders/1", headers={b"x-tenant": b"a\x85b"})
        assert answer.status_code == 400
        assert "x-tenant" in answer.json()["detail"]
        assert await shop.placed() == []


async def test_a_route_is_one_unit_of_work(api: FastAPI, shop: Shop) -> None:
    """G4: what the route writes, and what it sends in any way, commits together, before the response is sent."""
    seen: list[list[str]] = []

    @api.post("/both")
    async def both(unit: Unit, send: Send, session: Provided[AsyncSession]) -> list[str]:
        session.add(Order(number="by the route"))
        assert await unit.get(AsyncSession) is session
        return [await unit.send(PlaceOrder("1")), await send(PlaceOrder("2"))]

    async def watched(scope: Any, receive: Any, tell: Any) -> None:
        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                seen.append(await shop.app.send(Numbers()))
            await tell(message)

        await api(scope, receive, told)

    async with lifespan(shop.app)(api):
        transport = httpx.ASGITransport(app=watched)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            answer = await http.post("/both", headers={"x-correlation-id": "c1"})
        assert (answer.status_code, answer.json()) == (200, ["order 1", "order 2"])
        assert seen == [["1", "2", "by the route"]]
        assert await shop.placed() == ["1", "2"]
    assert {told.correlation_id for told in shop.told} == {"c1"}
    assert len({told.causation_id for told in shop.told}) == 2


@pytest.mark.parametrize(
    ("raised", "status"), [(HTTPException(418), 418), (Refused("no"), 409), (KeyError("x"), 500)]
)
async def test_a_route_that_raises_leaves_nothing(
    api: FastAPI, shop: Shop, raised: Exception, status: int
) -> None:
    """G4: an error of the route, an HTTPException too, rolls back what it wrote and sent."""

    @api.post("/fail")
    async def fail(unit: Unit) -> None:
        await unit.send(PlaceOrder("1"))
        raise raised

    async with client(api) as http:
        assert (await http.post("/fail")).status_code == status
        assert await shop.app.send(Numbers()) == []
        assert await shop.placed() == []


async def test_a_commit_that_fails_is_never_a_200(api: FastAPI, shop: Shop) -> None:
    """G4: the route has returned when the flush before COMMIT fails; the client gets the problem, and nothing is kept."""

    @api.post("/twice")
    async def twice(unit: Unit) -> str:
        (await unit.get(AsyncSession)).add(Order(number="1"))
        return "done"

    async with client(api) as http:
        await http.post("/orders/1")
        answer = await http.post("/twice")
        assert (answer.status_code, answer.json()["detail"]) == (409, "there is one")
        assert await shop.placed() == ["1"]


async def test_a_response_that_does_not_validate_leaves_nothing(api: FastAPI, shop: Shop) -> None:
    """G4: FastAPI checks the response before the commit, so a wrong one undoes the route."""

    class Answer(BaseModel):
        number: int

    @api.post("/wrong", response_model=Answer)
    async def wrong(unit: Unit) -> dict[str, str]:
        return {"number": await unit.send(PlaceOrder("1"))}

    async with client(api) as http:
        assert (await http.post("/wrong")).status_code == 500
        assert await shop.placed() == []


async def test_a_stream_comes_after_the_unit(api: FastAPI) -> None:
    """G4: the body of a streaming response is made after the commit, and finds the unit closed."""
    late: list[Exception] = []

    @api.get("/stream")
    async def stream(unit: Unit) -> StreamingResponse:
        async def body() -> AsyncGenerator[bytes]:
            try:
                await unit.get(AsyncSession)
            except UnitOfWorkClosed as error:
                late.append(error)
            yield b"end"

        return StreamingResponse(body())

    async with client(api) as http:
        assert (await http.get("/stream")).text == "end"
    assert len(late) == 1


async def test_a_route_may_only_read(api: FastAPI) -> None:
    """G4: ReadUnit takes queries and refuses commands."""

    @api.get("/orders")
    async def orders(unit: ReadUnit) -> list[str]:
        with pytest.raises(UnitOfWorkError, match="read-only"):
            await unit.send(PlaceOrder("1"))
        return await unit.send(Numbers())

    async with client(api) as http:
        assert (await http.get("/orders")).json() == []


async def test_provided_objects_are_those_of_the_handlers(api: FastAPI, shop: Shop) -> None:
    """G4: the route, its dependencies and the handlers share one object of each class, and one session."""

    async def cart(basket: Provided[Basket]) -> Basket:
        return basket

    @api.post("/basket")
    async def place(basket: Annotated[Basket, provided(Basket)], unit: Unit) -> None:
        await unit.send(PlaceOrder("1"))
        assert shop.baskets == [basket]
        assert basket.session is await unit.get(AsyncSession)

    async with client(api) as http:
        assert (await http.post("/basket")).status_code == 200


async def test_a_web_app_may_have_several_apps(tmp_path: Path) -> None:
    """Section 5: each route names its app; one that does not is told which there are."""
    orders, billing = Shop(tmp_path, "orders"), Shop(tmp_path, "billing")
    api = FastAPI(lifespan=lifespan(orders.app, billing.app))

    @api.post("/orders")
    async def order(send: Annotated[Sender, sender(orders.app)]) -> str:
        return await send(PlaceOrder("1"))

    @api.post("/bills")
    async def bill(
        unit: Annotated[OpenUnit, unit_of_work(billing.app)],
        basket: Annotated[Basket, provided(Basket, billing.app)],
    ) -> str:
        return await unit.send(PlaceOrder("2"))

    @api.post("/unclear")
    async def unclear(send: Send) -> None: ...

    async with api.router.lifespan_context(api):
        transport = httpx.ASGITransport(app=api)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            assert (await http.post("/orders")).json() == "order 1"
            assert (await http.post("/bills")).json() == "order 2"
            with pytest.raises(ConfigurationError, match="several: 'orders', 'billing'"):
                await http.post("/unclear")
        assert (await orders.placed(), await billing.placed()) == (["1"], ["2"])
    assert not orders.app.running
    assert not billing.app.running


async def test_the_web_apps_own_lifespan_goes_around(shop: Shop) -> None:
    """Section 5: the outer lifespan is entered first and left last, and its state is kept."""
    order: list[str] = []

    @asynccontextmanager
    async def own(api: object) -> AsyncGenerator[Mapping[str, object]]:
        order.append(f"before: {shop.app.running}")
        yield {"pool": 7}
        order.append(f"after: {shop.app.running}")

    async with lifespan(shop.app, outer=own)(FastAPI()) as state:
        order.append(f"within: {shop.app.running}")
        assert state["pool"] == 7
    assert order == ["before: False", "within: True", "after: False"]


async def test_a_mounted_web_app_finds_the_app_in_the_servers_state(
    api: FastAPI, shop: Shop
) -> None:
    """Section 5: a mounted app has no lifespan of its own; a server passes the state on."""
    inner = FastAPI()

    @inner.post("/orders")
    async def place(send: Send) -> str:
        return await send(PlaceOrder("1"))

    api.mount("/inner", inner)
    async with lifespan(shop.app)(api) as state:

        async def server(scope: Any, receive: Any, tell: Any) -> None:
            await api({**scope, "state": dict(state)}, receive, tell)

        transport = httpx.ASGITransport(app=server)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            assert (await http.post("/inner/orders")).json() == "order 1"


async def test_a_harness_stands_in_for_the_app(api: FastAPI, shop: Shop) -> None:
    """Section 4: routes use the twin that a test runs; the app itself is not started."""
    async with Harness(shop.app) as harness:
        async with client(api, lifespan(harness.app)) as http:
            assert (await http.post("/orders/1")).json() == "order 1"
            await harness.settle()
        assert harness.published(OrderPlaced) == [OrderPlaced("1")]
        assert harness.app.running
    assert not shop.app.running


async def test_one_dishka_container_serves_both(tmp_path: Path) -> None:
    """Section 5: one container, one APP scope; in a route with a unit FromDishka gives what the unit's handlers have."""

    class Prices:
        pass

    class Page:
        def __init__(self, request: HttpRequest, session: AsyncSession) -> None:
            self.path, self.session = request.url.path, session

    provider = Provider(scope=Scope.REQUEST)
    provider.provide(Basket)
    provider.provide(Page)
    provider.provide(Prices, scope=Scope.APP)
    container = make_async_container(
        provider, FastapiProvider(), headrace_provider(AsyncSession, mediator=RequestMediator)
    )
    shop = Shop(tmp_path, container=container)
    api = FastAPI(lifespan=lifespan(shop.app))
    setup_dishka(container, api)

    @api.post("/orders")
    @inject
    async def place(
        unit: Unit, basket: FromDishka[Basket], page: FromDishka[Page], prices: FromDishka[Prices]
    ) -> str:
        assert basket is await unit.get(Basket)
        assert page.session is basket.session
        assert prices is await container.get(Prices)
        await unit.send(PlaceOrder("1"))
        assert shop.baskets == [basket]
        return page.path

    @api.get("/prices")
    @inject
    async def show(prices: FromDishka[Prices]) -> bool:
        return prices is await container.get(Prices)

    async with client(api) as http:
        assert (await http.post("/orders")).json() == "/orders"
        assert (await http.get("/prices")).json() is True
        assert await shop.placed() == ["1"]
    await container.close()


async def test_a_route_without_a_running_app_says_so(api: FastAPI) -> None:
    """Section 5: without the lifespan a route is answered with 503, and the log says what to enter."""
    transport = httpx.ASGITransport(app=api)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.post("/orders/1")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_a_route_may_ask_for_the_correlation_id(api: FastAPI) -> None:
    """Section 5: CorrelationId is the id that goes with what the route sends."""

    @api.get("/id")
    async def tell(correlation_id: CorrelationId, send: Send) -> bool:
        return correlation_id == send.correlation_id

    async with client(api) as http:
        assert (await http.get("/id")).json() is True


async def test_the_apps_are_headrace_apps(shop: Shop) -> None:
    """Section 5: no app, or two of one name, is an error when the lifespan is entered."""
    for apps in ((), (shop.app, Headrace("shop"))):
        with pytest.raises(ConfigurationError, match="one app or more"):
            async with lifespan(*apps)(FastAPI()):
                pass
