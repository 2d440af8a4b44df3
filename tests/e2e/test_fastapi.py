"""The FastAPI recipe: lifespan, pydantic bodies as requests, errors mapped; on real FastAPI without a server."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Header, WebSocket
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import Column, MetaData, String, Table, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace import (
    Envelope,
    Event,
    Events,
    Headrace,
    Module,
    OpenUnit,
    Request,
    notification,
)
from headrace.drivers.sql import SqlStorage
from headrace.errors import AppNotRunning
from headrace.integrations.fastapi import Sender, sender, unit_of_work


class Joined(BaseModel):
    meeting: str
    members: int


class Join(BaseModel, Request[Joined]):
    meeting: str
    user: str = Field(min_length=1)


@notification(type="meetings.user-joined.v1", topic="meetings", key="meeting")
class UserJoined(BaseModel, Event):
    meeting: str
    user: str


class MeetingFull(Exception):
    """A rule of the domain."""


metadata = MetaData()
members = Table("member", metadata, Column("meeting", String), Column("user", String))


class Web:
    """The application as a user would write it, on a file of its own."""

    def __init__(self, path: Path) -> None:
        self.welcomed: list[tuple[str, str]] = []
        module = Module("meetings")

        @module.handler
        async def join(request: Join, session: AsyncSession, events: Events) -> Joined:
            await session.execute(
                insert(members).values(meeting=request.meeting, user=request.user)
            )
            events.append(UserJoined(meeting=request.meeting, user=request.user))
            count = await session.scalar(
                select(func.count())
                .select_from(members)
                .where(members.c.meeting == request.meeting)
            )
            if (count or 0) > 2:
                raise MeetingFull(request.meeting)
            return Joined(meeting=request.meeting, members=count or 0)

        @module.handler
        async def welcome(event: UserJoined, envelope: Envelope) -> None:
            self.welcomed.append((event.user, envelope.metadata["tenant"]))

        self.app = Headrace(
            "meetings",
            modules=[module],
            storage=SqlStorage(f"sqlite+aiosqlite:///{path}", metadata=metadata),
            broker="sql://",
        )

        @asynccontextmanager
        async def lifespan(api: FastAPI) -> AsyncGenerator[None]:
            async with self.app:
                yield

        self.lifespan = lifespan
        self.api = FastAPI(lifespan=lifespan)

        @self.api.post("/members")
        async def join_meeting(body: Join, x_tenant: str = Header()) -> Joined:
            return await self.app.send(body, metadata={"tenant": x_tenant})

        @self.api.exception_handler(MeetingFull)
        async def meeting_full(request: HttpRequest, error: Exception) -> JSONResponse:
            return JSONResponse({"detail": "the meeting is full"}, status_code=409)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.api),
            base_url="http://test",
            headers={"x-tenant": "acme"},
        )


@pytest.fixture
def web(tmp_path: Path) -> Web:
    return Web(tmp_path / "meetings.db")


async def test_a_body_is_the_command_and_the_answer_its_response(web: Web) -> None:
    """Section 2: a pydantic body is sent as it is; the response is the handler's; the notification is consumed."""
    async with web.lifespan(web.api), web.client() as client:
        answer = await client.post("/members", json={"meeting": "m1", "user": "ada"})
        assert (answer.status_code, answer.json()) == (200, {"meeting": "m1", "members": 1})
        await web.app.settle()
    assert web.welcomed == [("ada", "acme")]


async def test_a_body_that_is_invalid_is_never_sent(web: Web) -> None:
    """Section 2: FastAPI refuses an invalid body before anything is sent."""
    async with web.lifespan(web.api), web.client() as client:
        answer = await client.post("/members", json={"meeting": "m1", "user": ""})
        assert answer.status_code == 422
        await web.app.settle()
    assert not web.welcomed


async def test_a_domain_error_is_mapped_and_nothing_is_kept(web: Web) -> None:
    """G3, G4: a handler's error reaches FastAPI unwrapped, and what was written and announced is undone."""
    async with web.lifespan(web.api), web.client() as client:
        codes = [
            (await client.post("/members", json={"meeting": "m1", "user": user})).status_code
            for user in ("ada", "bob", "cy")
        ]
        assert codes == [200, 200, 409]
        await web.app.settle()
    assert [user for user, _ in web.welcomed] == ["ada", "bob"]


async def test_without_the_lifespan_the_error_says_where_to_send(web: Web) -> None:
    """Section 2: a request to an app whose lifespan was not entered raises AppNotRunning, which names the lifespan."""
    async with web.client() as client:
        with pytest.raises(AppNotRunning, match="in the lifespan"):
            await client.post("/members", json={"meeting": "m1", "user": "ada"})


async def test_the_dependencies_take_an_app_that_another_lifespan_runs(web: Web) -> None:
    """Section 5: `sender(app)` and `unit_of_work(app)` work in the plain recipe, too."""

    @web.api.post("/named")
    async def named(
        body: Join,
        send: Annotated[Sender, sender(web.app)],
        unit: Annotated[OpenUnit, unit_of_work(web.app)],
    ) -> int:
        return (await send(body)).members + (await unit.send(body)).members

    async with web.lifespan(web.api), web.client() as client:
        answer = await client.post("/named", json={"meeting": "m1", "user": "ada"})
        assert answer.json() == 3


async def test_a_websocket_route_sends(web: Web) -> None:
    """Section 5: `Send` is a parameter of websocket routes as well."""

    @web.api.websocket("/talk")
    async def talk(socket: WebSocket, send: Annotated[Sender, sender(web.app)]) -> None:
        await socket.accept()
        body = Join(meeting="m1", user=await socket.receive_text())
        await socket.send_json((await send(body, metadata={"tenant": "acme"})).members)

    said = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "ada"}]
    heard: list[Any] = []

    async def receive() -> Any:
        return said.pop(0)

    async def tell(message: Any) -> None:
        heard.append(message)

    scope = {"type": "websocket", "path": "/talk", "query_string": b"", "headers": []}
    async with web.lifespan(web.api):
        await web.api(scope, receive, tell)
        await web.app.settle()
    assert [message.get("text") for message in heard] == [None, "1"]
    assert web.welcomed == [("ada", "acme")]
