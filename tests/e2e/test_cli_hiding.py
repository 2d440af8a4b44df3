"""Values of fields marked as sensitive are in no answer of the command line, unless it is asked to reveal them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

SHOP = """
    import asyncio
    from typing import Annotated

    from headrace import Command, Events, Headrace, Module, NotificationEvent, Retry, Sensitive, Subscription

    class Charge(Command[None]):
        email: str
        amount: int

    class Charged(NotificationEvent, type="shop.charged.v1", topic="payments", key="email"):
        email: Annotated[str, Sensitive]
        amount: int
        note: str = "gift-of-bob"

    class Refused(Exception):
        pass

    shop = Module("shop")

    @shop.handler(raises=[Charged])
    async def charge(request: Charge, events: Events) -> None:
        events.append(Charged(request.email, request.amount))

    @shop.handler(raises=[])
    async def book(event: Charged) -> None:
        raise Refused(f"{event.email} cannot pay {event.amount}")

    app = Headrace(
        "shop",
        modules=[shop],
        storage="sqlite+aiosqlite:///shop.db",
        broker="sql://",
        subscriptions=[Subscription(group="books", retry=Retry.NEVER)],
    )

    async def main() -> None:
        async with app:
            await app.send(Charge("ada@example.com", 12))
            await app.settle()
            print((await app.dead_letters.list())[0].position)
"""

pytestmark = pytest.mark.timeout(150)  # each starts some processes, and the machine may be busy


class Shop:
    """An app with one dead letter, and the command line beside it."""

    def __init__(self, folder: Path) -> None:
        (folder / "shop.py").write_text(textwrap.dedent(SHOP))
        self._folder = folder
        self.position = self._run("-c", "import asyncio, shop; asyncio.run(shop.main())").split()[0]

    def says(self, *arguments: str, given: str = "", code: int = 0) -> str:
        return self._run("-m", "headrace", *arguments, given=given, code=code)

    def data(self, *arguments: str) -> Any:
        return json.loads(self.says(*arguments, "--json"))

    def _run(self, *arguments: str, given: str = "", code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._folder,
            env={**os.environ, "COLUMNS": "120"},
            input=given,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


def test_no_answer_has_a_hidden_value(shop: Shop) -> None:
    """Neither lists, nor the letter itself, nor the life of its message, nor what a change is about; as text and as JSON."""
    letter = shop.data("dead", "show", "shop:app", shop.position)
    assert letter["key"] == letter["envelope"]["subject"] == "«hidden»"
    assert letter["body"] == {"email": "«hidden 1»", "amount": 12, "note": "gift-of-bob"}
    assert letter["failure"]["message"] == "«hidden» cannot pay 12"
    message = shop.data("explain", "shop:app", letter["envelope"]["id"])["messages"][0]
    assert message["body"]["email"] == "«hidden 1»"
    assert message["groups"][0]["failure"]["message"] == "«hidden» cannot pay 12"
    for arguments in (
        ("dead", "list", "shop:app"),
        ("dead", "list", "shop:app", "--json"),
        ("dead", "list", "shop:app", "--flat"),
        ("dead", "list", "shop:app", "--flat", "--json"),
        ("dead", "show", "shop:app", shop.position),
        ("dead", "redrive", "shop:app", "--all", "--dry-run"),
        ("dead", "drop", "shop:app", "--all", "--reason", "x", "--dry-run", "--json"),
        ("dead", "drop", "shop:app", shop.position, "--reason", "x", "--dry-run"),
        ("explain", "shop:app", letter["envelope"]["id"]),
        ("status", "shop:app", "--json"),
    ):
        said = shop.says(*arguments)
        assert "ada@example" not in said, arguments
        assert "hidden" in said, arguments


def test_a_key_that_was_asked_for_shows_no_errors_of_its_messages(shop: Shop) -> None:
    """Their bodies are not at hand there, so it cannot be told what of them an error repeats."""
    (life,) = shop.data("explain", "shop:app", "ada@example.com")["keys"]
    failure = life["queues"][1]["messages"][0]["failure"]
    assert failure["error"] == "shop.Refused"
    assert failure["message"] == failure["traceback"] == "«hidden: fields of this type are hidden»"


def test_values_are_revealed_or_more_of_them_hidden_when_asked_for(shop: Shop) -> None:
    """By --reveal everything is shown, by --redact a field more is hidden; both at once are refused."""
    revealed = shop.data("dead", "show", "shop:app", shop.position, "--reveal")
    assert (revealed["key"], revealed["body"]["email"]) == ("ada@example.com", "ada@example.com")
    life = shop.says("explain", "shop:app", revealed["envelope"]["id"], "--reveal")
    assert "ada@example.com cannot pay 12" in life
    hide = ("--redact", "shop.charged.v1:note", "--redact", "*:amount")
    shown = shop.data("dead", "show", "shop:app", shop.position, *hide)
    assert set(shown["body"].values()) == {"«hidden 1»", "«hidden 2»", "«hidden 3»"}
    assert "not both" in shop.says("dead", "shop:app", "--reveal", "--redact", "*:a", code=2)
    assert "write the type, a colon" in shop.says(
        "explain", "shop:app", "x", "--redact", "a", code=2
    )


def test_an_edit_keeps_hidden_values_by_their_marks(shop: Shop) -> None:
    """What changes is shown without them; a mark elsewhere, and what an error would tell of them, is refused."""
    edit = ("dead", "edit", "shop:app", shop.position, "--data", "-", "--yes", "--no-redrive")
    moved = shop.says(*edit, given='{"email": "a", "amount": 1, "note": "«hidden 1»!"}', code=1)
    assert "Nothing was changed" in moved
    wrong = shop.says(*edit, given='{"email": "«hidden 1»", "amount": "x"}', code=1)
    assert "ada@example" not in wrong
    body = '{"email": "«hidden 1»", "amount": 3, "note": "n"}'
    dry = shop.says(*edit, "--dry-run", given=body)
    assert '+  "amount": 3' in dry
    assert "hidden value" not in dry
    other = shop.says(*edit, "--dry-run", given='{"email": "bob@example.com", "amount": 12}')
    assert "1 hidden value changes." in other
    shop.says(*edit, given=body)
    revealed = shop.data("dead", "show", "shop:app", shop.position, "--reveal")
    assert revealed["body"] == {"email": "ada@example.com", "amount": 3, "note": "n"}
