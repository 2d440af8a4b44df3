"""The steps of a tutorial page: files to write, commands to run, terminals to close.

A page tells a reader what to do, and the marks tell a test how:

- a block with `title="path"` is a file of the project, written or replaced;
- a ```bash block is typed into a terminal: the one called "first", or that of the comment `<!-- terminal NAME -->` before it;
- `<!-- terminal NAME until: TEXT -->`: what is typed goes on running; wait until it has printed the text;
- `<!-- output -->` before a text block: what the last commands must have printed, where `...` stands for anything;
- `<!-- stop NAME -->`: press Ctrl-C in that terminal;
- `<!-- by hand: reason -->` before a ```bash block: a test does not do this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.docs.pages import blocks_of

STOP = re.compile(r"^<!-- stop (?P<name>[a-z]+) -->$")


@dataclass(frozen=True, slots=True)
class File:
    """Write a file of the project."""

    line: int
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Type:
    """Type commands into a terminal. With `until` they go on running, else they must succeed."""

    line: int
    terminal: str
    text: str
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Expect:
    """What the last commands must have printed."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Interrupt what runs in a terminal."""

    line: int
    terminal: str


Step = File | Type | Expect | Stop


def steps_of(markdown: str) -> list[Step]:
    """All steps of a page, in its order."""
    return sorted([*_blocks(markdown), *_stops(markdown)], key=lambda step: step.line)


def _blocks(markdown: str) -> Iterator[Step]:
    for block in blocks_of(markdown):
        title = re.search(r'title="([^"]+)"', block.info)
        words = block.comment.split()
        if title:
            yield File(block.line, title[1], block.text)
        elif block.is_output:
            yield Expect(block.line, block.text)
        elif block.language == "bash" and words[:2] != ["by", "hand"]:
            terminal = words[1] if words[:1] == ["terminal"] else "first"
            until = block.reason if words[-1:] == ["until"] else None
            yield Type(block.line, terminal, block.text, until)


def _stops(markdown: str) -> Iterator[Stop]:
    for number, line in enumerate(markdown.splitlines(), 1):
        if found := STOP.match(line):
            yield Stop(number, found["name"])


def matches(expected: str, printed: str) -> bool:
    """Whether it is what was expected, `...` standing for anything, lines at the ends and blanks aside."""
    pieces = (re.escape(piece) for piece in _lines(expected).split("..."))
    return re.fullmatch(".*?".join(pieces), _lines(printed), re.DOTALL) is not None


def _lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
