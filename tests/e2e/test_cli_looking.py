"""`headrace check`, `status` and `flow` on PostgreSQL and RabbitMQ, beside processes of the app and without any."""

from __future__ import annotations

import json
import re
import signal
import textwrap
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from tests.e2e import leftovers
from tests.e2e.processes import Process, starting
from tests.servers import engine

SHOP = """
    import os

    from headrace import (
        Command, DomainEvent, Events, Headrace, Limits, Module, NotificationEvent, Retry, Subscription,
    )

    RUN = os.environ.get("RUN", "")

    class Place(Command[None]):
        order: str

    class Placed(DomainEvent):
        order: str

    class Announced(NotificationEvent, type="shop.placed.v1", topic=f"orders{RUN}", key="order"):
        order: str

    shop = Module("shop")

    @shop.handler(raises=[Placed])
    async def place(request: Place, events: Events) -> None:
        events.append(Placed(request.order))

    @shop.handler(raises=[Announced])
    async def announce(event: Placed, events: Events) -> None:
        events.append(Announced(event.order))

    @shop.handler
    async def pack(event: Announced) -> None:
        if event.order == "bad":
            raise ValueError("no such article")

    def make(roles=("send", "relay", "consume")) -> Headrace:
        return Headrace(
            f"shop{RUN}",
            modules=[shop],
            storage=os.environ["STORAGE"],
            broker=os.environ["BROKER"],
            roles=roles,
            subscriptions=[Subscription(retry=Retry(attempts=1))],
            limits=Limits(lease_seconds=2, poll_seconds=0.1),
        )

    app = make()
"""
SEND = """
    import asyncio, sys
    import shop

    async def main() -> None:
        async with shop.make(roles={"send"}) as app:
            for order in sys.argv[1:]:
                await app.send(shop.Place(order))

    asyncio.run(main())
"""

# Each starts up to six processes, and the machine may be busy.
pytestmark = pytest.mark.timeout(150)

Command = Callable[..., Awaitable[Process]]


@pytest.fixture
async def command(tmp_path: Path) -> AsyncIterator[Command]:
    """Starts `headrace ...` in a folder that has shop.py and send.py, on SQLite unless told otherwise."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(SHOP))
    (tmp_path / "send.py").write_text(textwrap.dedent(SEND))
    lite = {"STORAGE": "sqlite+aiosqlite:///shop.db", "BROKER": "sql://"}
    async with starting(tmp_path) as start:

        def run(*words: str, **environment: str) -> Awaitable[Process]:
            given = {**lite, **environment}
            if words[0] == "send.py":
                return start(*words, **given)
            return start("-m", "headrace", *words, **given)

        yield run


@pytest.fixture
async def servers() -> AsyncIterator[Mapping[str, str]]:
    """A fresh database of PostgreSQL, and RabbitMQ with names of this test's own."""
    url, drop = engine("postgresql").fresh_database()
    broker, run = engine("rabbitmq").url, uuid.uuid4().hex[:8]
    storage = "postgresql+asyncpg://" + url.partition("://")[2]
    try:
        yield {"STORAGE": storage, "BROKER": broker, "RUN": run}
    finally:
        await leftovers.remove("rabbitmq", broker, f"orders{run}", [f"shop{run}"])
        drop()


async def said(running: Awaitable[Process], code: int = 0) -> str:
    one = await running
    assert await one.ends() == code, one.output
    return one.output


async def read(running: Awaitable[Process], code: int = 0) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(await said(running, code)))


def lines_of(standing: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"].split()[0]: one for one in standing["lines"]}


async def test_an_app_is_seen_before_its_first_start(
    command: Command, servers: Mapping[str, str]
) -> None:
    """On PostgreSQL and RabbitMQ: what will be made is told, and looking makes none of it."""
    checked = await read(command("check", "shop:app", "--json", **servers))
    found = {(one["what"], one["state"]) for one in checked["findings"]}
    assert {("wiring", "ok"), ("tables", "note"), ("broker", "ok"), ("topic", "note")} <= found
    told = await said(command("status", "shop:app", **servers), 1)
    assert "has no tables of Headrace yet" in told


async def test_an_app_is_seen_from_outside_while_it_runs(
    command: Command, servers: Mapping[str, str]
) -> None:
    """On PostgreSQL and RabbitMQ: processes, owners, rates, what failed and what waits behind it."""
    await said(command("send.py", "1", "2", "bad", "bad", **servers))
    worker = await command("worker", "shop:app", **servers)
    await worker.until("no such article")
    watching = await command("status", "shop:app", "--json", "--watch", "--every", "0.2", **servers)
    while True:
        standing = json.loads(await watching.line())
        group = lines_of(standing)["group"]
        if (group["backlog"]["dead"], group["backlog"]["held"]) == (1, 1) and standing["rates"]:
            break
    watching.signal(signal.SIGINT)
    assert await watching.ends() == 0
    (process,) = standing["processes"]
    assert process["pid"] == worker.pid
    assert process["roles"] == ["consume", "relay"]
    assert group["owners"] == {process["process"]: 8}
    assert (group["behind"], standing["problems"]) == (0, [])
    assert lines_of(standing)["outbox"]["per_second"] is not None
    (dead,) = standing["dead"]
    assert (dead["count"], dead["error"], dead["sample"]) == (1, "ValueError", "no such article")

    shown = await said(command("status", "shop:app", **servers, COLUMNS="100"))
    assert re.search(r"^ +1 +group .* ValueError +no such article$", shown, re.MULTILINE)
    assert "\x1b[" not in shown  # no colours without a terminal
    assert max(map(len, shown.splitlines())) <= 100
    after = await read(command("check", "shop:app", "--json", **servers))
    assert {one["state"] for one in after["findings"]} == {"ok"}


async def test_messages_that_nobody_works_make_a_script_fail(command: Command) -> None:
    """With --fail-if-unhealthy, after it was told what is wrong."""
    await said(command("send.py", "1"))
    told = await said(command("status", "shop:app", "--fail-if-unhealthy"), 1)
    assert "no processes alive" in told
    assert "messages wait and nobody works any partition" in told
    assert "look at this" in await said(command("status", "shop:app"))


async def test_servers_that_are_away_are_told(command: Command) -> None:
    """Exit code 3 for the database, and for the broker where a command needs it; as JSON with the code of the error."""
    away = {"STORAGE": "postgresql+asyncpg://nobody@127.0.0.1:1/none"}
    error = (await read(command("status", "shop:app", "--json", **away), 3))["error"]
    assert (error["code"], error["exit_code"]) == ("HR030", 3)
    assert "HR030" in await said(command("status", "shop:app", **away), 3)
    checked = await said(
        command("check", "shop:app", **away, BROKER="amqp://guest:secret@127.0.0.1:1"), 3
    )
    assert checked.count("away ") == 2
    assert "2 not reached" in checked
    assert "secret" not in checked
    assert "No faults." in await said(command("check", "shop:app", "--offline", **away))


async def test_a_broker_that_is_away_keeps_nobody_from_seeing_what_is_stored(
    command: Command,
) -> None:
    """The status is told without what the broker alone knows."""
    away = {"BROKER": "amqp://127.0.0.1:1"}
    await said(command("send.py", "1", **away))
    standing = await read(command("status", "shop:app", "--json", **away))
    assert lines_of(standing)["outbox"]["backlog"]["ready"] == 1
    assert lines_of(standing)["group"]["behind"] is None
    assert "HR040" in standing["broker_error"]


async def test_looking_at_a_database_that_is_not_there_makes_none(
    command: Command, tmp_path: Path
) -> None:
    """Neither the tables nor, on SQLite, the file."""
    assert "has no tables of Headrace yet" in await said(command("status", "shop:app"), 1)
    assert "makes them" in await said(command("check", "shop:app"))
    assert not (tmp_path / "shop.db").exists()


async def test_an_app_in_memory_cannot_be_seen_from_outside(command: Command) -> None:
    """The command says so, and what to do."""
    memory = {"STORAGE": "memory://", "BROKER": "memory://"}
    told = await said(command("status", "shop:app", **memory), 1)
    assert "keeps everything in memory" in told
    assert "all is gone with the process" in await said(command("check", "shop:app", **memory))


async def test_the_flow_is_written_in_every_form(command: Command, tmp_path: Path) -> None:
    """To the terminal or to a file, whose name tells the form."""
    shown = await said(command("flow", "shop:app"))
    assert shown.startswith("shop  SqlStorage, SqlBroker\n\nPlace  command\n└── place  shop.py:")
    data = await read(command("flow", "shop:app", "--json"))
    assert data["complete"] is True
    assert {one["kind"] for one in data["nodes"]} >= {"command", "handler", "topic", "group"}
    assert (await said(command("flow", "shop:app", "--format", "mermaid"))).startswith("flowchart")
    await said(command("flow", "shop:app", "-o", "flow.svg", "--command", "Placed"))
    picture = (tmp_path / "flow.svg").read_text()
    assert "Announced" in picture
    assert ">Place<" not in picture
    assert "Did you mean Place" in await said(command("flow", "shop:app", "--command", "Plase"), 1)
    assert "cannot be written" in await said(command("flow", "shop:app", "-o", "no/such.svg"), 2)


async def test_a_worker_starts_again_when_a_file_changes(command: Command, tmp_path: Path) -> None:
    """What it does is drained first; a program that cannot be imported is shown, and the next change mends it."""
    one = await command("worker", "shop:app", "--reload")
    await one.until("this worker relays")
    program = tmp_path / "shop.py"
    good = program.read_text()
    program.write_text(good + "\ndef (\n")
    await one.until("shop has stopped")
    await one.until("shop.py has changed; starting again.")
    await one.until("SyntaxError: invalid syntax")
    await one.until("waiting for a change")
    assert "importlib" not in one.output
    program.write_text(good + "\nprint('mended', flush=True)\n")
    await one.until("mended")
    await one.until(r"(?s)(this worker relays.*){2}")
    one.signal(signal.SIGTERM)
    assert await one.ends() == 0, one.output
    assert one.output.count("shop has stopped") == 2


async def test_reload_goes_with_one_process_of_an_app_that_there_is(command: Command) -> None:
    """What it cannot do it says at once."""
    told = await said(command("worker", "shop:app", "--reload", "--processes", "2"), 2)
    assert "leave --processes out" in told
    assert "no such folder" in await said(
        command("worker", "shop:app", "--reload-dir", "nowhere"), 2
    )
    assert "there is no module 'nope'" in await said(command("worker", "nope:app", "--reload"), 2)


async def test_the_command_says_what_it_is(command: Command) -> None:
    """Its version, and its commands with a sentence each that is not cut."""
    assert (await said(command("--version"))).startswith("headrace 0.")
    shown = await said(command("--help", COLUMNS="80"))
    for line in (
        "check      Find out what is wrong with an app.",
        "flow       Draw the flow of events through an app.",
        "worker     Relay the outbox and consume, until told to stop.",
        "status     Show what runs, what waits and what failed.",
    ):
        assert line in shown
