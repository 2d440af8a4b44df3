"""Tables of commands at every width: nothing is cut, no word of a name is broken, and a string is never taken for marks."""

from __future__ import annotations

import pytest
from rich.console import Console

from headrace.cli.sheets import Sheet
from headrace.cli.tables import as_written, facts, indented


def printed(what: object, width: int) -> list[str]:
    console = Console(width=width, color_system=None, highlight=False)
    with console.capture() as written:
        console.print(what)
    return [line.rstrip() for line in written.get().splitlines()]


def queues() -> Sheet:
    made = Sheet(["queue", ">ready", ">dead", "says"])
    made.add_row("group shop, orders", "12", "-", "no such article in order 4711")
    made.add_row("outbox", "-", "1", "-")
    return made


def test_a_wide_one_is_a_table() -> None:
    """Numbers stand to the right, words to the left."""
    assert printed(queues(), 80) == [
        "queue               ready  dead  says",
        "group shop, orders     12     -  no such article in order 4711",
        "outbox                  -     1  -",
    ]


def test_the_last_column_is_folded_first() -> None:
    """As long as there is room enough for it to be read."""
    assert printed(queues(), 56)[1:3] == [
        "group shop, orders     12     -  no such article in",
        "                                 order 4711",
    ]


def test_the_widest_of_the_others_gives_room_between_words() -> None:
    """So most tables fit into 80 columns."""
    assert printed(queues(), 46)[1:3] == [
        "group shop,     12     -  no such article in",
        "orders                    order 4711",
    ]


def test_what_finds_no_room_beside_stands_below() -> None:
    """With the name of its column; nothing is said of what is empty."""
    assert printed(queues(), 33) == [
        "queue               ready  dead",
        "group shop, orders     12     -",
        "    says no such article in order",
        "4711",
        "outbox                  -     1",
    ]


def test_a_narrow_one_has_a_paragraph_for_each_row() -> None:
    """Without the empty cells."""
    assert printed(queues(), 20) == [
        "queue  group shop,",
        "orders",
        "ready  12",
        "says   no such",
        "article in order",
        "4711",
        "",
        "queue  outbox",
        "dead   1",
    ]


@pytest.mark.parametrize("width", range(12, 90, 3))
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(width: int) -> None:
    """At any width."""
    lines = printed(indented(queues()), width)
    assert max(map(len, lines)) <= width
    shown = "".join("".join(lines).split())
    for word in ("orders", "12", "article", "4711", "outbox", "1"):
        assert word in shown


def test_strings_are_no_marks() -> None:
    """A key may look like a mark of rich."""
    made = Sheet(["key", "says"])
    made.add_row("[bold]vip[/]", "[/nothing]")
    assert printed(made, 40)[1] == "[bold]vip[/]  [/nothing]"
    assert printed(facts([("key", "[red]"), ("none", None)]), 40) == ["  key  [red]"]


def test_what_is_shown_as_written_keeps_its_lines() -> None:
    """A traceback or a body can be copied whole."""
    assert as_written("a\n  b").plain == "  a\n    b"
    assert as_written("a").no_wrap
