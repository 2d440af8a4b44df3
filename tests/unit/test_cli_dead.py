"""`headrace dead`: the order of its words, which dead letters are meant, and new bodies."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.cli.dead import editing
from headrace.cli.dead.choosing import Choice, check_no_more, choose, full_name, unworked
from headrace.cli.dead.ordering import in_order
from headrace.cli.ending import Code, Fault
from headrace.cli.lives import made_at
from headrace.cli.tables import body_text
from headrace.dead_letters import DeadLetters
from headrace.drivers.memory import MemoryStorage
from headrace.redaction import Hidden, Unusable
from headrace.storage import DeadErrors, group_queue
from headrace.telemetry import Telemetry
from tests.unit.dashboards import charge, make_app

COMMANDS = {"list", "show"}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["shop:app"], ["list", "shop:app"]),
        (["shop:app", "--flat"], ["list", "shop:app", "--flat"]),
        (["shop:app", "show", "7"], ["show", "shop:app", "7"]),
        (["show", "shop:app", "7"], ["show", "shop:app", "7"]),
        (["--help"], ["--help"]),
        (["shwo", "shop:app"], ["shwo", "shop:app"]),
        ([], []),
    ],
)
def test_the_app_may_stand_before_the_subcommand(given: list[str], meant: list[str]) -> None:
    """And alone it lists. A misspelt subcommand stays one, so that it is told."""
    assert in_order(given, COMMANDS, "list") == meant


@pytest.mark.parametrize(
    "choice", [Choice(), Choice((1,), error="ValueError"), Choice((1,), all=True)]
)
def test_nothing_and_two_things_at_once_are_refused(choice: Choice) -> None:
    """Positions, or what chooses them."""
    with pytest.raises(Fault) as fault:
        choice.check()
    assert fault.value.code == Code.USAGE


def errors(*names: str) -> list[DeadErrors]:
    return [DeadErrors("outbox:a", "t", name, 1, 1, 1, "") for name in names]


def test_the_last_part_of_an_errors_name_will_do() -> None:
    """If it is one error's alone; a name that is there as it was given comes first."""
    known = errors("ValueError", "shop.Refused", "bank.ValueError")
    assert full_name("Refused", known) == "shop.Refused"
    assert full_name("ValueError", known) == "ValueError"
    with pytest.raises(Fault, match=r"a\.Odd or b\.Odd"):
        full_name("Odd", errors("a.Odd", "b.Odd"))


def test_an_error_that_nothing_has_is_told_with_the_nearest() -> None:
    """Or with those that there are."""
    with pytest.raises(Fault, match=r"Did you mean shop\.Refused\?"):
        full_name("shop.Refusd", errors("shop.Refused"))
    with pytest.raises(Fault, match="They have KeyError"):
        full_name("Something", errors("KeyError"))


class Growing(DeadLetters):
    """One more dead letter each time that somebody looks."""

    def __init__(self) -> None:
        super().__init__(MemoryStorage(), Telemetry("a"))
        self._count = 0

    async def errors(
        self, group: str | None = None, topic: str | None = None, *, queue: str | None = None
    ) -> Sequence[DeadErrors]:
        self._count += 1
        return [DeadErrors("outbox:a", "t", "ValueError", self._count, 1, 1, "")]


async def test_a_yes_is_for_those_that_were_shown() -> None:
    """While somebody thinks about a question, more may die; those were not agreed to."""
    letters, choice = Growing(), Choice(error="ValueError")
    shown = await choose(letters, choice)
    with pytest.raises(Fault, match="2 of them now, more than you were shown"):
        await check_no_more(letters, choice, shown)
    await check_no_more(letters, choice, replace(shown, count=3))


async def test_the_group_is_told_though_it_has_a_slash() -> None:
    """Topics have none, so what stands before the last one is the group."""
    storage = MemoryStorage()
    await storage.start("a", partitions=8)
    (told,) = await unworked(storage, [group_queue("shop/packing", "orders")])
    assert told.startswith("Nobody works group shop/packing on topic orders now")


def test_json_from_a_file_gets_the_form_of_what_was_there() -> None:
    """Without lines between; what is no JSON stays as it is, byte for byte."""
    assert editing.body_of(b'{"a":1}', b'{\n  "a": 2\n}\n') == b'{"a":2}'
    assert editing.body_of(b"text", b'{ "a": 2 }\n') == b'{ "a": 2 }\n'
    assert editing.body_of(b'{"a":1}', b"{broken\n") == b"{broken\n"


def test_a_body_is_read_from_a_file_or_the_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot be read is told with the reason."""
    file = tmp_path / "body"
    file.write_bytes(b"\x00\xff")
    assert editing.from_file(str(file)) == b"\x00\xff"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"given")))
    assert editing.from_file("-") == b"given"
    with pytest.raises(Fault, match="No such file"):
        editing.from_file(str(tmp_path / "nothing"))


async def test_without_a_terminal_there_is_no_editor() -> None:
    """The fault says how to pass a body instead."""
    app = make_app()
    async with app:
        await charge(app, -1)
        (letter,) = await app.dead_letters.list()
        with pytest.raises(Fault, match="--data FILE"):
            editing.new_body(app.dead_letters, letter, None)


def test_the_lines_that_change_are_shown() -> None:
    """Of JSON field by field."""
    text = editing.difference(b'{"a":1,"b":2}', b'{"a":1,"b":3}').plain
    assert '-  "b": 2' in text
    assert '+  "b": 3' in text
    assert '+  "a": 1' not in text


def test_the_difference_of_hidden_values_is_their_number() -> None:
    """The lines have marks on both sides; a body that is no text has a difference too."""
    hidden = Hidden([("a",)])
    text = editing.difference(b'{"a":"old","b":2}', b'{"a":"new","b":2}', hidden).plain
    assert text == "1 hidden value changes.\n"
    assert editing.difference(b'{"a":1,"b":2}', b'{"a":1,"b":2}', hidden).plain == ""
    assert "2 bytes that are no text" in editing.difference(b"\xff\xfe", b"{}").plain


def test_marks_become_their_values_again() -> None:
    """Of a file as of an editor; what is no text cannot have any."""
    hidden, before = Hidden([("a",)]), b'{"a":"old","b":2}'
    given = '{"a": "«hidden 1»", "b": 3}'.encode()
    assert editing.body_of(before, given, hidden) == b'{"a":"old","b":3}'
    with pytest.raises(Unusable):
        editing.body_of(before, b"\xff", hidden)


def test_bodies_are_shown_whatever_they_are() -> None:
    """JSON in lines, text as it is, other bytes as their number."""
    assert body_text(b'{"a":1}') == '{\n  "a": 1\n}'
    assert body_text(b"plain") == "plain"
    assert body_text(b"\xff\xfe") == "2 bytes that are no text"


def test_an_id_may_tell_when_it_was_made() -> None:
    """A UUIDv7 does; other ids say nothing."""
    assert made_at("01a20958-1ecc-7000-8147-1ad09c25fda9") == pytest.approx(1795453099.724)
    assert made_at("order-7") is None
    assert made_at("6ba7b810-9dad-41d1-80b4-00c04fd430c8") is None
