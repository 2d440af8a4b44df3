"""docs/tutorial is followed as a reader would: its files are written, its commands are typed, on real servers."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import aiormq
import pytest

from engines.process import free_port
from headrace.broker import PARTITIONS
from headrace.drivers.rabbitmq.names import Names
from tests.docs.pages import ROOT
from tests.docs.steps import Expect, File, Step, Stop, Type, matches, steps_of
from tests.docs.terminal import CommandFailed, Terminal
from tests.servers import engine

PAGES = sorted((ROOT / "docs" / "tutorial").glob("[0-9]*.md"))

# What a reader has on their own machine, as the pages write it.
DATABASE = "postgresql+asyncpg://postgres:secret@localhost/tickets"
BROKER = "amqp://guest:guest@localhost"
PORT = "8000"
APP, TOPIC = "tickets", "sales"


class Reader:
    """Follows the pages in one project folder.

    Args:
        folder: the project's.
        names: what to write instead of what the pages have: servers and ports of the test's own.
    """

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self._folder = folder
        self._names = names
        self._terminals: dict[str, Terminal] = {}
        self._printed = ""

    def do(self, step: Step) -> None:
        """Do what a page says next; raises if it does not come out as the page says."""
        match step:
            case File(path=path, text=text):
                target = self._folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(self._mine(text), encoding="utf-8")
            case Type(terminal=name, text=text, until=None):
                self._printed = self._terminal(name).run(self._mine(text))
            case Type(terminal=name, text=text, until=until):
                assert until is not None
                self._printed = self._terminal(name).begin(self._mine(text), until)
            case Expect(text=expected):
                if not matches(expected, self._printed):
                    raise CommandFailed(f"expected was\n{expected}\nprinted was\n{self._printed}")
            case Stop(terminal=name):
                terminal = self._terminals.pop(name)
                terminal.interrupt()
                terminal.close()

    def leave(self) -> str:
        """Close all terminals; returns what they have printed."""
        for terminal in self._terminals.values():
            terminal.close()
        return "".join(
            f"--- terminal {name} ---\n{terminal.printed}"
            for name, terminal in self._terminals.items()
        )

    def _mine(self, text: str) -> str:
        for theirs, ours in self._names.items():
            text = text.replace(theirs, ours)
        return text

    def _terminal(self, name: str) -> Terminal:
        if name not in self._terminals:
            environment = {
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",  # files change faster than the clock of byte code
                "COLUMNS": "100",
            }
            self._terminals[name] = Terminal(self._folder, environment)
        return self._terminals[name]


@pytest.fixture
def names() -> Iterator[dict[str, str]]:
    """A database, a prefix on RabbitMQ and a port of the test's own."""
    rabbit = engine("rabbitmq").url
    fresh = engine("postgresql").fresh_database()
    prefix = f"tutorial-{secrets.token_hex(4)}-"
    try:
        yield {
            DATABASE: fresh.url,
            BROKER: f"{rabbit.rstrip('/')}/?prefix={prefix}",
            PORT: str(free_port()),
        }
    finally:
        fresh.drop()
        asyncio.run(remove(rabbit, prefix))


async def remove(url: str, prefix: str) -> None:
    """Take away what the app has made on RabbitMQ."""
    names = Names(prefix)
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        await channel.exchange_delete(names.exchange(TOPIC))
        await channel.queue_delete(names.record(TOPIC))
        for partition in range(PARTITIONS):
            await channel.queue_delete(names.queue(APP, TOPIC, partition))


@pytest.mark.timeout(240)
def test_the_tutorial_does_what_it_says(tmp_path: Path, names: dict[str, str]) -> None:
    """Page after page, the files work, the commands succeed and print what stands below them."""
    reader = Reader(tmp_path, names)
    fault, at = "", ""
    try:
        for page in PAGES:
            for step in steps_of(page.read_text(encoding="utf-8")):
                at = f"{page.name}:{step.line}"
                reader.do(step)
    except CommandFailed as error:
        fault = str(error)
    finally:
        printed = reader.leave()
    if fault:
        pytest.fail(f"{at}: {fault}\n{printed}", pytrace=False)
    assert at.startswith("6-")


def test_what_a_page_says_is_held_against_it(tmp_path: Path) -> None:
    """A command that fails, and one that prints something else than the page, are found."""
    page = (
        '```python title="a/hello.py"\nprint("hello, Ada")\n```\n'
        "```bash\ncd a\npython hello.py\n```\n<!-- output -->\n```text\nhello, ...\n```\n"
        "<!-- by hand: there is no docker -->\n```bash\ndocker\n```\n"
        "<!-- terminal other until: ready -->\n```bash\necho ready; sleep 60\n```\n"
        "<!-- stop other -->\n"
    )
    reader = Reader(tmp_path, {})
    for step in steps_of(page):
        reader.do(step)
    for wrong in ("<!-- output -->\n```text\nbye\n```\n", "```bash\nfalse\n```\n"):
        (step,) = steps_of(wrong)
        with pytest.raises(CommandFailed):
            reader.do(step)
    reader.leave()
