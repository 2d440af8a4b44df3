"""Tables and paragraphs that several commands write."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def table(*columns: str) -> Table:
    """An empty table. Columns whose name begins with > are numbers; one that begins with = is never folded."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        is_number = name.startswith(">")
        made.add_column(
            name.lstrip(">="),
            justify="right" if is_number else "left",
            no_wrap=is_number or name.startswith("="),
            overflow="fold",
        )
    return made


def facts(pairs: Iterable[tuple[str, RenderableType | None]]) -> RenderableType:
    """Names and what they are; those that are None are left out."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            made.add_row(name, value)
    return indented(made)


def indented(what: RenderableType) -> Padding:
    """Below a heading."""
    return Padding(what, (0, 0, 0, 2), expand=False)


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
