"""Errors as problem details (RFC 9457) on real FastAPI, without a server."""

import logging
from pathlib import Path

import pytest
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from headrace.errors import (
    AppNotRunning,
    CommitOutcomeUnknown,
    HandlerNotFound,
    MessageTooLarge,
    StorageBusy,
    StorageUnavailable,
)
from headrace.integrations.fastapi import PROBLEM_RESPONSES, add_problems, lifespan
from tests.e2e.shop import Shop, client


@pytest.fixture
def api(tmp_path: Path) -> FastAPI:
    api = FastAPI(lifespan=lifespan(Shop(tmp_path).app), responses=PROBLEM_RESPONSES)
    add_problems(api)
    return api


@pytest.mark.parametrize(
    ("raised", "status", "type_", "retry_after"),
    [
        (StorageBusy("secret"), 503, "urn:headrace:busy", "1"),
        (StorageUnavailable("secret"), 503, "urn:headrace:storage-unavailable", "5"),
        (AppNotRunning("secret"), 503, "urn:headrace:not-running", "5"),
        (CommitOutcomeUnknown("secret"), 500, "urn:headrace:outcome-unknown", None),
        (MessageTooLarge("secret"), 413, "urn:headrace:too-large", None),
        (HandlerNotFound("secret"), 500, "about:blank", None),
        (RuntimeError("secret"), 500, "about:blank", None),
    ],
)
async def test_errors_are_problems_that_tell_nothing_of_the_inside(
    api: FastAPI,
    caplog: pytest.LogCaptureFixture,
    raised: Exception,
    status: int,
    type_: str,
    retry_after: str | None,
) -> None:
    """Section 5: Headrace's errors and unforeseen ones are problem details; the log has the error and the correlation id."""

    @api.get("/fail")
    async def fail() -> None:
        raise raised

    async with client(api) as http:
        with caplog.at_level(logging.WARNING, "headrace"):
            answer = await http.get("/fail", headers={"x-correlation-id": "c1"})
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["status"], body["type"], body["instance"]) == (status, type_, "/fail")
    assert (body["correlation_id"], answer.headers["x-correlation-id"]) == ("c1", "c1")
    assert answer.headers.get("retry-after") == retry_after
    assert "secret" not in answer.text
    logged = [record for record in caplog.records if "secret" in record.message]
    assert bool(logged) == (status >= 500)


async def test_what_does_not_validate_is_a_problem_without_the_input(api: FastAPI) -> None:
    """Section 5: 422 says where and what, and does not repeat what was sent."""

    class Body(BaseModel):
        amount: int

    @api.post("/pay")
    async def pay(body: Body) -> None: ...

    async with client(api) as http:
        answer = await http.post("/pay", json={"amount": "a secret"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "amount"]
    assert answer.json()["detail"].startswith("body.amount: Input should be a valid integer")
    assert "secret" not in answer.text


async def test_http_errors_are_problems(api: FastAPI) -> None:
    """Section 5: HTTPException, also of FastAPI itself, with its headers; a detail that is no text stands beside it."""

    @api.get("/gone")
    async def gone() -> None:
        raise HTTPException(410, {"since": 1999}, {"x-why": "sold"})

    async with client(api) as http:
        missing, answer = await http.get("/nothing"), await http.get("/gone")
    assert (missing.status_code, missing.json()["title"]) == (404, "Not Found")
    assert (answer.json()["since"], answer.headers["x-why"]) == (1999, "sold")
    assert answer.json()["detail"] == "Gone"


async def test_the_openapi_document_knows_problems(api: FastAPI) -> None:
    """Section 5: the document says that errors are problem details, and no longer FastAPI's own 422."""

    @api.get("/orders/{number}")
    async def order(number: int) -> None: ...

    responses = api.openapi()["paths"]["/orders/{number}"]["get"]["responses"]
    assert sorted(responses) == ["200", "default"]
    assert list(responses["default"]["content"]) == ["application/problem+json"]
