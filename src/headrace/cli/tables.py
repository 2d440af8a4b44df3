"""Tables and paragraphs that several commands write."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from textwrap import indent

import msgspec
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headrace.cli.sheets import Sheet


def table(*columns: str) -> Sheet:
    """An empty table. Columns whose name begins with > are numbers."""
    return Sheet(columns)


def facts(pairs: Iterable[tuple[str, str | Text | None]]) -> RenderableType:
    """Names and what they are; those that are None are left out. Marks of rich in a string are none."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            made.add_row(name, Text(value) if isinstance(value, str) else value)
    return indented(made)


def indented(what: RenderableType) -> Padding:
    """Below a heading."""
    return Padding(what, (0, 0, 0, 2), expand=False)


def as_written(text: str) -> Text:
    """Below a heading, with the line breaks that it has: what a terminal breaks by itself can be copied whole."""
    return Text(indent(text, "  "), no_wrap=True)


def heading(text: str, more: str = "") -> Text:
    """Above a part of an answer."""
    return Text.assemble((text, "bold"), (f"  {more}" if more else "", "dim"))


def at_time(seconds: float | None) -> str | None:
    """A time of a storage's clock for people, in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def body_text(data: bytes) -> str:
    """A body for people: JSON in lines, other text as it is, other bytes as their number."""
    try:
        return msgspec.json.format(data, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"{len(data)} bytes that are no text"


def body_value(data: bytes) -> object:
    """A body for programs: what JSON it is, else its text, else `{"base64": ...}`."""
    try:
        return msgspec.Raw(msgspec.json.format(data, indent=0)) if _is_json(data) else data.decode()
    except UnicodeDecodeError:
        return {"base64": msgspec.to_builtins(data)}


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except msgspec.MsgspecError:
        return False
    return True
