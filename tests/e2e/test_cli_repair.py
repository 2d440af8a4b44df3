"""`headrace dead`, `explain` and `migrate` as processes, on PostgreSQL and RabbitMQ, while no worker runs and after one ran."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e import leftovers
from tests.servers import engine

SHOP = """
    import asyncio, os, sys
    from pathlib import Path

    from headrace import Command, Events, Headrace, Limits, Module, NotificationEvent, Retry, Subscription

    RUN = os.environ["SHOP_RUN"]

    class Place(Command[None]):
        number: str
        key: str

    class Placed(NotificationEvent, type="shop.placed.v1", topic=f"orders{RUN}", key="key"):
        number: str
        key: str

    shop = Module("shop")

    @shop.handler(raises=[Placed])
    async def place(request: Place, events: Events) -> None:
        events.append(Placed(request.number, request.key))

    class OutOfStock(Exception):
        pass

    @shop.handler(raises=[])
    async def pack(event: Placed) -> None:
        if "bad" in event.number and not Path("mended").exists():
            raise OutOfStock(f"{event.number} is not in stock")
        with Path("packed").open("a") as file:
            file.write(event.number + "\\n")

    app = Headrace(
        "shop",
        modules=[shop],
        storage=os.environ["SHOP_STORAGE"],
        broker=os.environ["SHOP_BROKER"],
        subscriptions=[Subscription(group=f"packing{RUN}", retry=Retry(attempts=1))],
        limits=Limits(lease_seconds=2, poll_seconds=0.05),
    )

    async def main() -> None:
        async with app:
            for given in sys.argv[1:]:
                await app.send(Place(*given.split("@")))
            await app.settle(40)
"""


@dataclass(frozen=True)
class Done:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class World:
    """A folder with the app, and the servers that it uses."""

    folder: Path
    environment: dict[str, str]
    run: str

    @property
    def topic(self) -> str:
        return f"orders{self.run}"

    @property
    def group(self) -> str:
        return f"packing{self.run}"

    def headrace(self, *arguments: str, given: str = "", **environment: str) -> Done:
        return self._run("-m", "headrace", *arguments, given=given, **environment)

    def work(self, *orders: str) -> None:
        """Send orders, each `number@key`, and let the app do all that it can."""
        done = self._run("-c", "import asyncio, shop; asyncio.run(shop.main())", *orders)
        assert done.code == 0, done.err

    def position(self, key: str) -> int:
        """Of the dead letter of this key."""
        found = self.headrace("dead", "list", "shop:app", "--flat", "--json").data["dead_letters"]
        (position,) = [one["position"] for one in found if one["key"] == key]
        return int(position)

    def packed(self) -> list[str]:
        file = self.folder / "packed"
        return file.read_text().splitlines() if file.exists() else []

    def _run(self, *arguments: str, given: str = "", **environment: str) -> Done:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            input=given,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An app that nobody runs, with dead letters of several keys and messages held behind them."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(textwrap.dedent(SHOP))
    url, drop = engine("postgresql").fresh_database()
    broker = engine("rabbitmq").url
    run = uuid4().hex[:8]
    environment = {
        **os.environ,
        "COLUMNS": "120",
        "SHOP_STORAGE": url.replace("postgresql://", "postgresql+asyncpg://"),
        "SHOP_BROKER": broker,
        "SHOP_RUN": run,
    }
    made = World(folder, environment, run)
    try:
        made.work(
            *("good 1@good", "bad 1@look", "2@look", "3@look", "bad 4@drop", "5@drop"),
            *("bad 6@edit", "7@edit", "bad 8@editor", "bad 9@redrive", "10@redrive"),
        )
        yield made
    finally:
        asyncio.run(leftovers.remove("rabbitmq", broker, made.topic, [made.group]))
        drop()


pytestmark = pytest.mark.timeout(240)


def test_they_are_counted_by_error_and_listed_one_by_one(world: World) -> None:
    """By type of error with the newest one's words; one by one in pages (G9, G13)."""
    done = world.headrace("dead", "list", "shop:app", "--json")
    (errors,) = done.data["errors"]
    assert (errors["error"], errors["topic"]) == ("shop.OutOfStock", world.topic)
    table = world.headrace("dead", "shop:app")  # the short spelling
    assert table.code == 0
    assert "OutOfStock" in table.out
    assert f"group {world.group}" in table.out
    page = world.headrace("dead", "list", "shop:app", "--flat", "--limit", "1", "--json").data
    (first,) = page["dead_letters"]
    assert page["next_after"] == first["position"]
    assert first["body"]["number"].startswith("bad")
    other = world.headrace("dead", "list", "shop:app", "--group", "nobody")
    assert "There are no dead letters." in other.out


def test_one_is_shown_with_its_error_and_what_waits_behind_it(world: World) -> None:
    """Body, envelope, traceback, attempts and the length of the queue behind it."""
    position = str(world.position("look"))
    shown = world.headrace("dead", "shop:app", "show", position)  # either order
    assert "2 messages of its key" in shown.out
    assert "bad 1 is not in stock" in shown.out
    assert '"number": "bad 1"' in shown.out
    assert "Traceback (most recent call last)" in shown.out
    data = world.headrace("dead", "show", "shop:app", position, "--json").data
    assert (data["behind"], data["attempts"], data["key"]) == (2, 1, "look")
    assert data["envelope"]["type"] == "shop.placed.v1"
    missing = world.headrace("dead", "show", "shop:app", "999999", "--json")
    assert missing.code == 1
    assert "999999" in missing.data["error"]["message"]


def test_nothing_is_changed_by_a_dry_run_or_without_consent(world: World) -> None:
    """It is said what would happen; without a terminal --yes is needed."""
    position = str(world.position("look"))
    dry = world.headrace("dead", "redrive", "shop:app", "--error", "OutOfStock", "--dry-run")
    assert dry.code == 0
    assert "would be redriven" in dry.out
    asked = world.headrace("dead", "drop", "shop:app", position, "--reason", "old")
    assert asked.code == 2
    assert "--yes" in asked.err
    nothing = world.headrace("dead", "redrive", "shop:app")
    assert nothing.code == 2
    no_reason = world.headrace("dead", "drop", "shop:app", position, "--yes")
    assert no_reason.code == 2
    assert "--reason" in no_reason.err
    unknown = world.headrace("dead", "redrive", "shop:app", "--error", "Nothing", "--yes")
    assert unknown.code == 1
    assert world.position("look") == int(position)


def test_one_is_dropped_with_a_reason_and_a_record(world: World) -> None:
    """What waits behind it goes on when a worker runs, which the command says (G9)."""
    position = str(world.position("drop"))
    arguments = ("dead", "drop", "shop:app", position, "999999", "--reason", "a test", "--yes")
    done = world.headrace(*arguments, "--by", "ann")
    assert done.code == 0
    assert "1 dead letter is dropped for good." in done.out
    assert "999999" in done.out
    assert "Nobody works" in done.out
    again = world.headrace(*arguments, "--json")
    assert (again.code, again.data["count"]) == (1, 0)
    world.work()
    assert "5" in world.packed()


def test_one_is_edited_if_the_app_can_read_the_new_body(world: World) -> None:
    """A body that does not fit is refused with the reason; one that does is handled under the same id and key (G14)."""
    position = str(world.position("edit"))
    arguments = ("dead", "edit", "shop:app", position, "--data", "-", "--yes")
    refused = world.headrace(*arguments, given='{"number": 6, "key": "edit"}')
    assert refused.code == 1
    assert "cannot be read" in refused.err
    body = '{"number": "mended 6", "key": "edit"}'
    dry = world.headrace(*arguments, "--dry-run", given=body)
    assert '+  "number": "mended 6"' in dry.out
    same = world.headrace(*arguments, given='{"number": "bad 6", "key": "edit"}\n')
    assert "nothing was changed" in same.out
    done = world.headrace(*arguments, "--json", given=body)
    assert (done.data["edited"], done.data["redriven"]) == (True, 1)
    world.work()
    packed = world.packed()
    assert packed.index("mended 6") < packed.index("7")


def test_an_editor_opens_and_shows_the_body_in_lines(world: World) -> None:
    """On a terminal, with $EDITOR; then it shows what changes and asks."""
    position = str(world.position("editor"))
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace", "dead", "edit", "shop:app", position],
        cwd=world.folder,
        env={**world.environment, "EDITOR": "sed -i 's/bad 8/mended 8/'", "TERM": "dumb"},
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
    )
    os.close(secondary)
    os.write(primary, b"y\n")
    said = b""
    while True:
        try:
            more = os.read(primary, 4096)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        said += more
    os.close(primary)
    assert process.wait(60) == 0, said.decode()
    assert b"is edited and redriven" in said
    world.work()
    assert "mended 8" in world.packed()


def test_they_are_redriven_in_order_once_the_cause_is_mended(world: World) -> None:
    """The dead letter first, then what was held behind it (G9)."""
    position = str(world.position("redrive"))
    done = world.headrace("dead", "redrive", "shop:app", position, "--yes")
    assert done.code == 0
    assert "1 dead letter is redriven." in done.out
    (world.folder / "mended").touch()
    try:
        world.work()
    finally:
        (world.folder / "mended").unlink()
    packed = world.packed()
    assert packed.index("bad 9") < packed.index("10")


def test_a_message_and_a_key_are_explained(world: World) -> None:
    """Where it went, behind what it waits, who would have to work; the whole key in order."""
    dead = world.position("look")
    key = world.headrace("explain", "shop:app", "look", "--json")
    assert key.code == 0
    (life,) = key.data["keys"]
    outbox, group = life["queues"]
    assert outbox["messages"] == []
    assert (group["group"], group["blocked_by"]) == (world.group, dead)
    assert [one["where"] for one in group["messages"]] == ["dead", "held", "held"]
    held = group["messages"][1]["id"]
    message = world.headrace("explain", "shop:app", held, "--json").data["messages"][0]
    assert message["sent"]["where"] == "published"
    (standing,) = message["groups"]
    assert (standing["where"], standing["blocked_by"]) == ("held", dead)
    assert message["body"] == {"number": "2", "key": "look"}
    shown = world.headrace("explain", "shop:app", held, COLUMNS="80")
    assert f"waits behind the dead letter at position {dead}" in " ".join(shown.out.split())
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    shown = world.headrace("explain", "shop:app", "look", "--topic", world.topic)
    assert "nobody works partition" in " ".join(shown.out.split())


def test_what_nothing_is_known_of_ends_with_1(world: World) -> None:
    """With the places that were looked at."""
    done = world.headrace("explain", "shop:app", "no-such-thing")
    assert done.code == 1
    assert "Nothing is known of no-such-thing" in done.out
    assert world.headrace("explain", "shop:app", "x", "--json").data["found"] is False


def test_a_broker_that_is_away_is_told_and_storage_answers_all_the_same(world: World) -> None:
    """Dead letters are in the database: mending them needs no broker."""
    away = {"SHOP_BROKER": "amqp://localhost:1/"}
    done = world.headrace("explain", "shop:app", "look", "--json", **away)
    assert done.code == 0
    assert any("broker could not be asked" in note for note in done.data["notes"])
    assert world.headrace("dead", "shop:app", **away).code == 0
    gone = {"SHOP_STORAGE": "postgresql+asyncpg://postgres@localhost:1/nothing"}
    assert world.headrace("dead", "shop:app", **gone).code == 3


def test_tables_are_checked_written_and_made(world: World) -> None:
    """In a database without tables: 1 for CI, statements for a DBA that do the same as the command, then nothing to do."""
    url, drop = engine("postgresql").fresh_database()
    other, drop_other = engine("postgresql").fresh_database()
    storage = {"SHOP_STORAGE": url.replace("postgresql://", "postgresql+asyncpg://")}
    by_hand = {"SHOP_STORAGE": other.replace("postgresql://", "postgresql+asyncpg://")}
    try:
        check = world.headrace("migrate", "shop:app", "--check", "--json", **storage)
        assert (check.code, check.data["found"]) == (1, None)
        assert "headrace_queue" in check.data["tables"]
        refused = world.headrace("dead", "shop:app", **storage)
        assert refused.code == 1
        assert "headrace migrate" in refused.err
        asked = world.headrace("migrate", "shop:app", **storage)
        assert asked.code == 2
        made = world.headrace("migrate", "shop:app", "--yes", **storage)
        assert made.code == 0, made.err
        assert "Done" in made.out
        again = world.headrace("migrate", "shop:app", "--check", **storage)
        assert (again.code, "nothing is to be done" in again.out) == (0, True)
        sql = world.headrace("migrate", "shop:app", "--sql", **by_hand)
        assert sql.code == 0
        asyncio.run(_execute(other, sql.out))
        assert world.headrace("migrate", "shop:app", "--check", **by_hand).code == 0
    finally:
        drop()
        drop_other()


def test_the_asyncapi_document_is_written(world: World, tmp_path: Path) -> None:
    """As YAML on the output, as JSON into a file that is named so."""
    done = world.headrace("asyncapi", "shop:app")
    assert done.code == 0, done.err
    assert done.out.startswith('asyncapi: "3.0.0"\n')
    file = tmp_path / "shop.json"
    written = world.headrace("asyncapi", "shop:app", "--output", str(file), "--title", "The shop")
    assert (written.code, written.out) == (0, "")
    assert json.loads(file.read_text())["info"]["title"] == "The shop"


async def _execute(url: str, script: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        await connection.execute(script)
    finally:
        await connection.close()
