"""Health: live, ready, and why not; over ASGI, and over a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from headrace import Headrace, Limits
from headrace.broker import Broker
from headrace.cli.ending import Fault
from headrace.cli.probes import CONNECTIONS, HEAD_BYTES, address_of, probes
from headrace.drivers.memory import MemoryBroker, MemoryStorage
from headrace.envelope import Envelope, Message
from headrace.errors import BrokerUnavailable, StorageBusy, StorageUnavailable
from headrace.health import Health, HealthEndpoint
from headrace.storage import Stored
from tests.unit.heart import Announced, Join, make_app, raising


class Away(MemoryBroker):
    """A broker that takes nothing."""

    async def publish(self, messages: Any) -> Any:
        raise BrokerUnavailable("the broker is away")


class Telling(MemoryStorage):
    """A storage whose oldest unsent event is what the test says, or an error."""

    answer: Sequence[Stored] | BaseException | None = None
    asked = 0

    async def ready(self, *arguments: Any, **named: Any) -> Sequence[Stored]:
        if named.get("limit") != 1 or self.answer is None:
            return await super().ready(*arguments, **named)
        self.asked += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class NoLeases(MemoryStorage):
    """A storage that gives nobody a lease."""

    async def lease(self, *arguments: Any, **named: Any) -> Any:
        raise StorageUnavailable("no leases today")


class Hanging(Telling):
    """A storage that does not answer until the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()

    async def ready(self, *arguments: Any, **named: Any) -> Sequence[Stored]:
        if named.get("limit") == 1:
            self.asked += 1
            await self.free.wait()
        return await super().ready(*arguments, **named)


def unsent(age_seconds: float) -> list[Stored]:
    at = (datetime.now(UTC) - timedelta(seconds=age_seconds)).isoformat()
    envelope = Envelope("1", "meetings", "meetings.announced.v1", at)
    return [Stored(1, "outbox:meetings", 0, Message("meetings", None, envelope, b"{}"))]


def shop(
    storage: MemoryStorage | None = None, broker: Broker | None = None, **settings: Any
) -> Headrace:
    return make_app(
        (Join, raising(Announced())),
        storage=storage or MemoryStorage(),
        broker=broker or MemoryBroker(),
        **settings,
    )


async def test_an_app_that_does_not_run_is_not_live() -> None:
    """Section 2: live is an app between start and stop; health itself never raises."""
    app = shop()
    for _ in range(2):
        health = await app.health()
        assert (health.live, health.ready) == (False, False)
        assert health.reasons == ("The app 'meetings' is not running.",)
        async with app:
            assert (await app.health()).live


async def test_a_running_app_is_ready() -> None:
    """Section 2: nothing is wrong, nothing is said."""
    async with shop() as app:
        assert await app.health() == Health(
            app="meetings", roles=("consume", "relay", "send"), live=True, ready=True
        )


async def test_an_app_without_storage_is_ready_when_it_runs() -> None:
    """Without a storage there is no outbox that could be in trouble."""
    async with make_app((Join, raising())) as app:
        assert (await app.health()).ready


async def test_a_relay_with_an_old_unsent_event_is_not_ready() -> None:
    """Section 2: the oldest event is older than a limit; the reason names event, topic, age and limit."""
    storage = Telling()
    async with shop(storage, limits=Limits(unsent_seconds=60)) as app:
        storage.answer = unsent(59)
        assert (await app.health()).ready
        storage.answer = unsent(61)
        health = await app.health()
        storage.answer = None
    assert health.live
    assert not health.ready
    (reason,) = health.reasons
    assert "meetings.announced.v1 for topic 'meetings', was raised 61 s ago" in reason
    assert "unsent_seconds" in reason


async def test_a_web_process_stays_ready_in_a_broker_outage_unless_asked() -> None:
    """G13: an outage of the broker must not take the web tier out; it is noted."""
    storage = Telling()
    storage.answer = unsent(4000)
    async with shop(storage, Away(), roles={"send"}) as app:
        health = await app.health()
        assert health.ready
        assert health.reasons == ()
        assert "was raised 4000 s ago" in health.notes[0]
        strict = await app.health(strict=True)
    assert not strict.ready
    assert "was raised 4000 s ago" in strict.reasons[0]


async def test_a_relay_whose_outbox_nobody_works_is_not_ready() -> None:
    """Section 2: nothing owns the relay for longer than a takeover takes."""
    limits = Limits(lease_seconds=0.02)
    async with shop(NoLeases(), roles={"relay"}, limits=limits) as app:
        while (health := await app.health()).ready:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    assert health.reasons[0].startswith(
        "Nobody works partitions 0, 1, 2, 3, 4, 5, 6 and 7 of queue 'outbox:meetings'"
    )
    assert any("The relay is paused by StorageUnavailable" in note for note in health.notes)


async def test_what_nobody_consumes_is_noted() -> None:
    """G13: it is visible, and no fault of this process."""

    async def seat(event: Announced) -> None: ...

    app = make_app(
        (Join, raising(Announced())),
        (Announced, seat),
        storage=MemoryStorage(),
        broker=MemoryBroker(),
        roles={"relay"},
        limits=Limits(lease_seconds=0.02),
    )
    async with app:
        while not (health := await app.health()).notes:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    assert health.ready
    assert health.notes[0].startswith("Nobody works partition 0 of queue 'group:meetings/meetings'")


@pytest.mark.parametrize("roles", [{"send"}, {"relay"}, {"consume"}])
async def test_a_storage_that_cannot_be_reached_makes_every_role_unready(roles: Any) -> None:
    """Section 2: without its database a process can do nothing; the reason says so."""
    storage = Telling()
    async with shop(storage, roles=roles) as app:
        storage.answer = StorageUnavailable("no route to 10.0.0.7")
        health = await app.health()
        storage.answer = StorageBusy("somebody writes")
        busy = await app.health()
    assert not health.ready
    assert "no route to 10.0.0.7" in health.reasons[0]
    assert busy.ready


async def test_health_answers_in_time_while_the_database_hangs() -> None:
    """Section 2: bounded, and the database is not asked again and again meanwhile."""
    storage = Hanging()
    async with shop(storage, roles={"send"}) as app:
        first = await app.health(timeout_seconds=0.01)
        second = await app.health(timeout_seconds=0.01)
        assert first.reasons == second.reasons == ("The storage did not answer within 0.01 s.",)
        assert storage.asked == 1
        storage.free.set()
        assert (await app.health()).ready


async def test_an_app_stops_while_the_database_hangs() -> None:
    """G10: an open question does not keep the app from stopping."""
    storage = Hanging()
    async with shop(storage, roles={"send"}) as app:
        await app.health(timeout_seconds=0.01)
    assert not (await app.health()).live


# The endpoint ------------------------------------------------------------------------------------------------------------


def client(endpoint: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(endpoint), base_url="http://probe")


async def test_the_endpoint_answers_live_and_ready() -> None:
    """Section 2: 200 or 503, with the reasons as JSON."""
    storage = Telling()
    app = shop(storage)
    async with client(HealthEndpoint(app)) as probe:
        assert (await probe.get("/live")).status_code == 503
        async with app:
            for path in ("/live", "/ready", "/", "/ready/"):
                assert (await probe.get(path)).status_code == 200
            storage.answer = unsent(4000)
            live, ready = await probe.get("/live"), await probe.get("/ready")
            assert live.status_code == 200
            assert ready.status_code == 503
            assert ready.json()["status"] == "failing"
            assert ready.json()["roles"] == ["consume", "relay", "send"]
            assert "4000 s ago" in ready.json()["reasons"][0]
            assert ready.headers["cache-control"] == "no-store"
            head = await probe.head("/ready")
            assert (head.status_code, head.content) == (503, b"")
            assert (await probe.get("/other")).status_code == 404
            assert (await probe.post("/ready")).status_code == 405
            storage.answer = None


async def test_the_endpoint_can_be_strict() -> None:
    """G13: unless configured otherwise."""
    storage = Telling()
    storage.answer = unsent(4000)
    async with (
        shop(storage, roles={"send"}) as app,
        client(HealthEndpoint(app)) as lenient,
        client(HealthEndpoint(app, strict=True)) as strict,
    ):
        assert (await lenient.get("/ready")).status_code == 200
        assert (await strict.get("/ready")).status_code == 503


async def test_the_endpoint_is_mounted_in_starlette() -> None:
    """Section 2: mountable under any prefix."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async with shop() as app:
        web = Starlette(routes=[Mount("/internal/health", HealthEndpoint(app))])
        async with client(web) as probe:
            assert (await probe.get("/internal/health/live")).status_code == 200
            assert (await probe.get("/internal/health/ready")).json()["app"] == "meetings"
            assert (await probe.get("/internal/health/")).status_code == 200


async def test_the_endpoint_serves_alone() -> None:
    """An ASGI server asks for a lifespan, and a browser may try a web socket."""
    sent: list[Any] = []
    asked = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(asked)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    endpoint = HealthEndpoint(shop())
    await endpoint({"type": "lifespan"}, receive, send)
    await endpoint({"type": "websocket"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


# The worker's socket ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with shop() as app, probes(app, "127.0.0.1", 0) as number:
        yield number


async def said(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if not request.endswith(b"\r\n\r\n"):
        writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_worker_answers_probes(port: int) -> None:
    """Section 2: enough HTTP/1.1 for Kubernetes, curl and load balancers."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as probe:
        for path in ("/live", "/ready?verbose", "/"):
            answer = await probe.get(path)
            assert answer.status_code == 200
            assert answer.json()["live"] is True
        assert (await probe.head("/ready")).content == b""
        assert (await probe.get("/nothing")).status_code == 404
        assert (await probe.delete("/live")).status_code == 405


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"GET\r\n\r\n",
        b"get /live HTTP/1.1\r\n\r\n",
        b"GET /live HTTP/3\r\n\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"GET /live HTTP/1.1\r\nCookie: " + b"x" * (HEAD_BYTES * 2) + b"\r\n\r\n",
        b"GET /live HTTP/1.1\r\n",
    ],
)
async def test_bad_requests_are_refused_and_harm_nothing(port: int, request_: bytes) -> None:
    """G14: what comes over the wire is never trusted."""
    try:
        answer = await said(port, request_)
    except ConnectionResetError:  # it was refused before it was read to its end
        answer = b"HTTP/1.1 400"
    assert answer.startswith(b"HTTP/1.1 400")
    assert (await said(port, b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(
        b"HTTP/1.1 200 OK"
    )


async def test_clients_that_say_nothing_do_not_fill_the_process(port: int) -> None:
    """G11: a bounded number of connections; those that left make room."""
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert not await _answers(port)
    for _, one in [(reader, writer), *idle]:
        one.close()
    while not await _answers(port):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)


async def _answers(port: int) -> bool:
    try:
        return json.loads(
            (await said(port, b"GET /live HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")[2]
        )["live"]
    except (ConnectionError, ValueError):
        return False


def test_addresses_are_read() -> None:
    """The option of the worker."""
    assert address_of("127.0.0.1:8080") == ("127.0.0.1", 8080)
    assert address_of(":8080") == ("0.0.0.0", 8080)
    assert address_of("[::1]:0") == ("::1", 0)
    for wrong in ("8080", "localhost", "::1:80", "a:99999", ""):
        with pytest.raises(Fault, match="HOST:PORT"):
            address_of(wrong)


async def test_an_address_that_is_taken_is_a_fault(port: int) -> None:
    """The worker says it instead of running without an answer."""
    with pytest.raises(Fault, match="cannot listen there"):
        async with probes(shop(), "127.0.0.1", port):
            pass
