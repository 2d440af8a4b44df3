"""`headrace dashboard` as a process, beside a worker, over PostgreSQL and RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import signal
import socket
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.leftovers import remove
from tests.e2e.processes import starting
from tests.servers import engine

SHOP = """
    import os

    from headrace import Command, Events, Headrace, Limits, Module, NotificationEvent, Retry, Subscription

    class Place(Command[None]):
        order: str

    class Placed(NotificationEvent, type="shop.placed.v1", topic=os.environ["TOPIC"], key="order"):
        order: str
        email: str = "ada@example.com"

    shop = Module("shop")

    @shop.handler(raises=[Placed])
    async def place(request: Place, events: Events) -> None:
        events.append(Placed(request.order))

    @shop.handler
    async def pack(event: Placed) -> None:
        if event.order == "bad":
            raise ValueError(f"no such article for {event.email}")

    app = Headrace(
        "shop",
        modules=[shop],
        storage=os.environ["STORAGE"],
        broker=os.environ["BROKER"],
        subscriptions=[Subscription(retry=Retry.NEVER)],
        limits=Limits(lease_seconds=2, poll_seconds=0.1),
    )
"""
SEND = """
    import asyncio
    import shop

    async def main() -> None:
        async with shop.app:
            for order in ("good", "bad"):
                await shop.app.send(shop.Place(order))
            await shop.app.settle()

    asyncio.run(main())
"""
TOPIC = f"dashboard-{secrets.token_hex(3)}"


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP))
    (tmp_path / "send.py").write_text(textwrap.dedent(SEND))
    return tmp_path


@pytest.fixture
async def environment() -> AsyncIterator[dict[str, str]]:
    """Of processes of the app."""
    storage, drop = engine("postgresql").fresh_database()
    broker = engine("rabbitmq").url
    yield {"STORAGE": storage, "BROKER": broker, "TOPIC": TOPIC}
    await remove("rabbitmq", broker, TOPIC, ["shop"])
    await asyncio.to_thread(drop)


@pytest.mark.timeout(120)
async def test_the_command_shows_and_repairs_an_app_that_runs_elsewhere(
    folder: Path, environment: dict[str, str]
) -> None:
    """It sees the worker and how far its group is, hides what it was told to, redrives, and stops while it is looked at."""
    async with starting(folder) as run:
        sent = await run("send.py", **environment)
        assert await sent.ends() == 0, sent.output
        worker = await run("-m", "headrace", "worker", "shop:app", **environment)
        await worker.until("this worker")
        pages = await run(
            *("-m", "headrace", "dashboard", "shop:app", "--port", "0", "--allow-actions"),
            *("--json", "--redact", "shop.placed.v1:email"),
            **environment,
        )
        told = json.loads((await pages.until(r"\{.*\}"))[0])
        assert told["actions"] is True
        async with httpx.AsyncClient(base_url=told["url"], timeout=20) as browser:
            assert (await browser.get("/", headers={"host": "evil.example"})).status_code == 400
            backlogs = await browser.get("/backlogs")
            while "consume, relay" not in backlogs.text:  # its pulse comes a second after its start
                await asyncio.sleep(0.2)
                backlogs = await browser.get("/backlogs")
            assert f"group shop on {TOPIC}" in backlogs.text
            assert "is not known" not in backlogs.text
            listed = (await browser.get("/dead/list")).text
            assert "no such article for «hidden»" in listed
            (position,) = re.findall(r'href="\.\./dead/(\d+)"', listed)
            page = (await browser.get(f"/dead/{position}")).text
            assert "ada@example.com" not in page
            token = browser.cookies["headrace_form"]
            done = await browser.post(
                "/dead/drop",
                data={"form_token": token, "position": position, "reason": "a test"},
                headers={"origin": told["url"].rstrip("/")},
            )
            assert done.status_code == 303
            assert "a test" in (await browser.get("/audit")).text
            async with browser.stream("GET", "/live") as live:
                lines = live.aiter_lines()
                while not (await anext(lines)).startswith("data: "):
                    pass
                pages.signal(signal.SIGTERM)
                assert await pages.ends() == 0, pages.output


async def test_a_command_line_that_cannot_be_used_is_refused_with_the_way_out(
    folder: Path, environment: dict[str, str]
) -> None:
    """Actions for everybody, a field without a type, and a port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases = {
            ("--allow-actions", "--host", "0.0.0.0"): "authorize=",
            ("--redact", "email"): "write the type, a colon and the field",
            ("--port", port): "--port 0",
        }
        async with starting(folder) as run:
            for options, said in cases.items():
                process = await run(
                    "-m", "headrace", "dashboard", "shop:app", *options, **environment
                )
                assert await process.ends() == 2, process.output
                assert said in process.output
